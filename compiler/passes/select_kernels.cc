// Names the kernel of each op: the catalog's first row for the op whose precondition holds.
#include <algorithm>

#include "compiler/passes/launch_spec.h"
#include "compiler/passes/passes.h"
#include "ir/ops.h"
#include "ir/type.h"

namespace ll {

OpLaunch::OpLaunch(const ir::Graph& graph, const ir::Op& op) {
  for (const ir::Value v : op.operands) in.push_back(graph.type(v));
  for (const ir::OpResult& r : op.results) out.push_back(r.type);
  for (const auto& [key, value] : op.attrs.all()) {
    const auto reserved = ir::reserved_attrs();
    const auto is_key = [name = std::string_view(key)](const ir::AttrDef& d) { return d.name == name; };
    if (std::any_of(reserved.begin(), reserved.end(), is_key)) continue;
    if (const auto* i = std::get_if<int64_t>(&value)) attrs.push_back({key, *i});
    if (const auto* f = std::get_if<double>(&value)) attrs.push_back({key, *f});
    if (const auto* s = std::get_if<std::string>(&value)) attrs.push_back({key, std::string_view(*s)});
  }
}

Result<const Kernel*> kernel_for(const ir::Op& op, const OpLaunch& launch) {
  const std::string_view named = op.attrs.text("kernel");
  if (!named.empty()) {
    const Kernel* kernel = find_kernel(named);
    if (kernel == nullptr || kernel->op != op.kind()) return bad_data("{} is no kernel of {}", named, op.kind());
    if (Status s = kernel->check(launch.spec()); !s) return std::move(s).error().in(named);
    return kernel;
  }
  std::string reasons;
  for (const Kernel& kernel : catalog()) {
    if (kernel.op != op.kind()) continue;
    const Status s = kernel.check(launch.spec());
    if (s) return &kernel;
    reasons += fmt::format("; {}: {}", kernel.name, s.error().message);
  }
  return unsupported("no kernel computes %{} = {}{}", op.results[0].name, op.kind(), reasons);
}

Status select_kernels(ir::Graph& graph, PassContext& context) {
  for (const ir::OpId id : graph.order()) {
    const ir::Op& op = graph.op(id);
    if (!is_computed(op)) continue;
    graph.erase_attr(id, "kernel");
    TRY_ASSIGN(const Kernel* kernel, kernel_for(op, OpLaunch(graph, op)));
    graph.set_attr(id, {"kernel", kernel->name});
    ++context.entry.rewrites[std::string(kernel->name)];
  }
  return {};
}

}  // namespace ll
