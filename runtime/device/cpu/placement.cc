#include "runtime/device/cpu/placement.h"

#include <algorithm>
#include <charconv>
#include <tuple>
#include <utility>

namespace ll {
namespace {

using Nodes = std::vector<const NumaNode*>;

bool has_cpu(const NumaNode& node, int cpu) { return std::binary_search(node.cpus.begin(), node.cpus.end(), cpu); }

// Distance to machine.nodes[to]; as far as another node usually is when the system does not tell.
int distance(const NumaNode& from, size_t to) {
  constexpr int kUsual = 20;
  return to < from.distances.size() ? from.distances[to] : kUsual;
}

// As few nodes as have a core for each thread, else all. By id.
Nodes choose(const Machine& machine, Nodes usable, int threads, int current_cpu) {
  Nodes chosen;
  int cores = 0;
  while (cores < threads && !usable.empty()) {
    // The best of what is left is the least: with memory, near the first one chosen, large.
    const auto rank = [&](const NumaNode* node) {
      const auto index = static_cast<size_t>(node - machine.nodes.data());
      return std::tuple(node->memory_bytes == 0, chosen.empty() ? 0 : distance(*chosen.front(), index), -node->cores,
                        !has_cpu(*node, current_cpu), node->id);
    };
    const auto best = std::min_element(usable.begin(), usable.end(),
                                       [&](const NumaNode* a, const NumaNode* b) { return rank(a) < rank(b); });
    cores += (*best)->cores;
    chosen.push_back(*best);
    usable.erase(best);
  }
  std::sort(chosen.begin(), chosen.end(), [](const NumaNode* a, const NumaNode* b) { return a->id < b->id; });
  return chosen;
}

// To each node its part of the threads, by its cores.
std::vector<NodeShare> share(const Nodes& nodes, int threads) {
  int64_t total = 0, before = 0;
  for (const NumaNode* node : nodes) total += node->cores;
  std::vector<NodeShare> shares;
  int given = 0;
  for (const NumaNode* node : nodes) {
    before += node->cores;
    // So that none gets more than it has cores while all together have enough.
    const int until = static_cast<int>(threads * before / total);
    if (until > given) shares.push_back({node->id, until - given, node->cpus, node->memory_bytes > 0});
    given = until;
  }
  return shares;
}

std::string list(const Nodes& nodes) {
  std::string text;
  for (size_t i = 0; i < nodes.size(); ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : i + 1 == nodes.size() ? " or " : ", ", nodes[i]->id);
  }
  return text;
}

}  // namespace

Result<NumaChoice> parse_numa(std::string_view text) {
  if (text.empty() || text == "auto") return NumaChoice{};
  if (text == "off") return NumaChoice{.off = true};
  int node = -1;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), node);
  if (failed != std::errc() || end != text.data() + text.size() || node < 0) {
    return usage("numa is '{}', expected auto, off or the number of a node", text);
  }
  return NumaChoice{.node = node};
}

Result<Placement> place(const Machine& machine, int threads, const NumaChoice& choice, int current_cpu) {
  Nodes usable;
  for (const NumaNode& node : machine.nodes) {
    if (!node.cpus.empty()) usable.push_back(&node);
  }
  if (choice.node && !(usable.empty() && *choice.node == 0)) {  // a single node's number is unknown, but most are 0
    if (usable.empty()) return usage("numa is node {}, but this machine has a single one", *choice.node);
    const auto node = std::find_if(usable.begin(), usable.end(), [&](auto* n) { return n->id == *choice.node; });
    if (node == usable.end()) {
      return usage("numa is node {}, expected one whose CPUs this process may use: {}", *choice.node, list(usable));
    }
    Placement placement{threads == 0 ? default_threads(machine, **node) : threads, {}};
    placement.shares = share({*node}, placement.threads);
    return placement;
  }
  Placement placement{threads == 0 ? default_threads(machine) : threads, {}};
  if (choice.off || usable.size() < 2) return placement;
  placement.shares = share(choose(machine, usable, placement.threads, current_cpu), placement.threads);
  return placement;
}

std::vector<int> memory_nodes(std::span<const NodeShare> shares) {
  std::vector<int> nodes;
  for (const NodeShare& s : shares) {
    if (s.has_memory) nodes.push_back(s.node);
  }
  return nodes;
}

std::string describe(std::span<const NodeShare> shares) {
  std::string text;
  for (const NodeShare& s : shares) {
    const std::string_view unit = !text.empty() ? "" : s.threads == 1 ? " thread" : " threads";
    text += fmt::format("{}{}{} on node {}", text.empty() ? "" : ", ", s.threads, unit, s.node);
  }
  return text;
}

}  // namespace ll
