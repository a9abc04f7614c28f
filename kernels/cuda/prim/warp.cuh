// Words of a warp: all 32 lanes must reach each of them together.
#pragma once

#include "prim/device.cuh"

namespace ll::cuda {

#if defined(__CUDACC__)

DEVICE void sync_warp() { __syncwarp(); }
// The value of lane `source`, of lane ^ mask, of lane - delta (below delta: one's own), of lane + delta.
DEVICE u32 shuffle(u32 value, int source) { return __shfl_sync(kAllLanes, value, source); }
DEVICE u32 shuffle_xor(u32 value, int mask) { return __shfl_xor_sync(kAllLanes, value, mask); }
DEVICE u32 shuffle_up(u32 value, int delta) { return __shfl_up_sync(kAllLanes, value, delta); }
DEVICE u32 shuffle_down(u32 value, int delta) { return __shfl_down_sync(kAllLanes, value, delta); }
// Bit i: lane i came with true.
DEVICE u32 ballot(bool vote) { return __ballot_sync(kAllLanes, vote); }

#else

namespace emulated {

// out of all lanes from in of all lanes.
template <class In, class Out, void (*kAll)(const In*, Out*)>
inline Out meet(const char* name, const In& in) {
  Out out;
  ll_emulator->warp(name, &in, sizeof(In), &out, sizeof(Out), [](const void* inputs, void* outputs) {
    kAll(static_cast<const In*>(inputs), static_cast<Out*>(outputs));
  });
  return out;
}

struct Shuffle {
  u32 value;
  int lane;  // read from
};
inline void shuffle_all(const Shuffle* in, u32* out) {
  for (int i = 0; i < kWarp; ++i) out[i] = in[in[i].lane & 31].value;
}
inline u32 read_lane(const char* name, u32 value, int source) {
  return meet<Shuffle, u32, shuffle_all>(name, {value, source});
}
inline void ballot_all(const u32* in, u32* out) {
  u32 votes = 0;
  for (int i = 0; i < kWarp; ++i) votes |= (in[i] != 0 ? 1u : 0u) << i;
  for (int i = 0; i < kWarp; ++i) out[i] = votes;
}

}  // namespace emulated

DEVICE void sync_warp() { emulated::meet<u32, u32, emulated::ballot_all>("sync_warp", 0); }
DEVICE u32 shuffle(u32 value, int source) { return emulated::read_lane("shuffle", value, source); }
DEVICE u32 shuffle_xor(u32 value, int mask) { return emulated::read_lane("shuffle_xor", value, lane() ^ mask); }
DEVICE u32 shuffle_up(u32 value, int delta) {
  return emulated::read_lane("shuffle_up", value, lane() < delta ? lane() : lane() - delta);
}
DEVICE u32 shuffle_down(u32 value, int delta) {
  return emulated::read_lane("shuffle_down", value, lane() + delta >= kWarp ? lane() : lane() + delta);
}
DEVICE u32 ballot(bool vote) { return emulated::meet<u32, u32, emulated::ballot_all>("ballot", vote ? 1u : 0u); }

#endif

DEVICE bool any(bool vote) { return ballot(vote) != 0; }
DEVICE bool all(bool vote) { return ballot(vote) == kAllLanes; }

DEVICE float shuffle(float value, int source) { return bits<float>(shuffle(bits<u32>(value), source)); }
DEVICE float shuffle_xor(float value, int mask) { return bits<float>(shuffle_xor(bits<u32>(value), mask)); }
DEVICE float shuffle_down(float value, int delta) { return bits<float>(shuffle_down(bits<u32>(value), delta)); }
DEVICE int shuffle(int value, int source) { return bits<int>(shuffle(bits<u32>(value), source)); }
DEVICE int shuffle_xor(int value, int mask) { return bits<int>(shuffle_xor(bits<u32>(value), mask)); }
DEVICE int shuffle_up(int value, int delta) { return bits<int>(shuffle_up(bits<u32>(value), delta)); }

// Reductions over groups of kLanes neighbours (a power of two), given to each of them. The order of a float sum is the
// tree of halves, widest distance first, whatever the lane.
template <int kLanes = kWarp>
DEVICE float warp_sum(float value) {
#pragma unroll
  for (int mask = kLanes / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}
template <int kLanes = kWarp>
DEVICE int warp_sum(int value) {
#pragma unroll
  for (int mask = kLanes / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}
template <int kLanes = kWarp>
DEVICE u32 warp_max(u32 value) {
#pragma unroll
  for (int mask = kLanes / 2; mask > 0; mask /= 2) {
    const u32 other = shuffle_xor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}
// A NaN is lost where the other number is none.
template <int kLanes = kWarp>
DEVICE float warp_max(float value) {
#pragma unroll
  for (int mask = kLanes / 2; mask > 0; mask /= 2) {
    const float other = shuffle_xor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}

}  // namespace ll::cuda
