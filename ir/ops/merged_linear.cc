#include "ir/ops.h"

namespace ll::ir {
namespace {

Status infer_merged_linear(const OpSpec& s, std::vector<TensorType>& results) {
  const auto parts = static_cast<size_t>(s.attrs.i64("parts"));
  int64_t n = 0;  // at most kMaxParts * kMaxDim
  for (size_t i = 1; i <= parts; ++i) {
    TRY(check_product(s, 0, i));
    const int64_t rows = s.in(i).dim(0).value;
    if (s.count() > 1 + parts) TRY(check_vector(s, i + parts, rows));
    n += rows;
  }
  if (n > kMaxDim) return bad_data("merged_linear: {} columns, expected at most {}", n, kMaxDim);
  TensorType t = matrix(DType::kF32, 0, n);
  t.dims[0] = s.in(0).dim(0);
  results.push_back(t);
  return {};
}

constexpr OperandDef kMergedLinearOperands[] = {
    {"x", Role::kFactor}, {"w", Role::kMatrix, Count::kParts}, {"bias", Role::kVector, Count::kOptionalParts}};
constexpr AttrDef kMergedLinearAttrs[] = {{"parts", AttrKind::kInteger, 2, 16}};

}  // namespace

namespace op_rows {
extern constinit const OpDef merged_linear{
    "merged_linear",
    "x [T,K], w1 [N1,K] .. wn, no biases or n -> f32[T,N1+..+Nn]: linears of one x side by side",
    kMergedLinearOperands,
    kMergedLinearAttrs,
    1,
    infer_merged_linear};
}
}  // namespace ll::ir
