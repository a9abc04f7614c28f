#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "compiler/driver.h"
#include "compiler/execute.h"
#include "compiler/frontend/model_spec.h"
#include "runtime/base/escape.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/safetensors.h"
#include "tools/llcc/commands.h"

namespace ll {
namespace {

struct ExecuteArguments {
  std::string graph, weights, ids, output;
};

// input_ids [T] i32 or i64.
Result<std::vector<int32_t>> read_ids(const std::string& path) {
  TRY_ASSIGN(const MappedFile file, MappedFile::open(path));
  auto contents = safetensors::parse(file.bytes());
  if (!contents) return std::move(contents).error().in(path);
  const safetensors::Tensor* t = contents->find("input_ids");
  if (t == nullptr) return bad_data("{}: there is no tensor 'input_ids'", path);
  const bool wide = t->dtype == safetensors::DType::kI64;
  if (t->shape.size() != 1 || (!wide && t->dtype != safetensors::DType::kI32)) {
    return bad_data("{}: 'input_ids' is {} of {} dimensions, expected I32 or I64 of one", path,
                    safetensors::dtype_name(t->dtype), t->shape.size());
  }
  const std::byte* data = file.bytes().data() + t->offset;
  std::vector<int32_t> ids;
  ids.reserve(t->shape[0]);
  for (uint64_t i = 0; i < t->shape[0]; ++i) {
    int64_t id = 0;
    if (wide) {
      std::memcpy(&id, data + 8 * i, 8);
    } else {
      int32_t narrow_id = 0;
      std::memcpy(&narrow_id, data + 4 * i, 4);
      id = narrow_id;
    }
    if (id < 0 || id > INT32_MAX) return bad_data("{}: input_ids[{}] is {}, expected a token id", path, i, id);
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

Status run(const ExecuteArguments& o) {
  TRY_ASSIGN(const ModelSpec spec, load_model(o.weights));
  TRY_ASSIGN(const ir::Graph graph, read_graph(o.graph));
  TRY_ASSIGN(const std::vector<int32_t> ids, read_ids(o.ids));
  const WeightSource source = [&](std::string_view name, const TensorType&) -> Result<WeightBytes> {
    const WeightTensor* w = spec.find(name);
    if (w == nullptr) return bad_data("the model has no tensor {}", quote(name));
    return WeightBytes{w->type.dtype, w->bytes};
  };
  TRY_ASSIGN(const std::vector<float> logits, execute(graph, source, ids));
  const uint64_t tokens = ids.size();
  TRY_ASSIGN(safetensors::Writer writer,
             safetensors::Writer::create(
                 o.output, {safetensors::Tensor{.name = "logits",
                                                .dtype = safetensors::DType::kF32,
                                                .shape = {tokens, tokens == 0 ? 0 : logits.size() / tokens},
                                                .offset = 0,
                                                .size = 0}}));
  TRY(writer.append(std::as_bytes(std::span(logits))));
  return writer.commit();
}

}  // namespace

Command add_execute(CLI::App& app) {
  auto o = std::make_shared<ExecuteArguments>();
  app.add_option("GRAPH", o->graph, "graph (.llir)")->required();
  app.add_option("--weights", o->weights, "model that the graph takes its weights from")->required();
  app.add_option("--ids", o->ids, "safetensors file with input_ids [T]")->required();
  app.add_option("-o,--output", o->output, "safetensors file to write: logits f32 [T, vocabulary]")->required();
  return [o] { return run(*o); };
}

}  // namespace ll
