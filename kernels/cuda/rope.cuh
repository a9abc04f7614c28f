// Rotary position embedding (kernels/rope.h) and writes into the KV cache (kernels/kv_layout.h):
//
//   rope           y [T, heads * head_dim] = x with each head rotated
//   kv_write       keys and values of T tokens into the cache
//   rope_kv_write  rows [q | k | v]: q rotated into y, k rotated and v as it is into the cache
//
// Moves the rows and their part of the cache once. A block takes kHeads neighbouring heads of one token; its warps
// first make the factors of the position, in double, then take a head each.
#pragma once

#include "kv_store.cuh"
#include "prim/block.cuh"

namespace ll::cuda {

// cosines[kPairs], sines[kPairs] of a position: all threads of the block. Ends with a barrier.
template <class C>
DEVICE void rope_factors(int position, const float* inv_freq, float* cosines, float* sines) {
  for (int i = static_cast<int>(threadIdx.x); i < C::kPairs; i += C::kThreads) {
    float s, c;
    sine_cosine(static_cast<float>(position) * inv_freq[i], s, c);
    cosines[i] = c * float_constant(C::kMscale);
    sines[i] = s * float_constant(C::kMscale);
  }
  sync_block();
}

// Element d of the rotated head x.
template <class C>
DEVICE float rotated(const float* x, int d, const float* cosines, const float* sines) {
  if (d >= 2 * C::kPairs) return x[d];
  const bool second = C::kInterleaved ? d % 2 != 0 : d >= C::kPairs;
  const int pair = C::kInterleaved ? d / 2 : second ? d - C::kPairs : d;
  const int other = C::kInterleaved ? d ^ 1 : second ? d - C::kPairs : d + C::kPairs;
  const float product = x[other] * sines[pair];
  return fma(x[d], cosines[pair], second ? product : -product);
}

// C: kWidth (heads of a row), kHeads, kHeadDim, kPairs, kInterleaved, kMscale, kRowsAreTokens, kStrideX, kStrideY
// (elements), kThreads. Grid: (kWidth / kHeads rounded up, T). y may be x.
template <class C>
__device__ void rope(const Args& args) {
  constexpr int kWarps = C::kThreads / kWarp;
  SHARED(float, cosines, C::kPairs > 0 ? C::kPairs : 1);
  SHARED(float, sines, C::kPairs > 0 ? C::kPairs : 1);
  SHARED(float, heads, kWarps* C::kHeadDim);
  const int token = static_cast<int>(blockIdx.y);
  if (token >= args.step->tokens) return;
  rope_factors<C>(static_cast<const int*>(args.in[1])[token], static_cast<const float*>(args.in[2]), cosines, sines);
  float* head = heads + warp() * C::kHeadDim;
  const int first = static_cast<int>(blockIdx.x) * C::kHeads;
  for (int h = first + warp(); h < minimum(first + C::kHeads, C::kWidth); h += kWarps) {
    const float* x = static_cast<const float*>(args.in[0]) + i64{token} * C::kStrideX + h * C::kHeadDim;
    float* y = static_cast<float*>(args.out[0]) + i64{token} * C::kStrideY + h * C::kHeadDim;
    for (int d = lane(); d < C::kHeadDim; d += kWarp) head[d] = x[d];
    sync_warp();
    for (int d = lane(); d < C::kHeadDim; d += kWarp) y[d] = rotated<C>(head, d, cosines, sines);
    sync_warp();
  }
}

// C: kHeads (of keys), kHeadDim, kPlanes, kPageSize, kKvType, kKvRowBytes, kScalesOffset, kStrideK, kStrideV
// (elements), kThreads. Grid: (kPlanes / warps rounded up, T).
template <class C>
__device__ void kv_write(const Args& args) {
  const int token = static_cast<int>(blockIdx.y);
  const int plane = static_cast<int>(blockIdx.x) * (C::kThreads / kWarp) + warp();
  if (token >= args.step->tokens || plane >= C::kPlanes) return;
  const bool is_value = plane >= C::kHeads;
  const float* source = is_value ? static_cast<const float*>(args.in[2]) + i64{token} * C::kStrideV
                                 : static_cast<const float*>(args.in[1]) + i64{token} * C::kStrideK;
  source += (is_value ? plane - C::kHeads : plane) * C::kHeadDim;
  const int slot = static_cast<const int*>(args.in[3])[token];
  store_kv_row<C>(static_cast<u8*>(args.out[0]) + kv_offset<C>(slot, plane), [&](int d) { return source[d]; });
}

// C: as rope and kv_write, kQueryHeads; kWidth = kQueryHeads + kPlanes. Grid: (kWidth / kHeads rounded up, T).
template <class C>
__device__ void rope_kv_write(const Args& args) {
  constexpr int kWarps = C::kThreads / kWarp, kKvHeads = C::kPlanes / 2;
  SHARED(float, cosines, C::kPairs > 0 ? C::kPairs : 1);
  SHARED(float, sines, C::kPairs > 0 ? C::kPairs : 1);
  SHARED(float, heads, kWarps* C::kHeadDim);
  const int token = static_cast<int>(blockIdx.y);
  if (token >= args.step->tokens) return;
  const int slot = static_cast<const int*>(args.in[3])[token];
  rope_factors<C>(static_cast<const int*>(args.in[2])[token], static_cast<const float*>(args.in[4]), cosines, sines);
  float* head = heads + warp() * C::kHeadDim;
  const int first = static_cast<int>(blockIdx.x) * C::kHeads;
  for (int h = first + warp(); h < minimum(first + C::kHeads, C::kWidth); h += kWarps) {
    const float* x = static_cast<const float*>(args.in[1]) + i64{token} * C::kStrideX + h * C::kHeadDim;
    for (int d = lane(); d < C::kHeadDim; d += kWarp) head[d] = x[d];
    sync_warp();
    const int plane = h - C::kQueryHeads;
    u8* row = static_cast<u8*>(args.out[1]) + kv_offset<C>(slot, maximum(plane, 0));
    if (plane < 0) {
      float* y = static_cast<float*>(args.out[0]) + i64{token} * C::kStrideY + h * C::kHeadDim;
      for (int d = lane(); d < C::kHeadDim; d += kWarp) y[d] = rotated<C>(head, d, cosines, sines);
    } else if (plane < kKvHeads) {
      store_kv_row<C>(row, [&](int d) { return rotated<C>(head, d, cosines, sines); });
    } else {
      store_kv_row<C>(row, [&](int d) { return head[d]; });
    }
    sync_warp();
  }
}

}  // namespace ll::cuda
