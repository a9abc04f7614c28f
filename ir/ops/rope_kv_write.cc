#include "ir/ops.h"

namespace ll::ir {
namespace {

Status infer_rope_kv_write(const OpSpec& s, std::vector<TensorType>& results) {
  const int64_t heads = s.attrs.i64("heads"), kv_heads = s.attrs.i64("kv_heads"), head_dim = s.attrs.i64("head_dim");
  const TensorType &kv = s.in(0), &qkv = s.in(1);
  if (!(kv.dim(1) == Dim(2 * kv_heads)) || !(kv.dim(3) == Dim(head_dim))) {
    return expected(s, 0, "kv [{},{}]", kv_heads, head_dim);
  }
  if (qkv.last().value != (heads + 2 * kv_heads) * head_dim) {
    return expected(s, 1, "{} columns, (heads + 2 kv_heads) head_dim", (heads + 2 * kv_heads) * head_dim);
  }
  if (!(s.in(2).dim(0) == qkv.dim(0))) return expected(s, 1, "rows as many as positions, {}", type_text(s.in(2)));
  if (2 * s.in(4).last().value > head_dim) return expected(s, 4, "f32[n] with n at most half of head_dim {}", head_dim);
  TensorType q = matrix(DType::kF32, 0, heads * head_dim);
  q.dims[0] = qkv.dim(0);
  results.push_back(q);
  results.push_back(kv);
  return {};
}

constexpr OperandDef kRopeKvWriteOperands[] = {{"kv", Role::kCache},
                                               {"qkv", Role::kActivation},
                                               {"positions", Role::kStepInput},
                                               {"slots", Role::kStepInput},
                                               {"inv_freq", Role::kVector}};
constexpr AttrDef kRopeKvWriteAttrs[] = {{"heads", AttrKind::kInteger, 1, 65536},
                                         {"kv_heads", AttrKind::kInteger, 1, 65536},
                                         {"head_dim", AttrKind::kInteger, 1, 65536},
                                         {.name = "style", .kind = AttrKind::kText, .choices = kRopeStyles},
                                         {"mscale", AttrKind::kNumber}};

}  // namespace

namespace op_rows {
extern constinit const OpDef rope_kv_write{
    "rope_kv_write",
    "kv, qkv f32[T,(H+2Hk)*Dh], positions, slots, inv_freq -> q f32[T,H*Dh], kv: rope of q and k, then kv_write",
    kRopeKvWriteOperands,
    kRopeKvWriteAttrs,
    2,
    infer_rope_kv_write};
}
}  // namespace ll::ir
