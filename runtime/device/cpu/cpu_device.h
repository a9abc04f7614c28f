// The CPU as a device: one team of threads runs a program's launches one after another.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "kernels/kernel.h"
#include "runtime/device/cpu/placement.h"
#include "runtime/device/device.h"
#include "runtime/plan/weights.h"

namespace ll {

struct CpuOptions {
  int threads = 0;             // 0: default_threads() of runtime/device/cpu/machine.h
  std::optional<Isa> isa;      // absent: best_isa(). A plan of reference kernels runs at kScalar whatever is asked
  bool timed = false;          // what launches took is printed to stderr at the end
  bool deterministic = false;  // KernelCall::deterministic
  // The nodes of the threads (place()), which then are as many as `threads`. Empty: anywhere.
  std::vector<NodeShare> shares{};
};

// Bytes of the arena, step inputs, logits and each thread's scratch; the largest uint64_t when no address space holds
// them.
uint64_t working_bytes(const Plan& plan, int threads);

// Memory for the arena, the KV pool (address space; pages are taken when first written), step inputs, logits and each
// thread's scratch is taken here, so run() allocates nothing. kUnsupported for a level this machine lacks, kUsage for
// more than kMaxThreads threads, kOutOfMemory for what cannot be mapped.
Result<std::unique_ptr<Device>> open_cpu_device(const Plan& plan, Weights weights, const CpuOptions& options);

}  // namespace ll
