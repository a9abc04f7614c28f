// Gives T, R, S, the block table's columns and the caches' pages their largest values in this bucket.
#include "compiler/passes/passes.h"
#include "ir/ops.h"

namespace ll {

Status bind_sizes(ir::Graph& graph, PassContext& context) {
  const StepSizes& b = context.options.sizes;
  struct Size {
    std::string_view name;
    int64_t value;
  };
  for (const auto& [name, value] : {Size{"tokens", b.tokens}, Size{"rows", b.rows}, Size{"sequences", b.sequences},
                                    Size{"pages per sequence", b.pages_per_sequence}, Size{"pages", b.pages}}) {
    if (value < 1 || value > ir::kMaxDim) {
      return usage("bind_sizes: {} {}, expected 1 to {}", value, name, ir::kMaxDim);
    }
  }
  if (b.rows > b.tokens) return usage("bind_sizes: {} rows, expected at most {} (tokens)", b.rows, b.tokens);
  for (const ir::OpId id : graph.order()) {
    const ir::Op& op = graph.op(id);
    if (!op.is("input") && !op.is("kv_cache")) continue;
    TensorType t = op.results[0].type;
    switch (t.dim(0).symbol) {
      case Symbol::kT:
        t.dims[0].value = b.tokens;
        break;
      case Symbol::kR:
        t.dims[0].value = b.rows;
        break;
      case Symbol::kS:
        t.dims[0].value = b.sequences;
        break;
      case Symbol::kNone:
        t.dims[0].value = b.pages;
        break;
    }
    if (t.rank == 2) t.dims[1] = Dim(b.pages_per_sequence);
    graph.set_type({id, 0}, t);
  }
  return infer_all_types(graph);
}

}  // namespace ll
