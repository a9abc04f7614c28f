#include "ir/ops.h"
#include "kernels/quant/q8a.h"

namespace ll::ir {
namespace {

Status infer_norm_quantize(const OpSpec& s, std::vector<TensorType>& results) {
  TRY(check_vector(s, 1, s.in(0).last().value));
  TensorType t = s.in(0);
  if (t.last().value % kQ8aBlock != 0) return expected(s, 0, "columns in blocks of {}", kQ8aBlock);
  t.dtype = DType::kQ8A;
  results.push_back(t);
  return {};
}

constexpr OperandDef kNormQuantizeOperands[] = {{"x", Role::kActivation}, {"w", Role::kVector}};
constexpr AttrDef kNormQuantizeAttrs[] = {{"eps", AttrKind::kNumber}};

}  // namespace

namespace op_rows {
extern constinit const OpDef norm_quantize{"norm_quantize",
                                           "x f32[T,D], w f32[D] -> q8a[T,D]: quantize(rms_norm(x, w))",
                                           kNormQuantizeOperands,
                                           kNormQuantizeAttrs,
                                           1,
                                           infer_norm_quantize};
}
}  // namespace ll::ir
