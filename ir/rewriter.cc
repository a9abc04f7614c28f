#include "ir/rewriter.h"

#include <algorithm>

namespace ll::ir {

int64_t erase_dead(Graph& graph) {
  int64_t erased = 0;
  std::vector<OpId> order = graph.order();
  std::reverse(order.begin(), order.end());  // readers before what they read: one walk finds all
  for (const OpId id : order) {
    const auto& results = graph.op(id).results;
    if (std::all_of(results.begin(), results.end(), [](const OpResult& r) { return r.uses.empty(); })) {
      graph.erase(id);
      ++erased;
    }
  }
  return erased;
}

Status rewrite(Graph& graph, std::span<const Pattern> patterns, RewriteCounts* counts) {
  for (int walk = 0;; ++walk) {
    bool changed = false;
    for (const OpId id : graph.order()) {
      for (const Pattern& p : patterns) {
        // A rewrite may have left the op unused; it is erased below.
        if (!graph.alive(id) || !graph.op(id).is(p.root)) continue;
        const auto& results = graph.op(id).results;
        if (std::all_of(results.begin(), results.end(), [](const OpResult& r) { return r.uses.empty(); })) continue;
        TRY_ASSIGN(const bool applied, p.apply(graph, id));
        if (!applied) continue;
        changed = true;
        if (counts != nullptr) ++(*counts)[std::string(p.name)];
      }
    }
    erase_dead(graph);
    if (!changed) return {};
    if (walk == kMaxWalks) return error(Code::kInternal, "rewrites do not end: {} walks changed the graph", kMaxWalks);
  }
}

}  // namespace ll::ir
