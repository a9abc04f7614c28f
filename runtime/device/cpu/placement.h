// Which NUMA nodes a team of threads runs on and where its memory lies.
//
// A CPU reads the memory of its own node at full speed and that of others over a link that is slower and that all
// share. On a machine of one node, as in most virtual machines and containers, nothing is placed: no thread is bound,
// no system call made. On one of several:
//
//   threads    run on as few nodes as have a core for each, and each stays on one node: on all of its CPUs, since the
//              system balances better within a node than we could. Of equal nodes it is where the opening thread runs,
//              which the system put where there was room: so that two processes do not share a node, the other idle.
//   one node   all memory that is ours is asked for there, and taken elsewhere when the node is full.
//   several    What one thread owns (its scratch, its range of every weight: the same panels in every step) lies where
//              that thread first touches it. What all threads read (KV pages, arena, logits) goes to the nodes in turn,
//              so that no node's memory is the one that all wait for. Huge pages go whole: the first 2 MB of a layer's
//              keys lie on one node, which is little beside the weights as long as it is all there is.
//
// The hardest case: weights are pages of the plan's file in the system's page cache. They lie where whoever first read
// or wrote the file ran, other processes use them too, and no policy moves them: only a file that was not cached is
// read to where its threads are; `llrt doctor PLAN` says where it lies. A copy for each node would be local always and
// take the memory twice: not done.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/device/cpu/machine.h"

namespace ll {

struct NumaChoice {
  bool off = false;           // threads and memory as the system likes
  std::optional<int> node{};  // run on this one
};

// "" or "auto", "off", "1". kUsage for others.
Result<NumaChoice> parse_numa(std::string_view text);

// The threads of a team on one node: as many as `threads`, after those of the shares before.
struct NodeShare {
  int node = 0;
  int threads = 0;
  std::vector<int> cpus{};  // which the process may use
  bool has_memory = true;   // that the process may take
};

struct Placement {
  int threads = 1;
  std::vector<NodeShare> shares;  // by node, of at least one thread each; empty: nothing is placed
};

// `threads`: 0: default_threads() of the machine, or of the node that is chosen. `current_cpu`: of the opening thread,
// -1 when unknown. kUsage for a node that is not there or has no CPU for this process.
Result<Placement> place(const Machine& machine, int threads, const NumaChoice& choice, int current_cpu);

// Nodes whose memory the threads take.
std::vector<int> memory_nodes(std::span<const NodeShare> shares);

// "16 threads on node 0, 16 on node 1"; "" without shares.
std::string describe(std::span<const NodeShare> shares);

}  // namespace ll
