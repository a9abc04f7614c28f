// Products that make their own quantized activations, so that a step of one token needs no kernel between them:
//
//   norm_linear, norm_merged_linear, norm_gated_linear   of quantize(rms_norm(x, norm))
//   norm_gated_linear_quantize                           quantize of the latter
//   quantize_linear, quantize_linear_add                 of quantize(x)
//
// Weights are quantized; operands otherwise as of the op that the name ends in.
#include "ir/ops.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/q8a.h"

namespace ll::ir {
namespace {

// Weight `w` of x, operand 0.
Status check_weight(const OpSpec& s, size_t w) {
  TRY(check_product(s, 0, w));
  if (s.in(0).last().value % kQ8aGroup != 0) return expected(s, 0, "columns in blocks of {}", kQ8aGroup);
  if (!is_quantized_dtype(s.in(w).dtype)) return expected(s, w, "a quantized weight");
  return {};
}

Status check_norm(const OpSpec& s) { return check_vector(s, 1, s.in(0).last().value); }

TensorType rows_of(const OpSpec& s, DType dtype, int64_t n) {
  TensorType t = matrix(dtype, 0, n);
  t.dims[0] = s.in(0).dim(0);
  return t;
}

// linear with its weight at `w` and nothing after it but a bias.
Status infer_linear(const OpSpec& s, size_t w, std::vector<TensorType>& results) {
  TRY(check_weight(s, w));
  const int64_t n = s.in(w).dim(0).value;
  if (s.count() == w + 2) TRY(check_vector(s, w + 1, n));
  results.push_back(rows_of(s, DType::kF32, n));
  return {};
}

Status infer_norm_linear(const OpSpec& s, std::vector<TensorType>& results) {
  TRY(check_norm(s));
  return infer_linear(s, 2, results);
}

Status infer_quantize_linear(const OpSpec& s, std::vector<TensorType>& results) { return infer_linear(s, 1, results); }

Status infer_quantize_linear_add(const OpSpec& s, std::vector<TensorType>& results) {
  TRY(check_weight(s, 1));
  const int64_t n = s.in(1).dim(0).value;
  const TensorType t = rows_of(s, DType::kF32, n);
  if (!(s.in(2) == t)) return expected(s, 2, "{}", type_text(t));
  if (s.count() == 4) TRY(check_vector(s, 3, n));
  results.push_back(t);
  return {};
}

Status infer_norm_merged_linear(const OpSpec& s, std::vector<TensorType>& results) {
  TRY(check_norm(s));
  const auto parts = static_cast<size_t>(s.attrs.i64("parts"));
  int64_t n = 0;  // at most 16 * kMaxDim
  for (size_t i = 2; i < 2 + parts; ++i) {
    TRY(check_weight(s, i));
    const int64_t rows = s.in(i).dim(0).value;
    if (s.count() > 2 + parts) TRY(check_vector(s, i + parts, rows));
    n += rows;
  }
  if (n > kMaxDim) return bad_data("norm_merged_linear: {} columns, expected at most {}", n, kMaxDim);
  results.push_back(rows_of(s, DType::kF32, n));
  return {};
}

Status infer_gated(const OpSpec& s, std::vector<TensorType>& results, DType dtype) {
  TRY(check_norm(s));
  TRY(check_weight(s, 2));
  TRY(check_weight(s, 3));
  const Dim n = s.in(2).dim(0);
  if (!(s.in(3).dim(0) == n)) return expected(s, 3, "[{},k] as w_gate is {}", n.value, type_text(s.in(2)));
  if (s.count() == 5) return bad_data("{}: 5 operands, expected 4 or, with both biases, 6", s.def.name);
  for (size_t i = 4; i < s.count(); ++i) TRY(check_vector(s, i, n.value));
  if (dtype == DType::kQ8A && n.value % kQ8aGroup != 0) return expected(s, 2, "rows in blocks of {}", kQ8aGroup);
  results.push_back(rows_of(s, dtype, n.value));
  return {};
}

Status infer_norm_gated_linear(const OpSpec& s, std::vector<TensorType>& results) {
  return infer_gated(s, results, DType::kF32);
}
Status infer_norm_gated_linear_quantize(const OpSpec& s, std::vector<TensorType>& results) {
  return infer_gated(s, results, DType::kQ8A);
}

constexpr OperandDef kNormLinear[] = {
    {"x", Role::kActivation}, {"norm", Role::kVector}, {"w", Role::kMatrix}, {"bias", Role::kVector, Count::kOptional}};
constexpr OperandDef kNormMerged[] = {{"x", Role::kActivation},
                                      {"norm", Role::kVector},
                                      {"w", Role::kMatrix, Count::kParts},
                                      {"bias", Role::kVector, Count::kOptionalParts}};
constexpr OperandDef kNormGated[] = {{"x", Role::kActivation},
                                     {"norm", Role::kVector},
                                     {"w_gate", Role::kMatrix},
                                     {"w_up", Role::kMatrix},
                                     {"bias_gate", Role::kVector, Count::kOptional},
                                     {"bias_up", Role::kVector, Count::kOptional}};
constexpr OperandDef kQuantizeLinear[] = {
    {"x", Role::kActivation}, {"w", Role::kMatrix}, {"bias", Role::kVector, Count::kOptional}};
constexpr OperandDef kQuantizeLinearAdd[] = {{"x", Role::kActivation},
                                             {"w", Role::kMatrix},
                                             {"residual", Role::kActivation},
                                             {"bias", Role::kVector, Count::kOptional}};
constexpr AttrDef kNorm[] = {{"eps", AttrKind::kNumber}};
constexpr AttrDef kMerged[] = {{"eps", AttrKind::kNumber}, {"parts", AttrKind::kInteger, 2, 16}};
constexpr AttrDef kGated[] = {{"eps", AttrKind::kNumber},
                              {.name = "act", .kind = AttrKind::kText, .choices = kActivations}};

}  // namespace

namespace op_rows {
extern constinit const OpDef norm_linear{"norm_linear",
                                         "x f32[T,K], norm f32[K], w [N,K], optional bias -> f32[T,N]: linear of "
                                         "quantize(rms_norm(x, norm))",
                                         kNormLinear,
                                         kNorm,
                                         1,
                                         infer_norm_linear};
extern constinit const OpDef norm_merged_linear{
    "norm_merged_linear",
    "x f32[T,K], norm f32[K], w1 [N1,K] .. wn, no biases or n -> f32[T,N1+..+Nn]: merged_linear of "
    "quantize(rms_norm(x, norm))",
    kNormMerged,
    kMerged,
    1,
    infer_norm_merged_linear};
extern constinit const OpDef norm_gated_linear{
    "norm_gated_linear",
    "x f32[T,K], norm f32[K], w_gate [F,K], w_up [F,K], optional biases -> f32[T,F]: gated_linear of "
    "quantize(rms_norm(x, norm))",
    kNormGated,
    kGated,
    1,
    infer_norm_gated_linear};
extern constinit const OpDef norm_gated_linear_quantize{
    "norm_gated_linear_quantize",    "as norm_gated_linear -> q8a[T,F]: quantize of it", kNormGated, kGated, 1,
    infer_norm_gated_linear_quantize};
extern constinit const OpDef quantize_linear{"quantize_linear",
                                             "x f32[T,K], w [N,K], optional bias -> f32[T,N]: linear of quantize(x)",
                                             kQuantizeLinear,
                                             {},
                                             1,
                                             infer_quantize_linear};
extern constinit const OpDef quantize_linear_add{
    "quantize_linear_add",
    "x f32[T,K], w [N,K], residual f32[T,N], optional bias -> f32[T,N]: linear_add of quantize(x)",
    kQuantizeLinearAdd,
    {},
    1,
    infer_quantize_linear_add};
}  // namespace op_rows
}  // namespace ll::ir
