// Rotation and the KV write in one walk over q, k and v: three launches and two round trips through memory fewer.
//
//   q, k, v = adjacent slices that cover qkv
//   rope(q), kv_write(kv, rope(k), v, slots)  ->  rope_kv_write(kv, qkv, positions, slots, inv_freq)
#include <algorithm>

#include "compiler/passes/passes.h"

namespace ll {
namespace {

using ir::Graph;
using ir::Op;
using ir::OpId;
using ir::Use;
using ir::Value;

// The rope of q: what an attention that reads this write takes as its queries. The first in the order of ids.
Value find_query(const Graph& g, OpId write) {
  OpId first = ir::kNoOp;
  for (const Use use : g.uses({write, 0})) {
    if (use.op != ir::kNoOp && g.op(use.op).is("attention") && (first == ir::kNoOp || use.op < first)) first = use.op;
  }
  return first == ir::kNoOp ? Value{} : g.op(first).operands[0];
}

// `v` is slice(qkv, start, _).
bool is_slice(const Graph& g, Value v, Value qkv, int64_t start) {
  const Op& op = g.def(v);
  return op.is("slice") && op.operands[0] == qkv && op.attrs.i64("start") == start;
}

Result<bool> fuse_rope_kv_at(Graph& g, OpId root) {
  const Op& write = g.op(root);
  const Value k = write.operands[1], v = write.operands[2], q = find_query(g, root);
  if (!q || !g.def(k).is("rope") || !g.def(q).is("rope") || q == k) return false;
  if (!used_once(g, k)) return false;  // the rotated keys are wanted elsewhere, and the fused op does not return them
  const Op &rope_k = g.def(k), &rope_q = g.def(q);
  if (rope_k.attrs != rope_q.attrs || rope_k.operands[1] != rope_q.operands[1] ||
      rope_k.operands[2] != rope_q.operands[2]) {
    return false;
  }
  if (!g.def(rope_q.operands[0]).is("slice")) return false;
  const Value qkv = g.def(rope_q.operands[0]).operands[0];
  const int64_t q_size = g.type(q).last().value, k_size = g.type(k).last().value;
  if (!is_slice(g, rope_q.operands[0], qkv, 0) || !is_slice(g, rope_k.operands[0], qkv, q_size) ||
      !is_slice(g, v, qkv, q_size + k_size) || g.type(qkv).last().value != q_size + 2 * k_size) {
    return false;
  }
  const int64_t head_dim = rope_k.attrs.i64("head_dim");
  const TensorType& cache = g.type(write.operands[0]);
  if (cache.dim(3).value != head_dim) return false;  // heads are cut in two ways
  ir::Attributes attrs = rope_k.attrs;
  attrs.set({"heads", q_size / head_dim});
  attrs.set({"kv_heads", k_size / head_dim});
  const std::string names[] = {g.name(q), g.name({root, 0})};
  TRY_ASSIGN(
      const OpId fused,
      g.create(root, "rope_kv_write",
               {write.operands[0], qkv, rope_k.operands[1], write.operands[3], rope_k.operands[2]}, std::move(attrs)));
  g.replace_all_uses(q, {fused, 0});
  g.replace_all_uses({root, 0}, {fused, 1});
  g.erase(root);
  g.erase(q.op);
  g.rename({fused, 0}, names[0]);
  g.rename({fused, 1}, names[1]);
  return true;
}

constexpr ir::Pattern kFuseRopeKvPatterns[] = {{"fuse_rope_kv", "kv_write", fuse_rope_kv_at}};

}  // namespace

Status fuse_rope_kv(Graph& graph, PassContext& context) {
  return ir::rewrite(graph, kFuseRopeKvPatterns, &context.entry.rewrites);
}

}  // namespace ll
