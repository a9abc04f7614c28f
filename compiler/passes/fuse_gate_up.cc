// The gated feed-forward layer as one kernel: gate and up are never written out.
//
//   mul(activation(linear(x, wg)), linear(x, wu))  ->  gated_linear(x, wg, wu)      in either order of mul's operands
#include "compiler/passes/passes.h"

namespace ll {
namespace {

using ir::Graph;
using ir::Op;
using ir::OpId;
using ir::Value;

Result<bool> fuse_gate_up_at(Graph& g, OpId root) {
  for (const size_t gate_side : {0u, 1u}) {
    const Value gated = g.op(root).operands[gate_side], up = g.op(root).operands[1 - gate_side];
    if (!g.def(gated).is("activation") || !used_once(g, gated) || !g.def(up).is("linear") || !used_once(g, up))
      continue;
    const Value gate = g.def(gated).operands[0];
    if (!g.def(gate).is("linear") || !used_once(g, gate)) continue;
    const Op &lg = g.def(gate), &lu = g.def(up);
    if (!(lg.operands[0] == lu.operands[0]) || lg.operands.size() != lu.operands.size()) continue;
    // A quantized weight multiplies quantized activations, another one f32: one kernel cannot do both.
    if (!same_weight_kind(g, lg.operands[1], lu.operands[1])) continue;
    std::vector<Value> operands = {lg.operands[0], lg.operands[1], lu.operands[1]};
    if (lg.operands.size() == 3) operands.insert(operands.end(), {lg.operands[2], lu.operands[2]});
    const ir::Attributes attrs = {{"act", g.def(gated).attrs.text("act")}};
    TRY_ASSIGN(const Value fused, g.insert(root, "gated_linear", std::move(operands), attrs));
    ir::replace(g, root, fused);
    return true;
  }
  return false;
}

constexpr ir::Pattern kFuseGateUpPatterns[] = {{"fuse_gate_up", "mul", fuse_gate_up_at}};

}  // namespace

Status fuse_gate_up(Graph& graph, PassContext& context) {
  return ir::rewrite(graph, kFuseGateUpPatterns, &context.entry.rewrites);
}

}  // namespace ll
