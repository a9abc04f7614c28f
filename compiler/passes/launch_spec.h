// An op of the graph as the catalog's kernels see it.
#pragma once

#include <vector>

#include "ir/graph.h"
#include "kernels/kernel.h"

namespace ll {

// Operand types and attributes of one launch. Keeps views into the graph, which must outlive it unchanged.
struct OpLaunch {
  std::vector<TensorType> in, out;
  std::vector<Attr> attrs;  // numbers and texts; those that passes added are left out

  OpLaunch(const ir::Graph& graph, const ir::Op& op);
  LaunchSpec spec() const { return {in, out, Attrs(attrs)}; }
};

// The kernel that the op names in its attribute `kernel`, or else the catalog's first one for the op that accepts the
// launch. kUnsupported lists why each refused.
Result<const Kernel*> kernel_for(const ir::Op& op, const OpLaunch& launch);

}  // namespace ll
