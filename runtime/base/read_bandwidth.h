// How fast this machine streams memory into its cores.
#pragma once

#include <barrier>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "runtime/base/cpu_affinity.h"
#include "runtime/base/result.h"

namespace ll {

// Threads that wait to read a buffer together, each a part of its own, in the way that is fastest here: front to back,
// with lines asked for ahead, or in four places at once.
class ReadBandwidth {
 public:
  // The buffer has `bytes` bytes, or some fewer. `cpus`: where each thread runs, whoever measures during that time;
  // none: anywhere. kOutOfMemory when the buffer or a thread cannot be had.
  static Result<std::unique_ptr<ReadBandwidth>> open(uint64_t bytes, int threads, std::span<const CpuSet> cpus = {});
  ReadBandwidth(const ReadBandwidth&) = delete;
  ReadBandwidth& operator=(const ReadBandwidth&) = delete;
  ~ReadBandwidth();

  // Bytes a second: the median of some passes.
  double measure(int passes = 5);

 private:
  using Way = uint64_t (*)(const std::byte* begin, const std::byte* end);

  ReadBandwidth(std::byte* memory, uint64_t bytes, int threads, std::span<const CpuSet> cpus);
  CpuSet cpus_of(size_t thread) const;
  void fill(size_t thread);     // so that each page is real and near who reads it
  bool pass_of(size_t thread);  // false at the end of all

  std::byte* const memory_;
  const uint64_t bytes_;
  const size_t threads_;
  const std::vector<CpuSet> cpus_;
  std::vector<uint64_t> sums_;
  Way way_ = nullptr;  // null: threads end
  std::barrier<> start_, end_;
  std::vector<std::thread> team_;
};

// That of a ReadBandwidth made for it.
Result<double> measure_read_bandwidth(uint64_t bytes, int threads);

}  // namespace ll
