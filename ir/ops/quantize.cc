#include "ir/ops.h"
#include "kernels/quant/q8a.h"

namespace ll::ir {
namespace {

Status infer_quantize(const OpSpec& s, std::vector<TensorType>& results) {
  TensorType t = s.in(0);
  if (t.last().value % kQ8aBlock != 0) return expected(s, 0, "columns in blocks of {}", kQ8aBlock);
  t.dtype = DType::kQ8A;
  results.push_back(t);
  return {};
}

constexpr OperandDef kQuantizeOperands[] = {{"x", Role::kActivation}};

}  // namespace

namespace op_rows {
extern constinit const OpDef quantize{
    "quantize", "x f32[T,K] -> q8a[T,K]: 8-bit codes, a scale for 32", kQuantizeOperands, {}, 1, infer_quantize};
}
}  // namespace ll::ir
