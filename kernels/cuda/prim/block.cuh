// Words of a block: all its threads must reach each of them together.
#pragma once

#include "prim/warp.cuh"

namespace ll::cuda {

#if defined(__CUDACC__)

DEVICE void sync_block() { __syncthreads(); }
// How many threads came with true.
DEVICE int sync_block_count(bool vote) { return __syncthreads_count(vote); }

#else

DEVICE void sync_block() { emulated::ll_emulator->block_barrier("sync_block", false); }
DEVICE int sync_block_count(bool vote) {
  return static_cast<int>(emulated::ll_emulator->block_barrier("sync_block_count", vote));
}

#endif

// Reductions over a block of kThreads (a multiple of 32), given to every thread: within warps, then over warps in
// order. Two barriers.
template <int kThreads>
DEVICE float block_sum(float value) {
  SHARED(float, block_sums, kThreads / kWarp);
  value = warp_sum(value);
  if (lane() == 0) block_sums[warp()] = value;
  sync_block();
  float sum = block_sums[0];
#pragma unroll
  for (int i = 1; i < kThreads / kWarp; ++i) sum += block_sums[i];
  sync_block();
  return sum;
}

template <int kThreads>
DEVICE float block_max(float value) {
  SHARED(float, block_maxima, kThreads / kWarp);
  value = warp_max(value);
  if (lane() == 0) block_maxima[warp()] = value;
  sync_block();
  float largest = block_maxima[0];
#pragma unroll
  for (int i = 1; i < kThreads / kWarp; ++i) largest = block_maxima[i] > largest ? block_maxima[i] : largest;
  sync_block();
  return largest;
}

}  // namespace ll::cuda
