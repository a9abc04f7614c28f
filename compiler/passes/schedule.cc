// Orders the ops so that little memory is live at once. Sources and views, which cost none, stand right before their
// first reader. Of the ops that could come next, the one that adds the least (result minus what it reads for the last
// time) does; on a tie, the one that came first. Where that is no better than the order found, the order found stays.
#include <algorithm>
#include <set>
#include <tuple>

#include "compiler/passes/passes.h"

namespace ll {
namespace {

using ir::Graph;
using ir::Op;
using ir::OpId;
using ir::Value;

// The computed ops, in the list's order, and the memory they pass on. Slices count as what they are slices of.
struct Unit {
  OpId op = ir::kNoOp;
  std::vector<size_t> reads;  // units whose memory it reads, each once
  int64_t bytes = 0;          // its own result in the arena
  size_t readers = 0;         // units that read its result
};

std::vector<Unit> units_of(const Graph& g) {
  std::vector<Unit> units;
  constexpr size_t kNone = SIZE_MAX;
  std::vector<size_t> unit_of(g.id_limit(), kNone);  // by op; a slice has its base's
  for (const OpId id : g.order()) {
    const Op& op = g.op(id);
    if (op.operands.empty()) continue;
    if (op.is("slice")) {
      unit_of[static_cast<size_t>(id)] = unit_of[static_cast<size_t>(op.operands[0].op)];
      continue;
    }
    unit_of[static_cast<size_t>(id)] = units.size();
    Unit& u = units.emplace_back();
    u.op = id;
    if (in_arena(g, {id, 0})) u.bytes = arena_bytes(op.results[0].type);
    for (const Value v : op.operands) {
      if (const size_t read = unit_of[static_cast<size_t>(v.op)]; read != kNone) u.reads.push_back(read);
    }
    std::sort(u.reads.begin(), u.reads.end());
    u.reads.erase(std::unique(u.reads.begin(), u.reads.end()), u.reads.end());
    for (const size_t r : u.reads) ++units[r].readers;
  }
  return units;
}

int64_t peak_bytes(const std::vector<Unit>& units, const std::vector<size_t>& order) {
  std::vector<size_t> readers(units.size());
  for (size_t u = 0; u < units.size(); ++u) readers[u] = units[u].readers;
  int64_t live = 0, peak = 0;
  for (const size_t u : order) {
    live += units[u].bytes;
    peak = std::max(peak, live);
    if (readers[u] == 0) live -= units[u].bytes;
    for (const size_t r : units[u].reads) {
      if (--readers[r] == 0) live -= units[r].bytes;
    }
  }
  return peak;
}

std::vector<size_t> least_first(const std::vector<Unit>& units) {
  std::vector<size_t> waiting(units.size()), readers(units.size());
  std::vector<size_t> readers_left_sum(units.size(), 0);  // of their numbers: with one reader left, its number
  std::vector<std::vector<size_t>> read_by(units.size());
  std::vector<int64_t> delta(units.size());
  for (size_t u = 0; u < units.size(); ++u) {
    waiting[u] = units[u].reads.size();
    readers[u] = units[u].readers;
    delta[u] = units[u].bytes;
    for (const size_t r : units[u].reads) {
      read_by[r].push_back(u);
      readers_left_sum[r] += u;
    }
  }
  for (size_t r = 0; r < units.size(); ++r) {
    if (readers[r] == 1) delta[readers_left_sum[r]] -= units[r].bytes;
  }
  std::set<std::pair<int64_t, size_t>> ready;
  for (size_t u = 0; u < units.size(); ++u) {
    if (waiting[u] == 0) ready.emplace(delta[u], u);
  }
  std::vector<size_t> order;
  while (!ready.empty()) {
    const size_t u = ready.begin()->second;
    ready.erase(ready.begin());
    order.push_back(u);
    for (const size_t r : units[u].reads) {
      readers_left_sum[r] -= u;
      if (--readers[r] != 1) continue;
      const size_t last = readers_left_sum[r];
      const bool was_ready = ready.erase({delta[last], last}) != 0;
      delta[last] -= units[r].bytes;
      if (was_ready) ready.emplace(delta[last], last);
    }
    for (const size_t next : read_by[u]) {
      if (--waiting[next] == 0) ready.emplace(delta[next], next);
    }
  }
  return order;
}

}  // namespace

Status schedule(Graph& graph, PassContext& context) {
  const std::vector<Unit> units = units_of(graph);
  std::vector<size_t> found(units.size());
  for (size_t u = 0; u < units.size(); ++u) found[u] = u;
  std::vector<size_t> order = least_first(units);
  const int64_t before = peak_bytes(units, found), after = peak_bytes(units, order);
  if (after >= before) order = found;
  context.entry.notes.push_back(fmt::format("{} bytes live at most, {} before", std::min(before, after), before));

  // Computed ops in their new order, everything else behind them: restore_order pulls each to its first reader.
  const std::vector<OpId> all = graph.order();
  for (const size_t u : order) graph.move_before(units[u].op, ir::kNoOp);
  for (const OpId id : all) {
    if (!is_computed(graph.op(id))) graph.move_before(id, ir::kNoOp);
  }
  return graph.restore_order();
}

}  // namespace ll
