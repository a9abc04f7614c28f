// Which CPUs a thread may run on.
#pragma once

#include <sched.h>

#include <array>
#include <span>
#include <vector>

namespace ll {

inline constexpr int kMaxCpus = 8192;

// A set of CPUs as the system takes it.
class CpuSet {
 public:
  CpuSet();  // none
  // Numbers outside [0, kMaxCpus) are left out.
  explicit CpuSet(std::span<const int> cpus);
  // Those of the calling thread; none when the system does not tell.
  static CpuSet of_this_thread();

  std::vector<int> cpus() const;  // ascending
  bool empty() const;
  bool contains(const CpuSet& other) const;
  // Lets the calling thread run on these alone. 0, or the errno, and then nothing has changed.
  int bind_this_thread() const;

 private:
  size_t bytes() const { return words_.size() * sizeof(cpu_set_t); }

  std::array<cpu_set_t, kMaxCpus / CPU_SETSIZE> words_;
};

// While it lives the calling thread runs on `cpus` alone, as do threads that it starts, which stay there; then it runs
// where it did before. A thread that is kept to some of `cpus` already, and one whose CPUs are not known, is left
// alone; so is every thread when `cpus` is empty.
class BoundThread {
 public:
  explicit BoundThread(const CpuSet& cpus);
  BoundThread(const BoundThread&) = delete;
  BoundThread& operator=(const BoundThread&) = delete;
  ~BoundThread();

  // 0, or the errno for which the thread is not bound.
  int error() const { return error_; }

 private:
  CpuSet before_;
  bool bound_ = false;
  int error_ = 0;
};

}  // namespace ll
