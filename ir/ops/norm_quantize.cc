#include "ir/ops.h"

namespace ll::ir {
namespace {

Status infer_norm_quantize(const OpSpec& s, std::vector<TensorType>& results) {
  TRY(check_vector(s, 1, s.in(0).last().value));
  return infer_q8a(s, results);
}

constexpr OperandDef kNormQuantizeOperands[] = {{"x", Role::kActivation}, {"w", Role::kVector}};
constexpr AttrDef kNormQuantizeAttrs[] = {{"eps", AttrKind::kNumber}, {"block", AttrKind::kInteger, 32, 256}};

}  // namespace

namespace op_rows {
extern constinit const OpDef norm_quantize{"norm_quantize",
                                           "x f32[T,D], w f32[D] -> q8a[T,D] or q8a256[T,D]: quantize(rms_norm(x, w))",
                                           kNormQuantizeOperands,
                                           kNormQuantizeAttrs,
                                           1,
                                           infer_norm_quantize};
}
}  // namespace ll::ir
