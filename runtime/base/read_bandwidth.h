// How fast this machine streams memory into its cores.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/base/cpu_affinity.h"
#include "runtime/base/result.h"

namespace ll {

// Bytes a second that `threads` threads together read from a buffer of `bytes` bytes, each a part of its own: of
// several ways to read it (front to back; there asking for lines ahead; in four places at once) the fastest by its
// median. `cpus`: where each thread runs, this one during the call; none: anywhere. kOutOfMemory when the buffer cannot
// be had.
Result<double> measure_read_bandwidth(uint64_t bytes, int threads, std::span<const CpuSet> cpus = {});

}  // namespace ll
