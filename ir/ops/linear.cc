#include "ir/ops.h"

namespace ll::ir {
namespace {

Status infer_linear(const OpSpec& s, std::vector<TensorType>& results) {
  TRY(check_product(s, 0, 1));
  const int64_t n = s.in(1).dim(0).value;
  if (s.count() == 3) TRY(check_vector(s, 2, n));
  TensorType t = matrix(DType::kF32, 0, n);
  t.dims[0] = s.in(0).dim(0);
  results.push_back(t);
  return {};
}

constexpr OperandDef kLinearOperands[] = {
    {"x", Role::kFactor}, {"w", Role::kMatrix}, {"bias", Role::kVector, Count::kOptional}};

}  // namespace

namespace op_rows {
extern constinit const OpDef linear{
    "linear", "x [T,K], w [N,K], optional bias f32[N] -> f32[T,N]: x w^T + bias", kLinearOperands, {}, 1, infer_linear};
}
}  // namespace ll::ir
