#include "ir/ops.h"

namespace ll::ir {
namespace {

Status infer_kv_write(const OpSpec& s, std::vector<TensorType>& results) {
  const TensorType& kv = s.in(0);
  TensorType row = matrix(DType::kF32, 0, kv.dim(1).value / 2 * kv.dim(3).value);
  row.dims[0] = s.in(3).dim(0);
  for (const size_t i : {1u, 2u}) {
    if (!(s.in(i) == row)) return expected(s, i, "{} as the cache is {}", type_text(row), type_text(kv));
  }
  results.push_back(kv);
  return {};
}

constexpr OperandDef kKvWriteOperands[] = {
    {"kv", Role::kCache}, {"k", Role::kActivation}, {"v", Role::kActivation}, {"slots", Role::kStepInput}};

}  // namespace

namespace op_rows {
extern constinit const OpDef kv_write{
    "kv_write",
    "kv, k f32[T,Hk*Dh], v f32[T,Hk*Dh], slots -> kv: the same cache with a row for each token",
    kKvWriteOperands,
    {},
    1,
    infer_kv_write};
}
}  // namespace ll::ir
