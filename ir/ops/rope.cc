#include "ir/ops.h"

namespace ll::ir {
namespace {

Status infer_rope(const OpSpec& s, std::vector<TensorType>& results) {
  const int64_t head_dim = s.attrs.i64("head_dim");
  const TensorType& x = s.in(0);
  if (x.last().value % head_dim != 0) return expected(s, 0, "columns a multiple of head_dim {}", head_dim);
  if (!(s.in(1).dim(0) == x.dim(0))) return expected(s, 0, "rows as many as positions, {}", type_text(s.in(1)));
  if (2 * s.in(2).last().value > head_dim) return expected(s, 2, "f32[n] with n at most half of head_dim {}", head_dim);
  results.push_back(x);
  return {};
}

constexpr OperandDef kRopeOperands[] = {
    {"x", Role::kActivation}, {"positions", Role::kStepInput}, {"inv_freq", Role::kVector}};
constexpr AttrDef kRopeAttrs[] = {{"head_dim", AttrKind::kInteger, 1, 65536},
                                  {.name = "style", .kind = AttrKind::kText, .choices = kRopeStyles},
                                  {"mscale", AttrKind::kNumber}};

}  // namespace

namespace op_rows {
extern constinit const OpDef rope{
    "rope",
    "x f32[T,H*Dh], positions, inv_freq f32[rot/2] -> f32[T,H*Dh]: pairs of each head turned by "
    "position * inv_freq, times mscale",
    kRopeOperands,
    kRopeAttrs,
    1,
    infer_rope};
}
}  // namespace ll::ir
