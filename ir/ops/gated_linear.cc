#include "ir/ops.h"

namespace ll::ir {
namespace {

Status infer_gated_linear(const OpSpec& s, std::vector<TensorType>& results) {
  TRY(check_product(s, 0, 1));
  TRY(check_product(s, 0, 2));
  const Dim n = s.in(1).dim(0);
  if (!(s.in(2).dim(0) == n)) return expected(s, 2, "[{},k] as w_gate is {}", n.value, type_text(s.in(1)));
  if (s.count() == 4) return bad_data("gated_linear: 4 operands, expected 3 or, with both biases, 5");
  for (size_t i = 3; i < s.count(); ++i) TRY(check_vector(s, i, n.value));
  TensorType t = matrix(DType::kF32, 0, n.value);
  t.dims[0] = s.in(0).dim(0);
  results.push_back(t);
  return {};
}

constexpr OperandDef kGatedLinearOperands[] = {{"x", Role::kFactor},
                                               {"w_gate", Role::kMatrix},
                                               {"w_up", Role::kMatrix},
                                               {"bias_gate", Role::kVector, Count::kOptional},
                                               {"bias_up", Role::kVector, Count::kOptional}};
constexpr AttrDef kGatedLinearAttrs[] = {{.name = "act", .kind = AttrKind::kText, .choices = kActivations}};

}  // namespace

namespace op_rows {
extern constinit const OpDef gated_linear{
    "gated_linear",
    "x [T,K], w_gate [F,K], w_up [F,K], optional biases -> f32[T,F]: act(gate) * up",
    kGatedLinearOperands,
    kGatedLinearAttrs,
    1,
    infer_gated_linear};
}
}  // namespace ll::ir
