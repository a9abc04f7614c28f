// Greedy rewriting: patterns are tried on every op until none applies.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "ir/graph.h"
#include "runtime/base/result.h"

namespace ll::ir {

// A rewrite of a small shape that ends in one op, its root. `apply` looks from the root towards its operands and, where
// the shape matches, changes the graph and returns true; otherwise it changes nothing and returns false. New ops go
// right before the root. What the rewrite leaves without uses is erased by the driver, the root too.
struct Pattern {
  std::string_view name;
  std::string_view root;  // the root's op
  Result<bool> (*apply)(Graph& graph, OpId root);
};

// Rewrites per pattern name.
using RewriteCounts = std::map<std::string, int64_t, std::less<>>;

// Walks the list from its start and tries the patterns in their order on each op; repeats until a walk changes nothing.
// Then values without uses are erased. kInternal after kMaxWalks walks: two patterns undo each other.
Status rewrite(Graph& graph, std::span<const Pattern> patterns, RewriteCounts* counts = nullptr);

// For patterns: every reader of the root's first result reads `value` instead, which takes over its name; the root is
// erased.
void replace(Graph& graph, OpId root, Value value);

// Erases every op none of whose results is used, and their operands in turn. Returns how many.
int64_t erase_dead(Graph& graph);

inline constexpr int kMaxWalks = 64;

}  // namespace ll::ir
