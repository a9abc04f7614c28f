#include "runtime/device/cpu/node_memory.h"

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <string>
#include <vector>

namespace ll {
namespace {

constexpr size_t kMaxNodes = 1024;  // what kernels are built for at most
constexpr size_t kWordBits = 8 * sizeof(unsigned long);
constexpr unsigned long kMaskBits = kMaxNodes + 1;  // the kernel takes one off

using NodeMask = std::array<unsigned long, kMaxNodes / kWordBits>;

NodeMask mask_of(std::span<const int> nodes) {
  NodeMask mask{};
  for (const int node : nodes) {
    const auto n = static_cast<size_t>(node);
    if (n < kMaxNodes) mask[n / kWordBits] |= 1UL << n % kWordBits;
  }
  return mask;
}

int set_thread_policy(int mode, std::span<const int> nodes) {
  const NodeMask mask = mask_of(nodes);
  const auto* const words = nodes.empty() ? nullptr : mask.data();
  return syscall(SYS_set_mempolicy, mode, words, words == nullptr ? 0UL : kMaskBits) == 0 ? 0 : errno;
}

// Of all shares. None: no shares.
CpuSet cpus_of(std::span<const NodeShare> shares) {
  std::vector<int> cpus;
  for (const NodeShare& s : shares) cpus.insert(cpus.end(), s.cpus.begin(), s.cpus.end());
  return CpuSet(cpus);
}

}  // namespace

int place_memory(std::span<std::byte> memory, std::span<const int> nodes) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  const uintptr_t begin = (address + page - 1) / page * page, end = (address + memory.size()) / page * page;
  if (begin >= end || nodes.empty()) return 0;
  const NodeMask mask = mask_of(nodes);
  // Of one node, preferred: were it bound to, the process would be killed when the node is full.
  const int mode = nodes.size() == 1 ? MPOL_PREFERRED : MPOL_INTERLEAVE;
  return syscall(SYS_mbind, begin, end - begin, mode, mask.data(), kMaskBits, 0U) == 0 ? 0 : errno;
}

MemoryPolicy memory_policy_of_this_thread() {
  int mode = MPOL_DEFAULT;
  if (syscall(SYS_get_mempolicy, &mode, nullptr, 0UL, nullptr, 0UL) != 0) return {.error = errno};
  return {.own = mode != MPOL_DEFAULT && mode != MPOL_LOCAL};
}

CachedPages cached_pages(std::span<const std::byte> mapping, int file) {
  struct stat info {};
  if (fstat(file, &info) != 0) return {{}, errno};
  // Of files of others the kernel calls every page cached, and asking for its place would make it so.
  const std::string name = fmt::format("/proc/self/fd/{}", file);
  if (info.st_uid != geteuid() && access(name.c_str(), W_OK) != 0) return {{}, EACCES};
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t pages = mapping.size() / page, step = pages / kSampledPages + 1;
  auto* const first = const_cast<std::byte*>(mapping.data()) - reinterpret_cast<uintptr_t>(mapping.data()) % page;
  std::vector<void*> cached;
  size_t samples = 0;
  for (size_t i = 0; i < pages; i += step, ++samples) {
    unsigned char in_memory = 0;
    if (mincore(first + i * page, page, &in_memory) != 0) return {{}, errno};
    if ((in_memory & 1) == 0) continue;
    cached.push_back(first + i * page);
    // Its place is known once it is in this process's page tables.
    [[maybe_unused]] const std::byte touched = *static_cast<const volatile std::byte*>(first + i * page);
  }
  CachedPages found;
  if (cached.empty()) return found;
  std::vector<int> nodes(cached.size());
  if (syscall(SYS_move_pages, 0, cached.size(), cached.data(), nullptr, nodes.data(), 0) != 0) {
    found.error = errno;
    return found;
  }
  for (const int node : nodes) {
    if (node >= 0) found.parts[node] += 1.0 / static_cast<double>(samples);  // else an errno: it has left by now
  }
  return found;
}

LoadingOnNodes::LoadingOnNodes(std::span<const NodeShare> shares) : bound_(cpus_of(shares)) {
  const std::vector<int> nodes = memory_nodes(shares);
  if (nodes.size() < 2) return;  // of one, it is local to the threads
  const MemoryPolicy policy = memory_policy_of_this_thread();
  in_turn_ = policy.error == 0 && !policy.own && set_thread_policy(MPOL_INTERLEAVE, nodes) == 0;
}

LoadingOnNodes::~LoadingOnNodes() {
  if (in_turn_) set_thread_policy(MPOL_DEFAULT, {});
}

}  // namespace ll
