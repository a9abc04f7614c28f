#include "ir/ops.h"

namespace ll::ir {
namespace {

Status infer_rms_norm(const OpSpec& s, std::vector<TensorType>& results) {
  TRY(check_vector(s, 1, s.in(0).last().value));
  results.push_back(s.in(0));
  return {};
}

constexpr OperandDef kRmsNormOperands[] = {{"x", Role::kActivation}, {"w", Role::kVector}};
constexpr AttrDef kRmsNormAttrs[] = {{"eps", AttrKind::kNumber}};

}  // namespace

namespace op_rows {
extern constinit const OpDef rms_norm{"rms_norm",
                                      "x f32[T,D], w f32[D] -> f32[T,D]: x / sqrt(mean(x^2) + eps) * w",
                                      kRmsNormOperands,
                                      kRmsNormAttrs,
                                      1,
                                      infer_rms_norm};
}
}  // namespace ll::ir
