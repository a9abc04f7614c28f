#include "ir/ops.h"

namespace ll::ir {
namespace {

Status infer(const OpSpec& s, std::vector<TensorType>& results) {
  TensorType t = matrix(DType::kF32, 0, s.in(0).last().value);
  t.dims[0] = s.in(1).dim(0);
  results.push_back(t);
  return {};
}

constexpr OperandDef kOperands[] = {{"table", Role::kMatrix}, {"tokens", Role::kStepInput}};

}  // namespace

namespace op_rows {
extern constinit const OpDef embed{"embed", "table [V,D], tokens -> f32[T,D]: rows of the table", kOperands, {}, 1,
                                   infer};
}
}  // namespace ll::ir
