// A plan small enough to flip every byte of, with every space, an in-place launch, a slice and two programs. For tests.
#pragma once

#include <cmath>

#include "compiler/plan/draft.h"
#include "kernels/kv_layout.h"
#include "kernels/quant/formats.h"
#include "kernels/shortlist.h"
#include "runtime/plan/container.h"
#include "runtime/plan/crafted_cubin.h"
#include "runtime/plan/repack.h"

namespace ll::crafted {

inline constexpr int64_t kTinyVocab = 33, kTinyWidth = 32;

struct TinyPlan {
  std::vector<std::byte> file;  // stands for the model file: tensors one after another
  PlanDraft draft;              // its data are views into `file`
};

class TinyBuilder {
 public:
  explicit TinyBuilder(Backend backend) : tiles_(backend == Backend::kGpu ? Layout::kTile8 : Layout::kX16) {
    d_.plan.backend = backend;
  }

  TinyPlan build() {
    describe();
    tensors();
    program(1);
    program(4);
    if (d_.plan.backend == Backend::kGpu) gpu_targets();
    d_.tokenizer = "not a tokenizer";
    d_.chat_template = "{{ messages }}";
    d_.graph = "graph {}";
    for (TensorData& t : d_.data) {
      if (t.source < 0) continue;
      t.bytes = std::span(bytes_).subspan(t.offset, t.bytes.size());
    }
    d_.sources.push_back({"tiny.gguf", bytes_, nullptr});
    return {std::move(bytes_), std::move(d_)};
  }

 private:
  static TensorType numbers(DType dtype, std::initializer_list<int64_t> dims, Layout layout = Layout::kRows) {
    TensorType t{.dtype = dtype, .layout = layout};
    for (const int64_t d : dims) t.dims[static_cast<size_t>(t.rank++)] = Dim(d);
    return t;
  }
  TensorType rows(Symbol symbol, int64_t columns, DType dtype = DType::kF32) const {
    TensorType t{.dtype = dtype, .rank = 2};
    t.dims[0] = Dim(symbol, symbol == Symbol::kR ? p_.max_rows : p_.max_tokens);
    t.dims[1] = Dim(columns);
    return t;
  }

  void tensor(std::string_view name, const TensorType& type, DType source_dtype) {
    const int64_t n = weight_rows(type), k = type.last().value;
    const size_t offset = bytes_.size();
    std::vector<float> row(static_cast<size_t>(k));
    for (int64_t r = 0; r < n; ++r) {
      for (size_t i = 0; i < row.size(); ++i)
        row[i] = std::sin(static_cast<float>(offset + 7 * i) + static_cast<float>(r));
      bytes_.resize(bytes_.size() + static_cast<size_t>(row_bytes(source_dtype, k)));
      find_format(source_dtype)->quantize(row.data(), k, bytes_.data() + bytes_.size() - row_bytes(source_dtype, k));
    }
    PlanTensor t;
    t.name = d_.intern(name);
    t.type = type;
    d_.plan.tensors.push_back(t);
    d_.data.push_back(
        {std::span(bytes_).subspan(offset), source_dtype, nullptr, 0, offset});  // moved to its final place later
  }
  void constant(std::string_view name, const std::vector<float>& values) {
    PlanTensor t;
    t.name = d_.intern(name);
    t.type = numbers(DType::kF32, {static_cast<int64_t>(values.size())});
    d_.plan.tensors.push_back(t);
    d_.data.push_back({d_.keep(values), DType::kF32, nullptr, -1, 0});
  }

  Operand weight(uint32_t i) const {
    const TensorType& t = d_.plan.tensors[i].type;
    return {d_.data[i].source < 0 ? Space::kConstant : Space::kWeight, i, 0, dense_row_bytes(t), t};
  }
  Operand arena(uint64_t offset, const TensorType& t) {
    p_.arena_bytes =
        std::max(p_.arena_bytes, offset + static_cast<uint64_t>(t.dim(0).value * dense_row_bytes(t) + 63) / 64 * 64);
    return {Space::kArena, 0, offset, dense_row_bytes(t), t};
  }
  Operand input(uint32_t i) const {
    const StepInput& s = step_inputs()[i];
    TensorType t{.dtype = s.dtype, .rank = s.rank};
    const int64_t most = s.symbol == Symbol::kT   ? p_.max_tokens
                         : s.symbol == Symbol::kR ? p_.max_rows
                                                  : p_.max_sequences;
    t.dims[0] = Dim(s.symbol, most);
    if (s.rank == 2) t.dims[1] = Dim(d_.plan.pages_per_sequence);
    return {Space::kInput, i, 0, 4 * (s.rank == 2 ? t.dim(1).value : 1), t};
  }
  Operand kv() const {
    const TensorType& t = d_.plan.kv_caches[0].type;
    return {Space::kKv, 0, 0, dense_row_bytes(t), t};
  }
  void launch(std::string_view kernel, std::string_view op, std::vector<Operand> in, std::vector<Operand> out,
              std::vector<Attr> attrs = {}) {
    p_.launches.push_back({find_kernel(kernel), d_.intern(op), std::move(in), std::move(out), std::move(attrs), {}});
  }

  void program(uint32_t tokens) {
    p_ = {};
    p_.name = d_.intern(fmt::format("step-{}", tokens));
    p_.max_tokens = tokens;
    p_.max_sequences = std::min(tokens, d_.plan.max_batch);
    p_.max_rows = tokens;
    const uint64_t step = 256 * tokens;  // holds any row of the program
    const auto x = arena(0, rows(Symbol::kT, kTinyWidth)), h = arena(step, rows(Symbol::kT, kTinyWidth));
    const auto qkv = arena(2 * step, rows(Symbol::kT, 96)), q = arena(4 * step, rows(Symbol::kT, kTinyWidth));
    const auto y = arena(5 * step, rows(Symbol::kT, kTinyWidth)), last = arena(step, rows(Symbol::kR, kTinyWidth));
    const auto codes = arena(2 * step, rows(Symbol::kR, kTinyWidth, DType::kQ8A));
    Operand logits{Space::kOutput, 0, 0, 4 * kTinyVocab, rows(Symbol::kR, kTinyVocab)};
    Operand gate = qkv;  // the second 32 of its 96 columns
    gate.offset += 128;
    gate.type.dims[1] = Dim(kTinyWidth);

    launch("embed", "x", {weight(0), input(0)}, {x});
    launch("rms_norm", "h", {x, weight(1)}, {h}, {{"eps", 1e-5}});
    launch("merged_linear", "qkv", {h, weight(2), weight(3), weight(4)}, {qkv}, {{"parts", int64_t{3}}});
    launch("rope_kv_write", "q", {kv(), qkv, input(1), input(3), weight(5)}, {q, kv()},
           {{"heads", int64_t{1}},
            {"kv_heads", int64_t{1}},
            {"head_dim", int64_t{32}},
            {"style", "half"},
            {"mscale", 1.0}});
    launch("attention", "y", {q, kv(), input(1), input(2), input(4)}, {y},
           {{"heads", int64_t{1}},
            {"kv_heads", int64_t{1}},
            {"head_dim", int64_t{32}},
            {"scale", 0.125},
            {"window", int64_t{0}}});
    launch("linear_add", "x.1", {y, weight(6), x}, {x});
    launch("activation", "g", {gate}, {h}, {{"act", "silu"}});
    launch("add", "x.2", {x, h}, {x});
    launch("gather_rows", "last", {x, input(5)}, {last});
    launch("quantize", "codes", {last}, {codes});
    launch("linear_q8", "logits", {codes, weight(7)}, {logits});
    if (d_.plan.backend == Backend::kGpu) {
      const Operand lists{Space::kOutput, kShortlists, 0, 4 * kShortlistWords, rows(Symbol::kR, kShortlistWords)};
      launch("shortlist", "shortlist", {logits, input(6)}, {lists});
    }
    d_.plan.programs.push_back(std::move(p_));
  }

  void describe() {
    Plan& plan = d_.plan;
    plan.producer = "llcc test";
    plan.target = "cpu";
    plan.model.architecture = "llama";
    plan.model.name = "tiny";
    plan.model.vocab_size = kTinyVocab;
    plan.model.context_length = 40;
    plan.model.bos_token = 1;
    plan.model.eos_tokens = {2, 3};
    plan.model.add_bos = true;
    plan.max_batch = 2;
    plan.pages = 5;
    plan.page_size = kKvPageSize;
    plan.pages_per_sequence = 2;
    KvCache cache{numbers(DType::kF16, {5, 2, kKvPageSize, 32}), 0, 5 * 2 * 32 * 64};
    plan.kv_caches.push_back(cache);
    plan.kv_pool_bytes = cache.bytes;
    plan.kv_bytes_per_token = 128;
  }

  void tensors() {
    tensor("token_embd.weight", numbers(DType::kQ8_0, {kTinyVocab, kTinyWidth}), DType::kQ8_0);
    tensor("norm.weight", numbers(DType::kF32, {kTinyWidth}), DType::kBF16);
    tensor("q.weight", numbers(DType::kQ4_0, {32, kTinyWidth}, tiles_), DType::kQ4_0);
    tensor("k.weight", numbers(DType::kQ4_0, {32, kTinyWidth}, tiles_), DType::kQ4_0);
    tensor("v.weight", numbers(DType::kQ8_0, {32, kTinyWidth}, tiles_), DType::kQ8_0);
    constant("inv_freq", std::vector<float>(16, 0.5F));
    tensor("o.weight", numbers(DType::kF16, {kTinyWidth, kTinyWidth}), DType::kF16);
    tensor("output.weight", numbers(DType::kQ8_0, {kTinyVocab, kTinyWidth}, tiles_), DType::kQ8_0);
  }

  uint64_t code(std::string_view piece) {
    const uint64_t offset = (d_.gpu_code.size() + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
    d_.gpu_code.resize(offset, '\0');
    d_.gpu_code += piece;
    return offset;
  }

  // An emulated target and one for sm_75, which also has PTX: two kernels each, a launch of two nodes among others.
  void gpu_targets() {
    for (const uint32_t sm : {0u, 75u}) {
      GpuTarget t;
      t.name = sm == 0 ? "emulated" : "sm_75";
      t.sm = t.isa = sm;
      t.driver = sm == 0 ? 0 : 12000;
      for (const char* name : {"tiny_a", "tiny_b"}) {
        GpuKernel k;
        k.function = name;
        k.threads = 128;
        std::string text = fmt::format("instance {}", name);
        if (sm != 0) {
          k.registers = 40;
          k.shared_bytes = 1024;
          k.local_bytes = 8;
          const auto cubin = CubinBuilder::build(sm, {{name, k.registers, k.shared_bytes, k.local_bytes}});
          text.assign(reinterpret_cast<const char*>(cubin.data()), cubin.size());
        }
        k.code_offset = code(text);
        k.code_bytes = text.size();
        if (sm != 0) {
          k.ptx_offset = code(std::string("// ptx\0", 7));
          k.ptx_bytes = 7;
        }
        t.kernels.push_back(k);
      }
      for (const Program& p : d_.plan.programs) {
        auto& launches = t.programs.emplace_back();
        for (size_t i = 0; i < p.launches.size(); ++i) {
          launches.push_back({GpuNode{static_cast<uint32_t>(i % 2), {8, 1, 1}, 512, 256, 64}});
        }
        launches[2].push_back(GpuNode{1, {1, 2, 3}, 0, 4096, 0});
      }
      d_.plan.gpu_targets.push_back(t);
    }
    d_.plan.target = "emulated,sm_75";
  }

  const Layout tiles_;  // of quantized weights that are multiplied by
  PlanDraft d_;
  Program p_;
  std::vector<std::byte> bytes_;
};

inline TinyPlan tiny_plan(Backend backend = Backend::kCpu) { return TinyBuilder(backend).build(); }

}  // namespace ll::crafted
