// Weights that integer kernels multiply are stored as those kernels read them: 16 rows interleaved for CPUs (kX16), 8
// for GPUs (kTile8). Everything else keeps the file's order, but for GPUs, whose kernels know no quantized rows. A tied
// embedding reads the same copy: embed takes any layout, and one copy is what fits in memory.
#include <set>
#include <string>

#include "compiler/passes/passes.h"
#include "kernels/quant/layouts.h"
#include "kernels/quant/q8a.h"

namespace ll {

Status choose_layouts(ir::Graph& graph, PassContext& context) {
  const Layout layout = context.options.weight_layout;
  const auto order = graph.order();
  std::set<std::string, std::less<>> interleaved;  // by tensor name: declared twice, a tensor is still one copy
  for (const ir::OpId id : order) {
    const ir::Op& op = graph.op(id);
    const bool integer = !op.operands.empty() && is_q8a(graph.type(op.operands[0]).dtype);
    if (!integer && layout == Layout::kX16) continue;
    for (const ir::Value v : op.operands) {
      const TensorType& t = graph.type(v);
      if (graph.def(v).is("weight") && t.rank == 2 && has_layout(t.dtype, layout)) {
        interleaved.emplace(graph.def(v).attrs.text("name"));
      }
    }
  }
  int64_t changed = 0, rows = 0;
  for (const ir::OpId id : order) {
    const ir::Op& op = graph.op(id);
    if (!op.is("weight")) continue;
    TensorType t = op.results[0].type;
    const bool chosen = interleaved.contains(op.attrs.text("name"));
    t.layout = chosen ? layout : Layout::kRows;
    graph.set_type({id, 0}, t);
    ++(chosen ? changed : rows);
  }
  context.entry.notes.push_back(fmt::format("{} weights in {}, {} in rows", changed, layout_name(layout), rows));
  return {};
}

}  // namespace ll
