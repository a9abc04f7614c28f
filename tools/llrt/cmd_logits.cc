#include <llrt.hpp>

#include "runtime/base/byte_reader.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/safetensors.h"
#include "tools/llrt/commands.h"
#include "tools/llrt/interrupt.h"
#include "tools/llrt/open_model.h"

namespace ll {
namespace {

struct LogitsArguments {
  ModelOptions model;
  std::string ids, out;
};

// Tensor input_ids, [T] or [1, T], i32 or i64.
Result<std::vector<int32_t>> read_ids(const std::string& path) {
  TRY_ASSIGN(const MappedFile file, MappedFile::open(path));
  TRY_ASSIGN(const safetensors::Contents contents, safetensors::parse(file.bytes()));
  const safetensors::Tensor* tensor = contents.find("input_ids");
  if (tensor == nullptr) return bad_data("no tensor 'input_ids' among {} tensors", contents.tensors.size());
  const auto& shape = tensor->shape;
  const bool row = shape.size() == 1 || (shape.size() == 2 && shape[0] == 1);
  if (!row || (tensor->dtype != safetensors::DType::kI32 && tensor->dtype != safetensors::DType::kI64)) {
    return bad_data("'input_ids' is {} with {} dimensions, expected I32 or I64 [T] or [1, T]",
                    safetensors::dtype_name(tensor->dtype), shape.size());
  }
  ByteReader reader(file.bytes().subspan(tensor->offset, tensor->size));
  std::vector<int32_t> ids(shape.back());
  for (size_t i = 0; i < ids.size(); ++i) {
    int64_t id = 0;
    if (tensor->dtype == safetensors::DType::kI32) {
      TRY_ASSIGN(id, reader.read<int32_t>());
    } else {
      TRY_ASSIGN(id, reader.read<int64_t>());
    }
    if (!std::in_range<int32_t>(id)) return bad_data("input_ids[{}] is {}, no token id", i, id);
    ids[i] = static_cast<int32_t>(id);
  }
  if (ids.empty()) return bad_data("'input_ids' is empty, expected at least one token");
  return ids;
}

Status run(const LogitsArguments& options) {
  auto read = read_ids(options.ids);
  if (!read) return std::move(read).error().in(options.ids);
  const std::span<const int32_t> ids = *read;
  const llrt::Model model = open_model(options.model);
  const llrt_model_info info = model.info();
  if (ids.size() > info.context_length) {
    return usage("{} holds {} tokens, the plan was compiled for {} (llcc compile --ctx-size)", options.ids, ids.size(),
                 info.context_length);
  }
  TRY_ASSIGN(auto writer,
             safetensors::Writer::create(options.out,
                                         {{"logits", safetensors::DType::kF32, {ids.size(), info.vocab_size}, 0, 0}}));
  llrt::Session session(model);
  // Written in pieces: memory stays small whatever the text's length and the vocabulary.
  constexpr size_t kPiece = 64;
  std::vector<float> logits;
  for (size_t done = 0; done < ids.size();) {
    if (interrupted()) return {};  // without commit() the output does not appear
    const auto piece = ids.subspan(done, std::min(kPiece, ids.size() - done));
    logits.resize(piece.size() * info.vocab_size);
    session.prefill_logits(piece, logits);
    TRY(writer.append(std::as_bytes(std::span(logits))));
    done += piece.size();
  }
  return writer.commit();
}

}  // namespace

Command add_logits(CLI::App& app) {
  auto options = std::make_shared<LogitsArguments>();
  add_model_options(app, options->model);
  app.add_option("--ids", options->ids, "safetensors file with input_ids [T] or [1, T], i32 or i64")
      ->required()
      ->type_name("IN.safetensors");
  app.add_option("-o,--output", options->out, "safetensors file to write: logits [T, vocabulary] f32")
      ->required()
      ->type_name("OUT.safetensors");
  return [options] { return run(*options); };
}

}  // namespace ll
