#include "ir/ops.h"

namespace ll::ir {
namespace {

Status infer_linear_add(const OpSpec& s, std::vector<TensorType>& results) {
  TRY(check_product(s, 0, 1));
  const int64_t n = s.in(1).dim(0).value;
  TensorType t = matrix(DType::kF32, 0, n);
  t.dims[0] = s.in(0).dim(0);
  if (!(s.in(2) == t)) return expected(s, 2, "{}", type_text(t));
  if (s.count() == 4) TRY(check_vector(s, 3, n));
  results.push_back(t);
  return {};
}

constexpr OperandDef kLinearAddOperands[] = {{"x", Role::kFactor},
                                             {"w", Role::kMatrix},
                                             {"residual", Role::kActivation},
                                             {"bias", Role::kVector, Count::kOptional}};

}  // namespace

namespace op_rows {
extern constinit const OpDef linear_add{
    "linear_add",
    "x [T,K], w [N,K], residual f32[T,N], optional bias f32[N] -> f32[T,N]: residual + (x w^T + bias)",
    kLinearAddOperands,
    {},
    1,
    infer_linear_add};
}
}  // namespace ll::ir
