// How fast this machine streams memory into its cores.
#pragma once

#include <cstdint>

#include "runtime/base/result.h"

namespace ll {

// Bytes a second that `threads` threads together read from a buffer of `bytes` bytes, each a part of its own, front to
// back: the median of several passes. kOutOfMemory when the buffer cannot be had.
Result<double> measure_read_bandwidth(uint64_t bytes, int threads);

}  // namespace ll
