#include "ir/ops.h"

namespace ll::ir {
namespace {

Status infer_embed(const OpSpec& s, std::vector<TensorType>& results) {
  TensorType t = matrix(DType::kF32, 0, s.in(0).last().value);
  t.dims[0] = s.in(1).dim(0);
  results.push_back(t);
  return {};
}

constexpr OperandDef kEmbedOperands[] = {{"table", Role::kMatrix}, {"tokens", Role::kStepInput}};

}  // namespace

namespace op_rows {
extern constinit const OpDef embed{
    "embed", "table [V,D], tokens -> f32[T,D]: rows of the table", kEmbedOperands, {}, 1, infer_embed};
}
}  // namespace ll::ir
