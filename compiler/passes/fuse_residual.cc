// A product that is added to the residual stream adds while it stores: the sum costs no pass over memory of its own.
//
//   add(residual, linear(x, w, bias))  ->  linear_add(x, w, residual, bias)     in either order of add's operands
#include "compiler/passes/passes.h"

namespace ll {
namespace {

using ir::Graph;
using ir::Op;
using ir::OpId;
using ir::Value;

Result<bool> fuse_residual_at(Graph& g, OpId root) {
  // Front ends write add(residual, product); where both are products, the second is fused.
  for (const size_t side : {1u, 0u}) {
    const Value product = g.op(root).operands[side], residual = g.op(root).operands[1 - side];
    // With a second reader the product would be computed twice.
    if (!g.def(product).is("linear") || !used_once(g, product)) continue;
    const Op& linear = g.def(product);
    std::vector<Value> operands = {linear.operands[0], linear.operands[1], residual};
    if (linear.operands.size() == 3) operands.push_back(linear.operands[2]);
    TRY_ASSIGN(const Value fused, g.insert(root, "linear_add", std::move(operands)));
    ir::replace(g, root, fused);
    return true;
  }
  return false;
}

constexpr ir::Pattern kFuseResidualPatterns[] = {{"fuse_residual", "add", fuse_residual_at}};

}  // namespace

Status fuse_residual(Graph& graph, PassContext& context) {
  return ir::rewrite(graph, kFuseResidualPatterns, &context.entry.rewrites);
}

}  // namespace ll
