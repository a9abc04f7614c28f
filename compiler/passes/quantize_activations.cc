// Products with quantized weights read their activations quantized to 8 bits, so that they run on integer instructions.
//
//   linear(x, w)  ->  linear(quantize(x), w)      for linear, merged_linear, gated_linear, linear_add; one quantize for
//   each x
#include <algorithm>
#include <map>

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

}  // namespace

Status quantize_activations(ir::Graph& graph, PassContext& context) {
  std::map<ir::Value, ir::Value> quantized;
  for (const ir::OpId id : graph.order()) {
    const ir::Op& op = graph.op(id);
    if (!op.is("linear") && !op.is("merged_linear") && !op.is("gated_linear") && !op.is("linear_add")) continue;
    const ir::Value x = op.operands[0];
    if (graph.type(x).dtype != DType::kF32 || graph.type(x).last().value % kQ8aBlock != 0) continue;
    if (!all_weights_quantized(graph, op)) continue;
    if (!quantized.contains(x)) {
      TRY_ASSIGN(const ir::Value q, graph.insert(id, "quantize", {x}, {}, graph.name(x) + ".q8"));
      quantized.emplace(x, q);
    }
    graph.set_operand(id, 0, quantized.at(x));
    ++context.entry.rewrites["quantize_activations"];
  }
  return {};
}

}  // namespace ll
