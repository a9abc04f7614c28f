#include "ir/ops.h"

namespace ll::ir {
namespace {

Status infer_attention(const OpSpec& s, std::vector<TensorType>& results) {
  const int64_t heads = s.attrs.i64("heads"), kv_heads = s.attrs.i64("kv_heads"), head_dim = s.attrs.i64("head_dim");
  const TensorType &q = s.in(0), &kv = s.in(1);
  if (heads % kv_heads != 0)
    return bad_data("attention: {} heads, expected a multiple of kv_heads {}", heads, kv_heads);
  if (q.last().value != heads * head_dim) return expected(s, 0, "{} columns, heads * head_dim", heads * head_dim);
  if (!(s.in(2).dim(0) == q.dim(0))) return expected(s, 0, "rows as many as positions, {}", type_text(s.in(2)));
  if (!(kv.dim(1) == Dim(2 * kv_heads)) || !(kv.dim(3) == Dim(head_dim))) {
    return expected(s, 1, "kv [{},{}]", kv_heads, head_dim);
  }
  results.push_back(q);
  return {};
}

constexpr OperandDef kAttentionOperands[] = {{"q", Role::kActivation},
                                             {"kv", Role::kCache},
                                             {"positions", Role::kStepInput},
                                             {"sequences", Role::kStepInput},
                                             {"block_table", Role::kStepInput}};
constexpr AttrDef kAttentionAttrs[] = {{"heads", AttrKind::kInteger, 1, 65536},
                                       {"kv_heads", AttrKind::kInteger, 1, 65536},
                                       {"head_dim", AttrKind::kInteger, 1, 65536},
                                       {"scale", AttrKind::kNumber},
                                       {"window", AttrKind::kInteger, 0, kMaxDim}};

}  // namespace

namespace op_rows {
extern constinit const OpDef attention{
    "attention",
    "q f32[T,H*Dh], kv, positions, sequences, block_table -> f32[T,H*Dh]: token t of sequence "
    "sequences[t] sees positions 0 .. positions[t], at most `window` of them (0: all)",
    kAttentionOperands,
    kAttentionAttrs,
    1,
    infer_attention};
}
}  // namespace ll::ir
