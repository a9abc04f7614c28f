// Cases of the numerics suite (kernels/numerics_test.cc), which walks the catalog: every kernel needs one row in one of
// the lists below. Included by tests alone.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernel.h"

namespace ll::numerics {

using Random = std::mt19937_64;

// One operand: a type whose dims hold the actual sizes (symbols stay, for `check`), its rows, and the distance between
// them.
struct Tensor {
  TensorType type;
  int64_t row_bytes = 0;         // distance; dense unless set wider
  std::vector<std::byte> bytes;  // dense contents; empty for an output that is to be written whole
};

// One launch with what may differ from the reference.
struct Case {
  std::string name;  // its sizes, for messages
  std::vector<Tensor> in, out;
  std::vector<Attr> attrs;
  // Outputs that are the memory of an input, by output; -1: memory of their own. Such an output compares whole.
  std::vector<int> shares;
  // Largest |got - reference| of each element of each output, read as f32. An empty list asks for the same bits.
  // Derived from the operands: see the generator.
  std::vector<std::vector<double>> tolerance;
  // The same for GPUs where they need more: tensor cores take f16 operands, and functions are approximated their own
  // way. Empty: `tolerance`.
  std::vector<std::vector<double>> tolerance_cuda = {};
  // The same for level kAmx where its products take operands as bf16, or as two. Empty: `tolerance`.
  std::vector<std::vector<double>> tolerance_amx = {};
  // The same for calls that are not deterministic, at level kAmx and, of products, kAvx512. Empty: the bits of those
  // that are.
  std::vector<std::vector<double>> tolerance_any = {};
};

// A dimension that `check` leaves free (pages of a cache, vocabulary of a table): input `operand`, dimension `dim`.
struct FreeDim {
  int operand;
  int dim;
};

// The cases of one kernel. The first is the small one that the refusal tests mutate.
struct CaseList {
  std::string_view kernel;
  std::vector<Case> (*make)(Random&);
  std::vector<FreeDim> free;
};

std::vector<CaseList> ref_cases();     // kernels/ref/ref_cases_test.cc
std::vector<CaseList> linear_cases();  // kernels/ref/linear_cases_test.cc

// Words for generators.
TensorType type(DType dtype, std::initializer_list<Dim> dims, Layout layout = Layout::kRows);
int64_t rows_of(const TensorType& type);          // product of all dimensions but the last
int64_t dense_row_bytes(const TensorType& type);  // of one row; KV rows by kernels/kv_layout.h
// f32 of normal values times `scale`; i32 of the values given.
Tensor floats(Random& random, std::initializer_list<Dim> dims, float scale = 1);
Tensor ints(std::initializer_list<Dim> dims, std::span<const int32_t> values);
Tensor output(const TensorType& type);
// Elements as f32: f32, f16 and bf16 rows, weights (kRows), q8a, KV caches.
std::vector<float> read(const TensorType& type, std::span<const std::byte> dense);

// A case as `check` sees it, free to be made wrong.
struct Spec {
  explicit Spec(const Case& c);
  LaunchSpec view() const { return {in, out, Attrs(attrs)}; }
  std::vector<TensorType> in, out;
  std::vector<Attr> attrs;
};

// Every list above in one, a kernel's list (null: none), and its cases, the same each time (empty: none).
const std::vector<CaseList>& all_cases();
const CaseList* cases_of(const Kernel& kernel);
std::vector<Case> make_cases(const Kernel& kernel);

// The input whose memory an output is, or -1.
int shared_input(const Case& c, size_t output);

// Runs one launch on real threads in guarded memory and returns the dense outputs. Reports, as test failures, writes
// outside outputs and scratch and changed inputs.
using Outputs = std::vector<std::vector<std::byte>>;
Outputs run(const Kernel& kernel, Isa isa, const Case& c, int threads, bool deterministic = true, bool slabs = false);

// AttentionItem list (kernels/cuda/attention_work.h) that the host would make for an attention case on a grid of that
// many blocks.
std::vector<std::byte> attention_work_of(const Case& c, uint32_t blocks);

// Expects `got` within `tolerance` of `want`, element by element; a place that is NaN in the reference must be NaN.
void expect_near(const Case& c, const std::vector<std::vector<double>>& tolerance, const Outputs& got,
                 const Outputs& want);

inline constexpr double kEps = 0x1p-24;  // unit roundoff of f32

}  // namespace ll::numerics
