#include "runtime/base/cpu_affinity.h"

#include <cerrno>

namespace ll {

CpuSet::CpuSet() { CPU_ZERO_S(bytes(), words_.data()); }

CpuSet::CpuSet(std::span<const int> cpus) : CpuSet() {
  for (const int cpu : cpus) {
    if (cpu >= 0 && cpu < kMaxCpus) CPU_SET_S(static_cast<size_t>(cpu), bytes(), words_.data());
  }
}

CpuSet CpuSet::of_this_thread() {
  CpuSet set;
  if (sched_getaffinity(0, set.bytes(), set.words_.data()) != 0) return {};
  return set;
}

std::vector<int> CpuSet::cpus() const {
  std::vector<int> cpus;
  for (int cpu = 0; cpu < kMaxCpus; ++cpu) {
    if (CPU_ISSET_S(static_cast<size_t>(cpu), bytes(), words_.data())) cpus.push_back(cpu);
  }
  return cpus;
}

bool CpuSet::empty() const { return CPU_COUNT_S(bytes(), words_.data()) == 0; }

bool CpuSet::contains(const CpuSet& other) const {
  CpuSet both;
  CPU_AND_S(bytes(), both.words_.data(), words_.data(), other.words_.data());
  return CPU_EQUAL_S(bytes(), both.words_.data(), other.words_.data()) != 0;
}

int CpuSet::bind_this_thread() const { return sched_setaffinity(0, bytes(), words_.data()) == 0 ? 0 : errno; }

BoundThread::BoundThread(const CpuSet& cpus) {
  if (cpus.empty()) return;
  before_ = CpuSet::of_this_thread();
  if (before_.empty() || cpus.contains(before_)) return;
  error_ = cpus.bind_this_thread();
  bound_ = error_ == 0;
}

BoundThread::~BoundThread() {
  if (bound_) before_.bind_this_thread();
}

}  // namespace ll
