#include "ir/rewriter.h"

#include <algorithm>

namespace ll::ir {

namespace {

bool is_dead(const Graph& graph, OpId id) {
  const auto& results = graph.op(id).results;
  return std::all_of(results.begin(), results.end(), [](const OpResult& r) { return r.uses.empty(); });
}

}  // namespace

void replace(Graph& graph, OpId root, Value value) {
  const std::string name = graph.name({root, 0});
  graph.replace_all_uses({root, 0}, value);
  graph.erase(root);
  graph.rename(value, name);
}

int64_t erase_dead(Graph& graph) {
  int64_t erased = 0;
  std::vector<OpId> work = graph.order();  // taken from its end: readers before what they read
  while (!work.empty()) {
    const OpId id = work.back();
    work.pop_back();
    if (!graph.alive(id) || !is_dead(graph, id)) continue;
    const std::vector<Value> operands = graph.op(id).operands;
    graph.erase(id);
    ++erased;
    for (const Value v : operands) work.push_back(v.op);
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
        if (is_dead(graph, id)) continue;
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
