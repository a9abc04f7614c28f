// What the operating system says about the CPUs and memory this process may use.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ll {

// A NUMA node: CPUs and the memory next to them.
struct NumaNode {
  int id = 0;
  std::vector<int> cpus{};       // those this process may use, ascending
  int cores = 0;                 // physical cores among them
  uint64_t memory_bytes = 0;     // 0: none, or none that this process may take (cpuset)
  std::vector<int> distances{};  // to each of Machine::nodes, 10 to itself; empty when unknown
};

struct Machine {
  std::string cpu;                                 // model name, "" when unknown
  int cpus = 1;                                    // logical CPUs online
  int allowed_cpus = 1;                            // of those, by this process's affinity
  int allowed_cores = 1;                           // physical cores among the allowed CPUs
  double cgroup_cpus = 0;                          // CPU quota of the tightest cgroup above this process; 0: none
  uint64_t l3_bytes = 0;                           // largest cache of the first allowed CPU; 0 when unknown
  uint64_t memory_bytes = 0, available_bytes = 0;  // MemTotal, MemAvailable
  uint64_t cgroup_memory_bytes = 0;                // tightest memory limit; 0: none
  std::string transparent_huge_pages;              // "always", "madvise", "never"; "" when unknown
  std::vector<NumaNode> nodes;                     // by id; empty: a single one, or the system does not tell
};

// `root`: prefix of /proc and /sys, for tests; the allowed CPUs are then those of /proc/self/status. Whatever cannot be
// read keeps its default.
Machine read_machine(const std::string& root = "");

// Threads that use the machine without oversubscribing it: the allowed cores (of a single core all its hardware
// threads), at most the whole CPUs of the cgroup's quota, at least 1.
int default_threads(const Machine& machine);
// The same of one of its nodes.
int default_threads(const Machine& machine, const NumaNode& node);

// "0-3,8" -> 0 1 2 3 8. Malformed parts are left out.
std::vector<int> parse_cpu_list(const std::string& text);

}  // namespace ll
