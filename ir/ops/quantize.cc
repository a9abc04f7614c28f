#include "ir/ops.h"
#include "kernels/quant/q8a.h"

namespace ll::ir {
namespace {

constexpr OperandDef kQuantizeOperands[] = {{"x", Role::kActivation}};
constexpr AttrDef kQuantizeAttrs[] = {{"block", AttrKind::kInteger, 32, 256}};

}  // namespace

Status infer_q8a(const OpSpec& s, std::vector<TensorType>& results) {
  TensorType t = s.in(0);
  const int64_t block = s.attrs.i64("block");
  if (block != 32 && block != 256) return bad_data("{}: block is {}, expected 32 or 256", s.def.name, block);
  if (t.last().value % block != 0) return expected(s, 0, "columns in blocks of {}", block);
  t.dtype = block == 256 ? DType::kQ8A256 : DType::kQ8A;
  results.push_back(t);
  return {};
}

namespace op_rows {
extern constinit const OpDef quantize{"quantize",
                                      "x f32[T,K] -> q8a[T,K] or q8a256[T,K]: 8-bit codes, a scale for `block` of them",
                                      kQuantizeOperands,
                                      kQuantizeAttrs,
                                      1,
                                      infer_q8a};
}
}  // namespace ll::ir
