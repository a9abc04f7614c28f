// Which NUMA nodes memory is taken from, by the kernel's memory policies.
//
// Containers often forbid their system calls, kernels may lack them: functions return 0 or the errno, and whoever calls
// says so and goes on, since memory then still lies where it is first touched.
#pragma once

#include <cstddef>
#include <map>
#include <span>

#include "runtime/base/cpu_affinity.h"
#include "runtime/device/cpu/placement.h"

namespace ll {

// Asks for the pages of `memory` that are not yet taken: of one node as long as it has some, of several in turn. Whole
// pages count: those that reach out of `memory` keep their policy. No nodes: does nothing.
int place_memory(std::span<std::byte> memory, std::span<const int> nodes);

struct MemoryPolicy {
  bool own = false;  // the thread came with a policy (numactl), which takes precedence over ours
  int error = 0;     // the errno for which it is unknown
};
MemoryPolicy memory_policy_of_this_thread();

struct CachedPages {
  std::map<int, double> parts;  // by node, of all pages; in sum at most 1, the rest is not in memory
  int error = 0;                // the errno for which it is unknown; EACCES too where `file` is somebody else's
};
// On which nodes those pages of a mapping of the open `file` lie that are cached, estimated from kSampledPages of them
// at most. Reads nothing from the disk.
inline constexpr size_t kSampledPages = 1024;
CachedPages cached_pages(std::span<const std::byte> mapping, int file);

// While it lives the calling thread and those it starts run on the shares' CPUs, and what they touch first, files that
// are not cached among it, lies on the shares' nodes: on several in turn, unless the thread came with a policy. For
// memory that is filled by whichever thread is free and read by others. Without shares: does nothing.
class LoadingOnNodes {
 public:
  explicit LoadingOnNodes(std::span<const NodeShare> shares);
  LoadingOnNodes(const LoadingOnNodes&) = delete;
  LoadingOnNodes& operator=(const LoadingOnNodes&) = delete;
  ~LoadingOnNodes();

 private:
  BoundThread bound_;
  bool in_turn_ = false;
};

}  // namespace ll
