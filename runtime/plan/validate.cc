// Two passes. The FlatBuffers verifier proves that following offsets stays inside the buffer; `Validator` proves that
// what is found there makes sense. The file is long because every rule about metadata is here, in the order of the
// schema.
#include "runtime/plan/validate.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "kernels/check.h"
#include "kernels/cuda/prim/args.h"
#include "kernels/kv_layout.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/layouts.h"
#include "kernels/shortlist.h"
#include "runtime/base/checked.h"
#include "runtime/base/escape.h"
#include "runtime/plan/container.h"
#include "runtime/plan/cubin.h"
#include "schemas/plan_generated.h"

namespace ll {
namespace {

constexpr size_t kMaxName = 1024;
constexpr int64_t kMaxDim = int64_t{1} << 31;
constexpr uint32_t kMaxEosTokens = 64;

std::string_view text(const flatbuffers::String* s) { return s == nullptr ? std::string_view() : s->string_view(); }
template <class V>
uint32_t count(const V* vector) {
  return vector == nullptr ? 0 : vector->size();
}

Status limit(uint64_t found, uint64_t low, uint64_t high, std::string_view what) {
  if (found >= low && found <= high) return {};
  return bad_data("{} {}, expected {} to {}", found, what, low, high);
}

Status check_name(std::string_view name, std::string_view what) {
  if (name.size() > kMaxName)
    return bad_data("{} has {} bytes, more than the limit of {}", what, name.size(), kMaxName);
  return {};
}

// Size of a tensor at its largest: rows one after another.
struct Extent {
  uint64_t rows = 0, row_bytes = 0, bytes = 0;
};

// A tensor that lies in the arena, as an earlier launch wrote it.
struct Live {
  uint64_t end = 0;
  int64_t row_bytes = 0;
  TensorType type;
};

class Validator {
 public:
  Validator(const fb::Plan& in, uint64_t weights_bytes, bool has_sources, std::span<const std::byte> gpu_code,
            Plan& plan)
      : in_(in), weights_bytes_(weights_bytes), has_sources_(has_sources), gpu_code_(gpu_code), plan_(plan) {}

  Status run() {
    plan_.producer = text(in_.producer());
    plan_.target = text(in_.target());
    plan_.reference_kernels = in_.reference_kernels();
    TRY(check_name(plan_.producer, "producer"));
    TRY(targets());
    TRY(model());
    TRY(sizes());
    TRY(each(in_.kv_caches(), kMaxKvCaches, "kv cache", [&](const fb::KvCache& c) { return kv_cache(c); }));
    if (kv_end_ != plan_.kv_pool_bytes) {
      return bad_data("kv_pool_bytes is {}, expected {} (end of the last KV cache)", plan_.kv_pool_bytes, kv_end_);
    }
    TRY(each(in_.sources(), kMaxPlanSources, "source", [&](const fb::SourceFile& s) { return source(s); }));
    if (has_sources_ != !plan_.sources.empty()) {
      return bad_data("{} source files, but the header's feature bit for them is {}", plan_.sources.size(),
                      has_sources_ ? "set" : "not set");
    }
    TRY(each(in_.tensors(), kMaxPlanTensors, "tensor", [&](const fb::Tensor& t) { return tensor(t); }));
    if (weights_end_ != weights_bytes_) {
      return bad_data("the weights section has {} bytes, expected {} (end of the last tensor)", weights_bytes_,
                      weights_end_);
    }
    return programs();
  }

 private:
  // Calls `f` on each element and says in errors which one it was.
  template <class T, class F>
  static Status each(const flatbuffers::Vector<flatbuffers::Offset<T>>* items, uint32_t most, const char* what, F f) {
    if (count(items) > most) return bad_data("{} {}s, more than the limit of {}", count(items), what, most);
    for (uint32_t i = 0; i < count(items); ++i) {
      if (Status s = f(*items->Get(i)); !s) return std::move(s).error().in(fmt::format("{} {}", what, i));
    }
    return {};
  }

  // The target is the list of what the plan has programs for.
  Status targets() {
    std::string expected;
    TRY(limit(count(in_.gpu_targets()), 0, kMaxGpuTargets, "GPU targets"));
    for (uint32_t i = 0; i < count(in_.gpu_targets()); ++i) {
      expected += (expected.empty() ? "" : ",") + std::string(text(in_.gpu_targets()->Get(i)->name()));
    }
    if (count(in_.programs()) > 0) expected += expected.empty() ? "cpu" : ",cpu";
    if (expected.empty()) return bad_data("0 programs, expected 1 to {}", kMaxPrograms);
    if (plan_.target == expected) return {};
    return unsupported("the plan is for target {}, but its programs are for {}", quote(plan_.target), quote(expected));
  }

  Status programs() {
    const auto all = [&](const flatbuffers::Vector<flatbuffers::Offset<fb::Program>>* list, Backend backend) -> Status {
      backend_ = backend;
      return each(list, kMaxPrograms, backend == Backend::kCpu ? "program" : "GPU program",
                  [&](const fb::Program& p) { return program(p); });
    };
    if ((count(in_.gpu_targets()) == 0) != (count(in_.gpu_programs()) == 0)) {
      return bad_data("{} GPU programs for {} GPU targets", count(in_.gpu_programs()), count(in_.gpu_targets()));
    }
    TRY(limit(count(in_.programs()) + count(in_.gpu_programs()), 1, 2 * kMaxPrograms, "programs"));
    TRY(all(in_.gpu_programs(), Backend::kGpu));
    plan_.other_programs = std::exchange(plan_.programs, {});
    TRY(each(in_.gpu_targets(), kMaxGpuTargets, "GPU target", [&](const fb::GpuTarget& t) { return gpu_target(t); }));
    if (gpu_code_end_ != gpu_code_.size()) {
      return bad_data("the section of GPU code has {} bytes, expected {} (end of the last kernel)", gpu_code_.size(),
                      gpu_code_end_);
    }
    TRY(all(in_.programs(), Backend::kCpu));
    plan_.backend = Backend::kCpu;
    if (plan_.programs.empty()) {
      std::swap(plan_.programs, plan_.other_programs);
      plan_.backend = Backend::kGpu;
    }
    for (const Program& p : plan_.programs) {
      plan_.arena_bytes = std::max(plan_.arena_bytes, p.arena_bytes);
      plan_.scratch_bytes = std::max(plan_.scratch_bytes, p.scratch_bytes);
      plan_.max_rows = std::max(plan_.max_rows, p.max_rows);
    }
    return {};
  }

  // Bytes of the section of GPU code: pieces lie one after another, each aligned.
  Result<std::span<const std::byte>> code(uint64_t offset, uint64_t bytes) {
    if (bytes == 0) {
      if (offset != 0) return bad_data("no code at {}", offset);
      return std::span<const std::byte>();
    }
    const auto start = checked_align_up(gpu_code_end_, kTensorAlignment);
    if (!start || offset != *start) return bad_data("code starts at {}, expected {}", offset, start.value_or(0));
    if (!fits(offset, bytes, gpu_code_.size())) {
      return bad_data("{} bytes of code at {} reach beyond the section of {}", bytes, offset, gpu_code_.size());
    }
    gpu_code_end_ = offset + bytes;
    return gpu_code_.subspan(offset, bytes);
  }

  Status gpu_target(const fb::GpuTarget& t) {
    GpuTarget out;
    out.name = text(t.name());
    out.sm = t.sm();
    out.isa = t.isa();
    out.driver = t.driver();
    TRY(limit(out.isa, 0, out.sm, "as isa"));
    TRY(limit(out.driver, 0, 999'999, "as driver version"));
    if (out.name != (out.sm == 0 ? std::string("emulated") : fmt::format("sm_{}", out.sm))) {
      return bad_data("{} for architecture {}", quote(out.name), out.sm);
    }
    if (!plan_.gpu_targets.empty() && plan_.gpu_targets.back().sm >= out.sm) {
      return bad_data("{} follows {}, expected ascending architectures", out.sm, plan_.gpu_targets.back().sm);
    }
    TRY(each(t.kernels(), kMaxGpuKernels, "kernel", [&](const fb::GpuKernel& k) { return gpu_kernel(k, out); }));
    if (count(t.programs()) != plan_.other_programs.size()) {
      return bad_data("{} programs, expected {}", count(t.programs()), plan_.other_programs.size());
    }
    TRY(each(t.programs(), kMaxPrograms, "program", [&](const fb::GpuProgram& p) { return gpu_program(p, out); }));
    plan_.gpu_targets.push_back(std::move(out));
    return {};
  }

  Status gpu_program(const fb::GpuProgram& p, GpuTarget& target) {
    const Program& program = plan_.other_programs[target.programs.size()];
    if (count(p.launches()) != program.launches.size()) {
      return bad_data("{} launches, expected {}", count(p.launches()), program.launches.size());
    }
    target.programs.emplace_back();
    return each(p.launches(), kMaxLaunches, "launch", [&](const fb::GpuLaunch& l) { return gpu_launch(l, target); });
  }

  static Status gpu_launch(const fb::GpuLaunch& l, GpuTarget& target) {
    target.programs.back().emplace_back();
    TRY(limit(count(l.nodes()), 1, kMaxGpuNodes, "nodes"));
    return each(l.nodes(), kMaxGpuNodes, "node", [&](const fb::GpuNode& n) { return gpu_node(n, target); });
  }

  Status gpu_kernel(const fb::GpuKernel& k, GpuTarget& target) {
    GpuKernel out;
    out.function = text(k.function());
    out.threads = k.threads();
    out.registers = k.registers();
    out.shared_bytes = k.shared_bytes();
    out.local_bytes = k.local_bytes();
    out.code_offset = k.offset();
    out.code_bytes = k.size();
    out.ptx_offset = k.ptx_offset();
    out.ptx_bytes = k.ptx_size();
    const auto word = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; };
    if (out.function.empty() || out.function.size() > 255 ||
        !std::all_of(out.function.begin(), out.function.end(), word)) {
      return bad_data("{} is no name of a kernel", quote(out.function));
    }
    TRY(limit(out.threads, 32, 1024, "threads a block"));
    if (out.threads % 32 != 0) return bad_data("{} threads a block, expected a multiple of 32", out.threads);
    TRY(limit(out.shared_bytes, 0, kMaxGpuShared, "bytes of shared memory"));
    TRY(limit(k.size(), 1, gpu_code_.size(), "bytes of code"));
    TRY_ASSIGN(out.code, code(k.offset(), k.size()));
    TRY_ASSIGN(const auto ptx, code(k.ptx_offset(), k.ptx_size()));
    out.ptx = {reinterpret_cast<const char*>(ptx.data()), ptx.size()};
    // The driver reads PTX up to a zero byte.
    if (!ptx.empty() && (out.ptx.back() != '\0' || out.ptx.find('\0') + 1 != out.ptx.size())) {
      return bad_data("PTX of {} does not end with its only zero byte", quote(out.function));
    }
    if (target.sm != 0) {
      TRY_ASSIGN(const Cubin cubin, read_cubin(out.code));
      if (cubin.sm != target.sm) return bad_data("a cubin for sm_{}, expected sm_{}", cubin.sm, target.sm);
      const CubinKernel* found = cubin.find(out.function);
      if (found == nullptr) return bad_data("the cubin has no function {}", quote(out.function));
      if (found->registers != out.registers || found->shared_bytes != out.shared_bytes ||
          found->local_bytes != out.local_bytes) {
        return bad_data("{} uses {} registers, {} bytes of shared and {} of local memory, expected {}, {} and {}",
                        quote(out.function), found->registers, found->shared_bytes, found->local_bytes, out.registers,
                        out.shared_bytes, out.local_bytes);
      }
    }
    target.kernels.push_back(out);
    return {};
  }

  static Status gpu_node(const fb::GpuNode& n, GpuTarget& target) {
    const GpuNode out{
        n.kernel(), {n.grid_x(), n.grid_y(), n.grid_z()}, n.dynamic_shared(), n.workspace(), n.workspace_zeroed()};
    if (out.kernel >= target.kernels.size()) {
      return bad_data("kernel {}, but the target has {}", out.kernel, target.kernels.size());
    }
    TRY(limit(out.grid[0], 1, (1u << 31) - 1, "blocks in x"));
    TRY(limit(out.grid[1], 1, 65535, "blocks in y"));
    TRY(limit(out.grid[2], 1, 65535, "blocks in z"));
    TRY(limit(out.dynamic_shared, 0, kMaxGpuShared - target.kernels[out.kernel].shared_bytes,
              "bytes of dynamic shared memory"));
    TRY(limit(out.workspace, 0, kMaxArenaBytes, "bytes of workspace"));
    TRY(limit(out.workspace_zeroed, 0, out.workspace, "bytes of zeroed workspace"));
    target.workspace_bytes = std::max(target.workspace_bytes, out.workspace);
    target.workspace_zeroed_bytes = std::max(target.workspace_zeroed_bytes, out.workspace_zeroed);
    target.programs.back().back().push_back(out);
    return {};
  }

  Status model() {
    const fb::ModelInfo& m = *in_.model();
    ModelInfo& out = plan_.model;
    out.architecture = text(m.architecture());
    out.name = text(m.name());
    out.vocab_size = m.vocab_size();
    out.context_length = m.context_length();
    out.bos_token = m.bos_token();
    out.add_bos = m.add_bos();
    TRY(check_name(out.architecture, "model.architecture"));
    TRY(check_name(out.name, "model.name"));
    TRY(limit(out.vocab_size, 1, kMaxVocabulary, "as model.vocab_size"));
    TRY(limit(out.context_length, 1, kMaxContext, "as model.context_length"));
    if (out.bos_token < -1 || out.bos_token >= static_cast<int64_t>(out.vocab_size)) {
      return bad_data("model.bos_token {} is not in the vocabulary of {}", out.bos_token, out.vocab_size);
    }
    TRY(limit(count(m.eos_tokens()), 0, kMaxEosTokens, "model.eos_tokens"));
    for (uint32_t i = 0; i < count(m.eos_tokens()); ++i) {
      const int32_t id = m.eos_tokens()->Get(i);
      if (id < 0 || id >= static_cast<int64_t>(out.vocab_size)) {
        return bad_data("model.eos_tokens[{}] {} is not in the vocabulary of {}", i, id, out.vocab_size);
      }
      out.eos_tokens.push_back(id);
    }
    return {};
  }

  Status sizes() {
    plan_.max_batch = in_.max_batch();
    plan_.pages = in_.pages();
    plan_.page_size = in_.page_size();
    plan_.pages_per_sequence = in_.pages_per_sequence();
    plan_.kv_pool_bytes = in_.kv_pool_bytes();
    if (plan_.page_size != kKvPageSize) {
      return unsupported("KV pages of {} tokens, this build has kernels for {}", plan_.page_size, kKvPageSize);
    }
    TRY(limit(plan_.max_batch, 1, kMaxPlanTokens, "as max_batch"));
    const uint32_t needed = (plan_.model.context_length + plan_.page_size - 1) / plan_.page_size;
    if (plan_.pages_per_sequence != needed) {
      return bad_data("pages_per_sequence is {}, expected {} for a context of {}", plan_.pages_per_sequence, needed,
                      plan_.model.context_length);
    }
    // Slots are i32.
    TRY(limit(plan_.pages, needed, (uint64_t{1} << 31) / plan_.page_size, "as pages"));
    return limit(plan_.kv_pool_bytes, 0, kMaxKvPoolBytes, "as kv_pool_bytes");
  }

  // Known dtype and layout, 1 to 4 dimensions of 1 to 2^31, symbols in dimension 0 alone.
  static Result<TensorType> type(const fb::Type& t) {
    TensorType out;
    out.dtype = static_cast<DType>(t.dtype());
    out.layout = static_cast<Layout>(t.layout());
    if (find_format(out.dtype) == nullptr) return unsupported("dtype {} is not known to this build", t.dtype());
    if (!find_layout(layout_name(out.layout))) {
      return unsupported("layout {} is not known to this build: compile the model again with its llcc", t.layout());
    }
    if (!has_layout(out.dtype, out.layout)) {
      return bad_data("{} has no layout {}", dtype_name(out.dtype), layout_name(out.layout));
    }
    TRY(limit(count(t.dims()), 1, kMaxRank, "dimensions"));
    out.rank = static_cast<int>(t.dims()->size());
    for (int i = 0; i < out.rank; ++i) {
      // Copied: the verifier proves that a vector of structs is there, not that it is aligned.
      fb::Dim d;
      std::memcpy(&d, t.dims()->Data() + static_cast<size_t>(i) * sizeof d, sizeof d);
      if (d.value() < 1 || d.value() > kMaxDim)
        return bad_data("dimension {} is {}, expected 1 to {}", i, d.value(), kMaxDim);
      if (d.symbol() > static_cast<uint8_t>(Symbol::kS))
        return bad_data("dimension {}: unknown symbol {}", i, d.symbol());
      if (d.symbol() != 0 && i != 0) return bad_data("dimension {} is a symbol, expected a number", i);
      out.dims[static_cast<size_t>(i)] =
          d.symbol() == 0 ? Dim(d.value()) : Dim(static_cast<Symbol>(d.symbol()), d.value());
    }
    return out;
  }

  // KV caches excepted: their rows are kv_row_bytes long.
  static Result<Extent> extent(const TensorType& t) {
    if (t.rank == 4) return bad_data("{} outside the KV pool, expected at most 3 dimensions", check::describe(t));
    const auto row = checked_row_bytes(t.dtype, t.last().value);
    if (!row) {
      return bad_data("{}: the last dimension is no multiple of the block of {}", check::describe(t),
                      dtype_name(t.dtype));
    }
    if (t.layout != Layout::kRows && t.rank != 2) return bad_data("{}: layout needs 2 dimensions", check::describe(t));
    std::array<uint64_t, kMaxRank> sizes{};
    for (int i = 0; i + 1 < t.rank; ++i) sizes[static_cast<size_t>(i)] = static_cast<uint64_t>(t.dim(i).value);
    const auto rows = checked_product(std::span(sizes).first(static_cast<size_t>(t.rank - 1)));
    const auto bytes = rows && std::in_range<int64_t>(*rows)
                           ? tensor_bytes(t.dtype, t.layout, static_cast<int64_t>(*rows), t.last().value)
                           : std::nullopt;
    if (!bytes) return bad_data("{} is larger than an address space", check::describe(t));
    return Extent{*rows, static_cast<uint64_t>(*row), static_cast<uint64_t>(*bytes)};
  }

  Status kv_cache(const fb::KvCache& c) {
    KvCache out;
    TRY_ASSIGN(out.type, type(*c.type()));
    out.offset = c.offset();
    const TensorType& t = out.type;
    if (t.rank != 4 || t.layout != Layout::kRows || t.dim(0) != Dim(plan_.pages) || t.dim(2) != Dim(plan_.page_size)) {
      return bad_data("is {}, expected [{} pages, 2 * kv_heads, {}, head_dim]", check::describe(t), plan_.pages,
                      plan_.page_size);
    }
    const int64_t planes = t.dim(1).value, row = kv_row_bytes(t.dtype, t.last().value);
    if (row == 0) return bad_data("of {}, expected f32, f16 or i8", dtype_name(t.dtype));
    if (planes % 2 != 0) return bad_data("has {} planes, expected keys and values of each head", planes);
    const uint64_t factors[] = {plan_.pages, static_cast<uint64_t>(planes), plan_.page_size,
                                static_cast<uint64_t>(row)};
    const auto bytes = checked_product(factors);
    const auto start = checked_align_up(kv_end_, kTensorAlignment);
    if (!bytes || *bytes != c.size()) return bad_data("size is {}, expected {}", c.size(), bytes.value_or(0));
    if (!start || c.offset() != *start) return bad_data("starts at {}, expected {}", c.offset(), start.value_or(0));
    if (!fits(c.offset(), c.size(), plan_.kv_pool_bytes)) {
      return bad_data("{} bytes at {} reach beyond the KV pool of {}", c.size(), c.offset(), plan_.kv_pool_bytes);
    }
    out.bytes = c.size();
    kv_end_ = c.offset() + c.size();
    plan_.kv_bytes_per_token += static_cast<uint64_t>(planes * row);
    plan_.kv_caches.push_back(out);
    return {};
  }

  Status source(const fb::SourceFile& s) {
    const std::string_view name = text(s.name());
    if (name.empty() || name == "." || name == ".." || name.size() > 255 || name.find('/') != name.npos ||
        name.find('\0') != name.npos) {
      return bad_data("{} is no bare file name", quote(name));
    }
    plan_.sources.push_back({name, s.size(), s.hash_low(), s.hash_high()});
    return {};
  }

  Status tensor(const fb::Tensor& t) {
    PlanTensor out;
    out.name = text(t.name());
    TRY(check_name(out.name, "name"));
    if (Status s = tensor_body(t, out); !s) return std::move(s).error().in(quote(out.name));
    plan_.tensors.push_back(out);
    return {};
  }

  Status tensor_body(const fb::Tensor& t, PlanTensor& out) {
    TRY_ASSIGN(out.type, type(*t.type()));
    if (out.type.rank > 2) return bad_data("is {}, expected 1 or 2 dimensions", check::describe(out.type));
    if (out.type.dim(0).symbol != Symbol::kNone) return bad_data("is {}, expected numbers", check::describe(out.type));
    if (!is_weight_dtype(out.type.dtype)) return bad_data("{} is no type of a weight", dtype_name(out.type.dtype));
    if (out.type.rank == 1 && is_quantized_dtype(out.type.dtype)) {
      return bad_data("is {}, expected 2 dimensions", check::describe(out.type));
    }
    TRY_ASSIGN(const Extent e, extent(out.type));
    out.bytes = e.bytes;
    if (t.source() < 0) {
      if (t.source() != -1) return bad_data("source is {}, expected -1 or an index", t.source());
      const auto start = checked_align_up(weights_end_, kTensorAlignment);
      if (t.size() != e.bytes)
        return bad_data("has {} bytes, expected {} for {}", t.size(), e.bytes, check::describe(out.type));
      if (!start || t.offset() != *start) return bad_data("starts at {}, expected {}", t.offset(), start.value_or(0));
      if (!fits(t.offset(), t.size(), weights_bytes_)) {
        return bad_data("{} bytes at {} reach beyond the weights section of {}", t.size(), t.offset(), weights_bytes_);
      }
      weights_end_ = t.offset() + t.size();
      out.source_offset = t.offset();
      out.source_bytes = t.size();
      return {};
    }
    if (static_cast<uint32_t>(t.source()) >= plan_.sources.size()) {
      return bad_data("source {}, but the plan names {}", t.source(), plan_.sources.size());
    }
    out.source = t.source();
    out.source_offset = t.offset();
    out.source_bytes = t.size();
    out.source_dtype = static_cast<DType>(t.source_dtype());
    if (!is_weight_dtype(out.source_dtype)) return bad_data("source dtype {} is no type of a weight", t.source_dtype());
    if (out.source_dtype != out.type.dtype && (out.type.dtype != DType::kF32 || is_quantized_dtype(out.source_dtype))) {
      return bad_data("cannot make {} from {}", check::describe(out.type), dtype_name(out.source_dtype));
    }
    const auto row = checked_row_bytes(out.source_dtype, out.type.last().value);
    const auto bytes = row ? checked_mul<uint64_t>(static_cast<uint64_t>(*row), e.rows) : std::nullopt;
    if (!bytes || t.size() != *bytes)
      return bad_data("has {} bytes in its source, expected {}", t.size(), bytes.value_or(0));
    const PlanSource& file = plan_.sources[static_cast<size_t>(t.source())];
    if (!fits(t.offset(), t.size(), file.size)) {
      return bad_data("{} bytes at {} reach beyond {} of {}", t.size(), t.offset(), quote(file.name), file.size);
    }
    return {};
  }

  Status program(const fb::Program& p) {
    Program out;
    out.name = text(p.name());
    TRY(check_name(out.name, "name"));
    out.max_tokens = p.max_tokens();
    out.max_sequences = p.max_sequences();
    out.max_rows = p.max_rows();
    out.arena_bytes = p.arena_bytes();
    const Program* before = plan_.programs.empty() ? nullptr : &plan_.programs.back();
    TRY(limit(out.max_tokens, before == nullptr ? 1 : uint64_t{before->max_tokens} + 1, kMaxPlanTokens,
              "as max_tokens"));
    TRY(limit(out.max_sequences, before == nullptr ? 1 : before->max_sequences,
              std::min(out.max_tokens, plan_.max_batch), "as max_sequences"));
    TRY(limit(out.max_rows, before == nullptr ? 1 : before->max_rows, out.max_tokens, "as max_rows"));
    TRY(limit(out.arena_bytes, 0, kMaxArenaBytes, "as arena_bytes"));
    if (count(p.launches()) > kMaxLaunches) {
      return bad_data("{} launches, more than the limit of {}", count(p.launches()), kMaxLaunches);
    }
    live_.clear();
    written_caches_.assign(plan_.kv_caches.size(), false);
    logits_written_ = shortlists_written_ = false;
    out.launches.reserve(p.launches()->size());
    for (uint32_t i = 0; i < p.launches()->size(); ++i) {
      const fb::Launch& l = *p.launches()->Get(i);
      if (Status s = launch(l, out); !s) {
        return std::move(s).error().in(
            fmt::format("launch {} ({} {})", i, quote(text(l.kernel())), quote(text(l.op()))));
      }
    }
    if (!logits_written_) return bad_data("no launch writes the logits");
    out.has_shortlists = shortlists_written_;
    plan_.programs.push_back(std::move(out));
    return {};
  }

  Status launch(const fb::Launch& l, Program& p) {
    Launch out;
    out.op = text(l.op());
    TRY(check_name(out.op, "op"));
    out.kernel = find_kernel(text(l.kernel()));
    if (out.kernel == nullptr) return unsupported("kernel {} is not in this build", quote(text(l.kernel())));
    const bool gpu = backend_ == Backend::kGpu;
    TRY(limit(l.inputs()->size(), 0, gpu ? uint32_t{cuda::kMaxInputs} : kMaxLaunchInputs, "inputs"));
    TRY(limit(l.outputs()->size(), 1, gpu ? uint32_t{cuda::kMaxOutputs} : kMaxLaunchOutputs, "outputs"));
    TRY(limit(count(l.attrs()), 0, kMaxLaunchAttrs, "attributes"));
    out.inputs.reserve(l.inputs()->size());
    out.outputs.reserve(l.outputs()->size());
    out.attrs.reserve(count(l.attrs()));
    TRY(each(l.attrs(), kMaxLaunchAttrs, "attribute", [&](const fb::Attr& a) { return attr(a, out); }));
    TRY(each(l.inputs(), kMaxLaunchInputs, "input",
             [&](const fb::Operand& o) { return operand(o, p, /*is_output=*/false, out.inputs); }));
    TRY(each(l.outputs(), kMaxLaunchOutputs, "output",
             [&](const fb::Operand& o) { return operand(o, p, /*is_output=*/true, out.outputs); }));
    TRY(indices(out));
    TRY(ask_kernel(out, p));
    TRY(effects(out));
    p.launches.push_back(std::move(out));
    return {};
  }

  static Status attr(const fb::Attr& a, Launch& out) {
    const std::string_view key = text(a.key());
    TRY(check_name(key, "key"));
    TRY(check_name(text(a.s()), "value"));
    for (const Attr& other : out.attrs) {
      if (other.key == key) return bad_data("{} appears twice", quote(key));
    }
    switch (a.kind()) {
      case 0:
        out.attrs.push_back({key, a.i()});
        return {};
      case 1:
        out.attrs.push_back({key, a.f()});
        return {};
      case 2:
        out.attrs.push_back({key, text(a.s())});
        return {};
      default:
        return bad_data("{} is of kind {}, expected 0, 1 or 2", quote(key), a.kind());
    }
  }

  // A symbol's largest value is the program's.
  static Status check_symbol(const Dim& d, const Program& p) {
    const int64_t expected = d.symbol == Symbol::kT   ? p.max_tokens
                             : d.symbol == Symbol::kR ? p.max_rows
                             : d.symbol == Symbol::kS ? p.max_sequences
                                                      : d.value;
    if (d.value == expected) return {};
    return bad_data("{}, expected {} as in the program", check::describe(d), expected);
  }

  Status operand(const fb::Operand& o, const Program& p, bool is_output, std::vector<Operand>& list) {
    Operand out;
    out.space = static_cast<Space>(o.space());
    out.index = o.index();
    out.offset = o.offset();
    TRY_ASSIGN(out.type, type(*o.type()));
    TRY(check_symbol(out.type.dim(0), p));
    if (out.space != Space::kArena && (o.offset() != 0 || o.row_bytes() != 0)) {
      return bad_data("offset {} and row_bytes {} outside the arena, expected 0", o.offset(), o.row_bytes());
    }
    if (out.space == Space::kKv) {
      TRY(kv_operand(out));
    } else {
      TRY_ASSIGN(const Extent e, extent(out.type));
      out.row_bytes = dense_row_bytes(out.type);
      switch (out.space) {
        case Space::kWeight:
        case Space::kConstant:
          TRY(tensor_operand(out, is_output));
          break;
        case Space::kArena:
          TRY(arena_operand(out, e, o.row_bytes(), p, is_output));
          break;
        case Space::kInput:
          TRY(input_operand(out, is_output));
          break;
        case Space::kOutput:
          TRY(output_operand(out, is_output));
          break;
        default:
          return bad_data("unknown space {}", static_cast<unsigned>(o.space()));
      }
    }
    list.push_back(out);
    return {};
  }

  Status kv_operand(Operand& out) const {
    if (out.index >= plan_.kv_caches.size()) {
      return bad_data("KV cache {}, but the plan has {}", out.index, plan_.kv_caches.size());
    }
    const TensorType& expected = plan_.kv_caches[out.index].type;
    if (out.type != expected) {
      return bad_data("KV cache {} as {}, expected {}", out.index, check::describe(out.type),
                      check::describe(expected));
    }
    out.row_bytes = dense_row_bytes(out.type);
    return {};
  }

  Status tensor_operand(const Operand& out, bool is_output) const {
    if (is_output) return bad_data("writes a {}", space_name(out.space));
    if (out.index >= plan_.tensors.size())
      return bad_data("tensor {}, but the plan has {}", out.index, plan_.tensors.size());
    const PlanTensor& t = plan_.tensors[out.index];
    if (out.type != t.type) {
      return bad_data("{} as {}, expected {}", quote(t.name), check::describe(out.type), check::describe(t.type));
    }
    if (backend_ == Backend::kGpu && t.type.layout == Layout::kX16) {
      return bad_data("{} is in layout x16, which GPUs do not read", quote(t.name));
    }
    return {};
  }

  Status arena_operand(Operand& out, const Extent& e, uint64_t row_bytes, const Program& p, bool is_output) const {
    const FormatKind kind = find_format(out.type.dtype)->kind;
    if (kind != FormatKind::kFloat && kind != FormatKind::kActivation) {
      return bad_data("{} in the arena, expected an activation", check::describe(out.type));
    }
    uint64_t bytes = e.bytes;
    if (row_bytes != 0) {
      if (is_output || out.type.dtype != DType::kF32 || out.type.rank != 2) {
        return bad_data("row_bytes {} on {}, expected 0 unless an f32 slice is read", row_bytes,
                        check::describe(out.type));
      }
      if (row_bytes < e.row_bytes || row_bytes % 4 != 0 || row_bytes > kMaxArenaBytes) {
        return bad_data("row_bytes {}, expected a multiple of 4 from {}", row_bytes, e.row_bytes);
      }
      const auto last = checked_mul<uint64_t>(e.rows - 1, row_bytes);
      const auto end = last ? checked_add<uint64_t>(*last, e.row_bytes) : std::nullopt;
      if (!end) return bad_data("row_bytes {}: larger than an address space", row_bytes);
      bytes = *end;
      out.row_bytes = static_cast<int64_t>(row_bytes);
    }
    // GPU kernels read 16 bytes at a time.
    const uint64_t slice = backend_ == Backend::kGpu ? 16 : 4;
    if (row_bytes % slice != 0) return bad_data("row_bytes {}, expected a multiple of {}", row_bytes, slice);
    const uint64_t alignment = row_bytes != 0 ? slice : kTensorAlignment;
    if (out.offset % alignment != 0)
      return bad_data("arena offset {}, expected a multiple of {}", out.offset, alignment);
    if (!fits(out.offset, bytes, p.arena_bytes)) {
      return bad_data("{} bytes at {} reach beyond the arena of {}", bytes, out.offset, p.arena_bytes);
    }
    return {};
  }

  Status input_operand(const Operand& out, bool is_output) const {
    if (is_output) return bad_data("writes a step input");
    const auto inputs = step_inputs();
    if (out.index >= inputs.size()) return bad_data("step input {}, but there are {}", out.index, inputs.size());
    const StepInput& s = inputs[out.index];
    const bool shape = out.type.rank == s.rank && out.type.dim(0).symbol == s.symbol &&
                       (s.rank == 1 || out.type.dim(1) == Dim(plan_.pages_per_sequence));
    if (out.type.dtype != s.dtype || !shape) {
      return bad_data("step input {} as {}, expected {}[{}]", s.name, check::describe(out.type), dtype_name(s.dtype),
                      s.symbol == Symbol::kT   ? "T"
                      : s.symbol == Symbol::kR ? "R"
                                               : fmt::format("S,{}", plan_.pages_per_sequence));
    }
    return {};
  }

  Status output_operand(const Operand& out, bool is_output) const {
    const TensorType& t = out.type;
    if (out.index == kShortlists && is_output && backend_ == Backend::kGpu) {
      if (t.dtype == DType::kF32 && t.rank == 2 && t.dim(0).symbol == Symbol::kR && t.dim(1) == Dim(kShortlistWords)) {
        return {};
      }
      return bad_data("output {} is {}, expected shortlists as f32[R,{}]", out.index, check::describe(t),
                      kShortlistWords);
    }
    if (!is_output && !logits_written_) return bad_data("reads the logits before they are written");
    if (out.index != kLogits || t.dtype != DType::kF32 || t.rank != 2 || t.dim(0).symbol != Symbol::kR ||
        t.dim(1) != Dim(plan_.model.vocab_size)) {
      return bad_data("output {} is {}, expected output 0 as f32[R,{}]", out.index, check::describe(t),
                      plan_.model.vocab_size);
    }
    return {};
  }

  // Kernels trust indices, so each must be the step input that the kernel names, applied to memory of the size that the
  // engine bounds that input by.
  Status indices(const Launch& l) const {
    for (size_t i = 0; i < l.inputs.size(); ++i) {
      const bool named = std::any_of(l.kernel->indices.begin(), l.kernel->indices.end(),
                                     [&](const IndexOperand& x) { return static_cast<size_t>(x.in) == i; });
      if ((l.inputs[i].space == Space::kInput) != named) {
        return bad_data("input {}: {} in {}, expected {}", i, check::describe(l.inputs[i].type),
                        space_name(l.inputs[i].space), named ? "a step input" : "no step input");
      }
    }
    for (const IndexOperand& x : l.kernel->indices) {
      if (static_cast<size_t>(x.in) >= l.inputs.size())
        return bad_data("{} inputs, expected more than {}", l.inputs.size(), x.in);
      const std::string_view found = step_inputs()[l.inputs[static_cast<size_t>(x.in)].index].name;
      if (found != x.step_input) return bad_data("input {}: step input {}, expected {}", x.in, found, x.step_input);
      const Operand& first = l.inputs[0];
      if (x.step_input == "tokens" && (first.space != Space::kWeight || first.type.rank != 2 ||
                                       first.type.dim(0).value < int64_t{plan_.model.vocab_size})) {
        return bad_data("input 0: {} in {}, expected a weight with a row for each of {} tokens",
                        check::describe(first.type), space_name(first.space), plan_.model.vocab_size);
      }
      if (x.step_input == "rows" && first.type.dim(0).symbol != Symbol::kT) {
        return bad_data("input 0: {}, expected T rows", check::describe(first.type));
      }
    }
    return {};
  }

  Status ask_kernel(Launch& l, Program& p) {
    std::vector<TensorType> in, out;
    for (const Operand& o : l.inputs) in.push_back(o.type);
    for (const Operand& o : l.outputs) out.push_back(o.type);
    const LaunchSpec spec{in, out, Attrs(l.attrs)};
    TRY(l.kernel->check(spec));
    if (l.kernel->cost != nullptr) l.cost = l.kernel->cost(spec);
    const uint64_t scratch = l.kernel->scratch != nullptr ? l.kernel->scratch(spec) : 0;
    TRY(limit(scratch, 0, kMaxScratchBytes, "bytes of scratch"));
    p.scratch_bytes = std::max(p.scratch_bytes, scratch);
    return {};
  }

  static uint64_t arena_end(const Operand& o) {
    const Extent e = *extent(o.type);
    return o.type.rank == 2 && o.type.layout == Layout::kRows
               ? o.offset + (e.rows - 1) * static_cast<uint64_t>(o.row_bytes) + e.row_bytes
               : o.offset + e.bytes;
  }

  // The input is a live tensor of the arena, or a slice of one's columns: then whatever the sizes of a step, every byte
  // it reads was written in that step.
  Status reads_live(const Operand& o) const {
    auto it = live_.upper_bound(o.offset);
    const auto missing = [&] {
      return bad_data("{} at arena offset {} was not written before", check::describe(o.type), o.offset);
    };
    if (it == live_.begin()) return missing();
    --it;
    const Live& value = it->second;
    if (arena_end(o) > value.end) return missing();
    const TensorType& t = value.type;
    bool same = t.dtype == o.type.dtype && t.rank == o.type.rank;
    for (int i = 0; same && i + 1 < t.rank; ++i)
      same = t.dim(i) == o.type.dim(i) && t.dim(i).value == o.type.dim(i).value;
    const uint64_t column = o.offset - it->first;
    const uint64_t row = extent(o.type)->row_bytes;
    if (t.rank == 2 && t.dtype == DType::kF32) {
      same = same && value.row_bytes == o.row_bytes && fits(column, row, static_cast<uint64_t>(value.row_bytes));
    } else {
      same = same && column == 0 && t.last() == o.type.last();
    }
    if (same) return {};
    return bad_data("{} at arena offset {} with rows {} bytes apart, but {} was written at {}", check::describe(o.type),
                    o.offset, o.row_bytes, check::describe(t), it->first);
  }

  // Reads before writes: inputs are live, outputs may hide an input only where the kernel works in place.
  Status effects(const Launch& l) {
    for (size_t i = 0; i < l.inputs.size(); ++i) {
      if (l.inputs[i].space != Space::kArena) continue;
      if (Status s = reads_live(l.inputs[i]); !s) return std::move(s).error().in(fmt::format("input {}", i));
    }
    for (size_t o = 0; o < l.outputs.size(); ++o) {
      if (Status s = output_effect(l, o); !s) return std::move(s).error().in(fmt::format("output {}", o));
    }
    for (const Operand& o : l.outputs) {
      if (o.space != Space::kArena) continue;
      const uint64_t end = arena_end(o);
      auto it = live_.lower_bound(o.offset);
      if (it != live_.begin() && std::prev(it)->second.end > o.offset) --it;
      while (it != live_.end() && it->first < end) it = live_.erase(it);
      live_.emplace(o.offset, Live{end, o.row_bytes, o.type});
    }
    return {};
  }

  Status output_effect(const Launch& l, size_t index) {
    const Operand& out = l.outputs[index];
    if (out.space == Space::kOutput && out.index == kShortlists) {
      // Tokens are taken from it, so it must be of the row that has a logit for each of them.
      if (l.kernel->name != "shortlist" || l.inputs[0].space != Space::kOutput) {
        return bad_data("shortlists by kernel {} of {}, expected kernel shortlist of the logits", l.kernel->name,
                        l.inputs.empty() ? "nothing" : space_name(l.inputs[0].space));
      }
      if (std::exchange(shortlists_written_, true)) return bad_data("the shortlists are written twice");
      return {};
    }
    if (out.space == Space::kOutput) {
      if (std::exchange(logits_written_, true)) return bad_data("the logits are written twice");
      return {};
    }
    if (out.space == Space::kKv) {
      const bool given = std::any_of(l.inputs.begin(), l.inputs.end(),
                                     [&](const Operand& i) { return i.space == Space::kKv && i.index == out.index; });
      if (!given) return bad_data("KV cache {} is no input of the launch", out.index);
      if (written_caches_[out.index]) return bad_data("KV cache {} is written twice", out.index);
      written_caches_[out.index] = true;
      return {};
    }
    const uint64_t end = arena_end(out);
    const auto overlaps = [&](const Operand& other) {
      return other.space == Space::kArena && other.offset < end && out.offset < arena_end(other);
    };
    for (size_t i = 0; i < l.inputs.size(); ++i) {
      if (!overlaps(l.inputs[i])) continue;
      const bool allowed = index == 0 && l.kernel->in_place == static_cast<int>(i) &&
                           l.inputs[i].offset == out.offset && l.inputs[i].row_bytes == out.row_bytes &&
                           l.inputs[i].type == out.type;
      if (!allowed) return bad_data("overlaps input {} in the arena", i);
    }
    for (size_t o = 0; o < index; ++o) {
      if (overlaps(l.outputs[o])) return bad_data("overlaps output {} in the arena", o);
    }
    return {};
  }

  const fb::Plan& in_;
  const uint64_t weights_bytes_;
  const bool has_sources_;
  const std::span<const std::byte> gpu_code_;
  Plan& plan_;
  uint64_t kv_end_ = 0, weights_end_ = 0, gpu_code_end_ = 0;
  Backend backend_ = Backend::kCpu;  // of the programs under way
  // State of the program under way.
  std::map<uint64_t, Live> live_;  // by arena offset; disjoint
  std::vector<bool> written_caches_;
  bool logits_written_ = false, shortlists_written_ = false;
};

}  // namespace

const char* space_name(Space space) {
  static constexpr const char* kNames[] = {"weight", "constant", "arena", "input", "kv", "output"};
  const auto i = static_cast<size_t>(space);
  return i < std::size(kNames) ? kNames[i] : "unknown";
}

const char* output_name(uint32_t index) { return index == kLogits ? "logits" : "shortlist"; }

Status validate_plan(std::span<const std::byte> metadata, uint64_t weights_bytes, bool has_sources, Plan& plan,
                     std::span<const std::byte> gpu_code) {
  flatbuffers::Verifier::Options options;
  options.max_depth = 16;
  // Tables may be shared, so a small buffer could be walked for very long.
  options.max_tables = static_cast<uint32_t>(std::min<uint64_t>(metadata.size(), kMaxPlanTables));
  options.check_nested_flatbuffers = false;
  const auto* bytes = reinterpret_cast<const uint8_t*>(metadata.data());
  flatbuffers::Verifier verifier(bytes, metadata.size(), options);
  if (!fb::VerifyPlanBuffer(verifier)) return bad_data("metadata: not a well-formed FlatBuffer of a plan");
  if (Status s = Validator(*fb::GetPlan(bytes), weights_bytes, has_sources, gpu_code, plan).run(); !s) {
    return std::move(s).error().in("metadata");
  }
  return {};
}

}  // namespace ll
