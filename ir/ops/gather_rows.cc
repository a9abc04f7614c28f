#include "ir/ops.h"

namespace ll::ir {
namespace {

Status infer_gather_rows(const OpSpec& s, std::vector<TensorType>& results) {
  TensorType t = s.in(0);
  if (t.dim(0).symbol != Symbol::kT) return expected(s, 0, "f32[T,n]: rows names tokens");
  t.dims[0] = s.in(1).dim(0);
  results.push_back(t);
  return {};
}

constexpr OperandDef kGatherRowsOperands[] = {{"x", Role::kActivation}, {"rows", Role::kStepInput}};

}  // namespace

namespace op_rows {
extern constinit const OpDef gather_rows{
    "gather_rows",    "x f32[T,D], rows -> f32[R,D]: the tokens whose logits are wanted", kGatherRowsOperands, {}, 1,
    infer_gather_rows};
}
}  // namespace ll::ir
