#include "compiler/codegen/codegen.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "ir/ops.h"
#include "ir/type.h"
#include "kernels/kv_layout.h"
#include "kernels/quant/formats.h"
#include "kernels/shortlist.h"
#include "runtime/base/checked.h"
#include "runtime/base/escape.h"
#include "runtime/plan/container.h"

namespace ll {
namespace {

constexpr int64_t kMostTokens = 512;  // of one step; longer prompts take several
constexpr int64_t kMostRows = 64;     // logits of a step: 64 rows of 128k words are 32 MiB

// The caches of `g`, in the order of their layers, without their places in the pool.
void add_caches(const ir::Graph& g, Plan& plan) {
  std::map<int64_t, TensorType> types;
  for (const ir::OpId id : g.order()) {
    if (!g.op(id).is("kv_cache")) continue;
    types.emplace(g.op(id).attrs.i64("index"), g.op(id).results[0].type);
  }
  for (const auto& [index, type] : types) plan.kv_caches.push_back({type, 0, 0});
}

// Lowers one graph to one program.
class Lowering {
 public:
  Lowering(const ir::Graph& graph, const StepSizes& sizes, const ModelSpec& spec, PlanDraft& draft)
      : g_(graph), spec_(spec), draft_(draft) {
    program_.name = draft.intern(fmt::format("step-{}", sizes.tokens));
    program_.max_tokens = static_cast<uint32_t>(sizes.tokens);
    program_.max_sequences = static_cast<uint32_t>(sizes.sequences);
    program_.max_rows = static_cast<uint32_t>(sizes.rows);
    for (size_t i = 0; i < draft.plan.tensors.size(); ++i) {
      const PlanTensor& t = draft.plan.tensors[i];
      tensors_.emplace(key(t.name, t.type), static_cast<uint32_t>(i));
    }
  }

  Status run(Backend backend) {
    int64_t cache = 0;
    std::map<int64_t, uint32_t> caches;  // place in the plan by `index`
    for (const ir::OpId id : g_.order()) {
      if (g_.op(id).is("kv_cache")) caches.emplace(g_.op(id).attrs.i64("index"), 0);
    }
    for (auto& [index, place] : caches) place = static_cast<uint32_t>(cache++);
    for (const ir::OpId id : g_.order()) {
      const ir::Op& op = g_.op(id);
      if (op.is("kv_cache")) {
        const uint32_t place = caches.at(op.attrs.i64("index"));
        operands_[{id, 0}] = {Space::kKv, place, 0, 0, draft_.plan.kv_caches[place].type};
      } else if (Status s = lower(id, op); !s) {
        return std::move(s).error().in(fmt::format("%{}", op.results[0].name));
      }
    }
    if (backend == Backend::kGpu && draft_.plan.model.vocab_size <= kMostShortlistVocab) add_shortlists();
    program_.arena_bytes = (program_.arena_bytes + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
    draft_.plan.programs.push_back(std::move(program_));
    return {};
  }

 private:
  static std::string key(std::string_view name, const TensorType& type) {
    return fmt::format("{} {}", name, ir::type_text(type));
  }

  Status lower(ir::OpId id, const ir::Op& op) {
    if (op.is("input")) return input(id, op);
    if (op.is("weight")) return weight(id, op);
    if (op.is("constant")) return constant(id, op);
    if (op.is("slice")) return slice(id, op);
    return launch(id, op);
  }

  Status input(ir::OpId id, const ir::Op& op) {
    const auto inputs = step_inputs();
    const auto row =
        std::find_if(inputs.begin(), inputs.end(), [&](const StepInput& i) { return i.name == op.attrs.text("name"); });
    Operand& o = place(id, Space::kInput, static_cast<uint32_t>(row - inputs.begin()), op.results[0].type);
    if (o.type.rank == 2) o.type.dims[1] = Dim(draft_.plan.pages_per_sequence);
    return {};
  }

  Status weight(ir::OpId id, const ir::Op& op) {
    const std::string_view name = op.attrs.text("name");
    const TensorType& type = op.results[0].type;
    const WeightTensor* w = spec_.find(name);
    if (w == nullptr) return bad_data("the model has no tensor {}", quote(name));
    const auto [it, fresh] = tensors_.try_emplace(key(name, type), static_cast<uint32_t>(draft_.plan.tensors.size()));
    if (fresh) {
      const bool same_shape = w->type.rank == type.rank && w->type.dims == type.dims;
      const bool same_dtype =
          w->type.dtype == type.dtype || (type.dtype == DType::kF32 && !is_quantized_dtype(w->type.dtype));
      if (!same_shape || !same_dtype) {
        return bad_data("tensor {} is {} in the model, expected {}", quote(name), ir::type_text(w->type),
                        ir::type_text(type));
      }
      const MappedFile* mapping =
          w->source >= 0 ? spec_.sources[static_cast<size_t>(w->source)].mapping.get() : nullptr;
      add_tensor(name, type, {w->bytes, w->type.dtype, mapping, w->source, w->offset});
    }
    place(id, Space::kWeight, it->second, type);
    return {};
  }

  Status constant(ir::OpId id, const ir::Op& op) {
    const auto& values = std::get<std::vector<float>>(*op.attrs.find("values"));
    const auto bytes = std::as_bytes(std::span(values));
    const std::string_view name = op.results[0].name;
    const TensorType& type = op.results[0].type;
    const auto [it, fresh] = tensors_.try_emplace(key("constant " + std::string(name), type),
                                                  static_cast<uint32_t>(draft_.plan.tensors.size()));
    if (fresh) add_tensor(name, type, {draft_.keep(values), DType::kF32, nullptr, -1, 0});
    if (!std::ranges::equal(bytes, draft_.data[it->second].bytes)) {
      return error(Code::kInternal, "the constant has other values in another program");
    }
    place(id, Space::kConstant, it->second, type);
    return {};
  }

  void add_tensor(std::string_view name, const TensorType& type, const TensorData& data) {
    PlanTensor t;
    t.name = draft_.intern(name);
    t.type = type;
    draft_.plan.tensors.push_back(t);
    draft_.data.push_back(data);
  }

  // A view of columns: the base's rows, further to the right.
  Status slice(ir::OpId id, const ir::Op& op) {
    const Operand& base = operands_.at(op.operands[0]);
    if (base.space != Space::kArena) return unsupported("a slice of a value outside the arena");
    if (g_.result() == ir::Value{id, 0}) return unsupported("the graph returns a slice, expected the result of an op");
    Operand view = base;
    view.type = op.results[0].type;
    view.offset += static_cast<uint64_t>(op.attrs.i64("start")) * sizeof(float);
    operands_[{id, 0}] = view;
    return {};
  }

  Status launch(ir::OpId id, const ir::Op& op) {
    Launch l;
    const std::string_view name = op.attrs.text("kernel");
    l.kernel = find_kernel(name);
    if (l.kernel == nullptr)
      return error(Code::kInternal, "op {} has no kernel of the catalog: {}", op.kind(), quote(name));
    l.op = draft_.intern(op.results[0].name);
    for (const ir::Value v : op.operands) l.inputs.push_back(operands_.at(v));
    for (size_t r = 0; r < op.results.size(); ++r) TRY(output(id, op, r, l));
    for (const auto& [attr, value] : op.attrs.all()) {
      if (is_reserved(attr)) continue;
      TRY_ASSIGN(const AttrValue v, attr_value(attr, value));
      l.attrs.push_back({draft_.intern(attr), v});
    }
    program_.launches.push_back(std::move(l));
    return {};
  }

  Status output(ir::OpId id, const ir::Op& op, size_t r, Launch& l) {
    const ir::Value value{id, static_cast<int32_t>(r)};
    const TensorType& type = op.results[r].type;
    if (ir::is_kv(type)) {
      // The launch updates the cache it was given.
      const auto cache =
          std::find_if(l.inputs.begin(), l.inputs.end(), [](const Operand& o) { return o.space == Space::kKv; });
      if (cache == l.inputs.end())
        return error(Code::kInternal, "a KV cache comes out of op {} but goes into none", op.kind());
      operands_[value] = *cache;
    } else if (value == g_.result()) {
      place(id, Space::kOutput, 0, type);
    } else {
      const ir::Attribute* offset = op.attrs.find("offset");
      if (r != 0 || offset == nullptr || op.attrs.i64("offset", -1) < 0) {
        return error(Code::kInternal, "result {} of op {} has no place in the arena", r, op.kind());
      }
      Operand& o = place(id, Space::kArena, 0, type);
      o.offset = static_cast<uint64_t>(op.attrs.i64("offset"));
      const uint64_t bytes = static_cast<uint64_t>(type.dim(0).value) * static_cast<uint64_t>(o.row_bytes);
      program_.arena_bytes = std::max(program_.arena_bytes, o.offset + bytes);
    }
    l.outputs.push_back(operands_[value]);
    return {};
  }

  // Not an op of the graph: what is kept of the result, not what the model computes.
  void add_shortlists() {
    const Operand& logits = operands_.at(g_.result());
    const auto inputs = step_inputs();
    const auto row =
        std::find_if(inputs.begin(), inputs.end(), [](const StepInput& i) { return i.name == "inverse_temperatures"; });
    TensorType inverse{.dtype = row->dtype, .rank = 1, .dims = {logits.type.dim(0)}}, lists = logits.type;
    lists.dims[1] = Dim(kShortlistWords);
    Launch l;
    l.kernel = find_kernel("shortlist");
    l.op = draft_.intern("shortlist");
    l.inputs = {logits,
                {Space::kInput, static_cast<uint32_t>(row - inputs.begin()), 0, dense_row_bytes(inverse), inverse}};
    l.outputs = {{Space::kOutput, kShortlists, 0, dense_row_bytes(lists), lists}};
    program_.launches.push_back(std::move(l));
    program_.has_shortlists = true;
  }

  static bool is_reserved(std::string_view attr) {
    for (const ir::AttrDef& d : ir::reserved_attrs()) {
      if (d.name == attr) return true;
    }
    return false;
  }

  Result<AttrValue> attr_value(std::string_view attr, const ir::Attribute& value) {
    if (const auto* i = std::get_if<int64_t>(&value)) return AttrValue(*i);
    if (const auto* f = std::get_if<double>(&value)) return AttrValue(*f);
    if (const auto* s = std::get_if<std::string>(&value)) return AttrValue(draft_.intern(*s));
    return unsupported("attribute {}: kernels take numbers and texts, not lists", attr);
  }

  Operand& place(ir::OpId id, Space space, uint32_t index, const TensorType& type) {
    return operands_[{id, 0}] = {space, index, 0, dense_row_bytes(type), type};
  }

  const ir::Graph& g_;
  const ModelSpec& spec_;
  PlanDraft& draft_;
  Program program_;
  std::map<ir::Value, Operand> operands_;
  std::map<std::string, uint32_t> tensors_;  // place in the plan's table by name and type
};

}  // namespace

std::vector<StepSizes> buckets(const Plan& plan) {
  const int64_t batch = plan.max_batch, most = batch * plan.model.context_length;
  std::vector<StepSizes> list;
  for (int64_t tokens = 1; tokens <= kMostTokens; tokens *= 2) {
    list.push_back({.tokens = tokens,
                    .rows = std::min(tokens, kMostRows),
                    .sequences = std::min(tokens, batch),
                    .pages_per_sequence = plan.pages_per_sequence,
                    .pages = plan.pages});
    if (tokens >= most) break;
  }
  return list;
}

uint32_t pages_for(uint32_t context_length) {
  return static_cast<uint32_t>((context_length + kKvPageSize - 1) / kKvPageSize);
}

Status size_kv_pool(Plan& plan) {
  // One more page a sequence, so that a step never waits for a page that another sequence is about to give back.
  const uint64_t pages = (uint64_t{plan.pages_per_sequence} + 1) * plan.max_batch;
  if (pages * plan.page_size > uint64_t{1} << 31) {
    return unsupported(
        "a context of {} for {} sequences needs {} KV pages, more than slots can number; choose a smaller "
        "--ctx-size or --max-batch",
        plan.model.context_length, plan.max_batch, pages);
  }
  plan.pages = static_cast<uint32_t>(pages);
  plan.kv_bytes_per_token = 0;
  uint64_t end = 0;
  for (KvCache& cache : plan.kv_caches) {
    cache.type.dims[0] = Dim(plan.pages);
    cache.type.dims[2] = Dim(plan.page_size);
    const uint64_t token = static_cast<uint64_t>(cache.type.dim(1).value * dense_row_bytes(cache.type));
    const auto bytes = checked_mul<uint64_t>(token, pages * plan.page_size);
    const auto start = checked_align_up(end, kTensorAlignment);
    const auto next = bytes && start ? checked_add(*start, *bytes) : std::nullopt;
    if (!next)
      return unsupported("the KV pool is larger than an address space; choose a smaller --ctx-size or --max-batch");
    cache.offset = *start;
    cache.bytes = *bytes;
    end = *next;
    plan.kv_bytes_per_token += token;
  }
  plan.kv_pool_bytes = end;
  return {};
}

Result<PlanDraft> begin_plan(const ir::Graph& g, const ModelSpec& spec, const PlanShape& shape) {
  PlanDraft draft;
  Plan& plan = draft.plan;
  plan.producer = "llcc " LLCUDA_VERSION;
  const TensorType& result = g.type(g.result());
  if (result.rank != 2 || result.dim(0).symbol != Symbol::kR || result.last().value != int64_t{spec.hyper.vocab_size}) {
    return bad_data("the graph returns {}, expected logits f32[R,{}] for the model's vocabulary", ir::type_text(result),
                    spec.hyper.vocab_size);
  }
  plan.model.architecture = draft.intern(spec.architecture);
  plan.model.name = draft.intern(spec.name);
  plan.model.vocab_size = spec.hyper.vocab_size;
  plan.model.context_length = shape.context_length;
  plan.model.bos_token = spec.bos_token;
  plan.model.eos_tokens = spec.eos_tokens;
  plan.model.add_bos = spec.add_bos;
  for (const SourceFile& f : spec.sources) draft.sources.push_back({f.name, f.bytes, f.mapping.get()});
  plan.max_batch = shape.max_batch;
  plan.page_size = static_cast<uint32_t>(kKvPageSize);
  plan.pages_per_sequence = pages_for(shape.context_length);
  add_caches(g, plan);
  TRY(size_kv_pool(plan));
  return draft;
}

Status add_program(const ir::Graph& graph, const StepSizes& sizes, const ModelSpec& spec, Backend backend,
                   PlanDraft& draft) {
  return Lowering(graph, sizes, spec, draft).run(backend);
}

}  // namespace ll
