// Products with quantized weights read their activations quantized to 8 bits, so that they run on integer instructions.
//
//   linear(x, w)  ->  linear(quantize(x), w)      for linear, merged_linear, gated_linear, linear_add; one quantize for
//   each x
//
// On CPUs x gets a scale for 256 where a product with it has weights in blocks of 256, else for 32.
#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "compiler/passes/passes.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/q8a.h"

namespace ll {
namespace {

// The weights among the operands are the matrices.
bool all_weights_quantized(const ir::Graph& g, const ir::Op& op) {
  return std::all_of(op.operands.begin(), op.operands.end(), [&](ir::Value v) {
    const TensorType& t = g.type(v);
    return !g.def(v).is("weight") || t.rank != 2 || is_quantized_dtype(t.dtype);
  });
}

bool is_product(const ir::Op& op) {
  return op.is("linear") || op.is("merged_linear") || op.is("gated_linear") || op.is("linear_add");
}

bool wants_256(const ir::Graph& g, const ir::Op& op) {
  return std::any_of(op.operands.begin(), op.operands.end(), [&](ir::Value v) {
    return g.def(v).is("weight") && q8a_for_x16(g.type(v).dtype) == DType::kQ8A256;
  });
}

}  // namespace

Status quantize_activations(ir::Graph& graph, PassContext& context) {
  std::map<ir::Value, std::vector<ir::OpId>> products;  // of each x, in order
  for (const ir::OpId id : graph.order()) {
    const ir::Op& op = graph.op(id);
    if (!is_product(op) || !all_weights_quantized(graph, op)) continue;
    const TensorType& x = graph.type(op.operands[0]);
    if (x.dtype != DType::kF32 || x.last().value % kQ8aGroup != 0) continue;
    products[op.operands[0]].push_back(id);
  }
  for (const auto& [x, ops] : products) {
    const bool wide = context.options.weight_layout == Layout::kX16 &&
                      std::any_of(ops.begin(), ops.end(), [&](ir::OpId id) { return wants_256(graph, graph.op(id)); });
    ir::Attributes attrs;
    attrs.set({"block", int64_t{wide ? 256 : 32}});
    TRY_ASSIGN(const ir::Value q, graph.insert(ops.front(), "quantize", {x}, std::move(attrs), graph.name(x) + ".q8"));
    for (const ir::OpId id : ops) graph.set_operand(id, 0, q);
    context.entry.rewrites["quantize_activations"] += static_cast<int64_t>(ops.size());
  }
  return {};
}

}  // namespace ll
