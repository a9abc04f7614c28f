// Types of all values from those of the sources; the KV caches take the element type that was asked for.
#include "compiler/passes/passes.h"
#include "ir/ops.h"

namespace ll {

Status infer_all_types(ir::Graph& graph) {
  for (const ir::OpId id : graph.order()) {
    const ir::Op& op = graph.op(id);
    if (op.operands.empty() && !op.is("constant")) continue;  // sources say their types themselves
    ir::Attributes attrs = op.attrs;
    TRY_ASSIGN(const std::vector<TensorType> types, ir::infer(graph, *op.def, op.operands, attrs, {}));
    for (int32_t r = 0; r < static_cast<int32_t>(types.size()); ++r) {
      graph.set_type({id, r}, types[static_cast<size_t>(r)]);
    }
  }
  return {};
}

Status infer_types(ir::Graph& graph, PassContext& context) {
  if (const auto dtype = context.options.kv_dtype) {
    for (const ir::OpId id : graph.order()) {
      if (!graph.op(id).is("kv_cache")) continue;
      TensorType t = graph.type({id, 0});
      t.dtype = *dtype;
      graph.set_type({id, 0}, t);
    }
  }
  return infer_all_types(graph);
}

}  // namespace ll
