// Small questions about graphs that several passes ask.
#include <algorithm>

#include "compiler/passes/passes.h"
#include "kernels/quant/formats.h"

namespace ll {

bool used_once(const ir::Graph& graph, ir::Value v) {
  const auto& uses = graph.uses(v);
  return uses.size() == 1 && uses[0].op != ir::kNoOp;
}

bool same_weight_kind(const ir::Graph& graph, ir::Value a, ir::Value b) {
  return is_quantized_dtype(graph.type(a).dtype) == is_quantized_dtype(graph.type(b).dtype);
}

bool in_arena(const ir::Graph& graph, ir::Value v) {
  return is_computed(graph.def(v)) && graph.type(v).rank == 2 && !(graph.result() == v);
}

bool is_computed(const ir::Op& op) { return !op.operands.empty() && !op.is("slice"); }

int64_t arena_bytes(const TensorType& type) {
  return std::max<int64_t>(type.dim(0).value, 1) * row_bytes(type.dtype, type.last().value);
}

}  // namespace ll
