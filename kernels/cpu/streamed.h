// When the SIMD levels write outputs past the caches.
#pragma once

#include <cstdint>

namespace ll {

// From this many bytes of a thread's outputs on: a line that is written to a cache is read first, and outputs that do
// not stay in the L2 cache push out what would. Slabs of q8a always are (kernels/cpu/avx512/quantize.cc).
inline constexpr int64_t kStreamedBytes = int64_t{1} << 20;

}  // namespace ll
