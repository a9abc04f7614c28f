// The three projections of one attention read the same x: one product [q | k | v] reads it once and fills the cores
// better.
//
//   q = linear(x, wq); k = linear(x, wk); v = linear(x, wv)  ->  qkv = merged_linear(x, wq, wk, wv); q, k, v = slices
//   of qkv
#include "compiler/passes/passes.h"

namespace ll {
namespace {

using ir::Graph;
using ir::Op;
using ir::OpId;
using ir::Value;

Value before_rope(const Graph& g, Value v) { return g.def(v).is("rope") ? g.def(v).operands[0] : v; }

Result<bool> merge(Graph& g, OpId root) {
  const Op& attention = g.op(root);
  const Op& write = g.def(attention.operands[1]);
  if (!write.is("kv_write")) return false;
  const Value parts[] = {before_rope(g, attention.operands[0]), before_rope(g, write.operands[1]), write.operands[2]};
  for (const Value& p : parts) {
    if (!g.def(p).is("linear")) return false;
  }
  if (parts[0] == parts[1] || parts[1] == parts[2] || parts[0] == parts[2]) return false;
  const Op& first = g.def(parts[0]);
  const Value x = first.operands[0];
  std::vector<Value> operands = {x};
  for (const Value& p : parts) {
    const Op& linear = g.def(p);
    if (!(linear.operands[0] == x) || linear.operands.size() != first.operands.size()) return false;
    // A quantized weight multiplies quantized activations, another one f32: one kernel cannot do both.
    if (!same_weight_kind(g, linear.operands[1], first.operands[1])) return false;
    operands.push_back(linear.operands[1]);
  }
  if (first.operands.size() == 3) {
    for (const Value& p : parts) operands.push_back(g.def(p).operands[2]);
  }
  TRY_ASSIGN(const Value merged, g.insert(root, "merged_linear", std::move(operands), {{"parts", 3}}, "qkv"));
  int64_t start = 0;
  for (const Value& p : parts) {
    const int64_t size = g.type(p).last().value;
    TRY_ASSIGN(const Value slice, g.insert(root, "slice", {merged}, {{"start", start}, {"size", size}}));
    const std::string name = g.name(p);
    g.replace_all_uses(p, slice);
    g.erase(p.op);
    g.rename(slice, name);
    start += size;
  }
  return true;
}

constexpr ir::Pattern kMergeQkvPatterns[] = {{"merge_qkv", "attention", merge}};

}  // namespace

Status merge_qkv(Graph& graph, PassContext& context) {
  return ir::rewrite(graph, kMergeQkvPatterns, &context.entry.rewrites);
}

}  // namespace ll
