// The most likely tokens of each row of logits and what the others weigh: kernels/shortlist.h.
//
// A row is cut into slices of kSlice logits; a block lists the kListed most likely of its slice, then one block a row
// lists the most likely of those. Both do it the same way: a logit and its token make one key, so that no two are
// equal; each thread finds the largest of its keys; a bound is searched bit by bit that kListed threads reach (or a few
// more: that ends the search early); whatever reaches the bound is at most that many threads' keys and holds the
// kListed largest; they are collected in any order and each finds its own rank by counting. So the list is exact, also
// among ties, whatever the order of threads. Sums are relative to the slice's largest logit and scaled when they are
// merged: threads' logits in order, warp tree, warps in order.
//
// Moves the logits once.
#pragma once

#include "prim/block.cuh"
#include "prim/math.cuh"
#include "prim/memory.cuh"

namespace ll::cuda {

inline constexpr float kInfinity = bits<float>(0x7f800000u);

// Threads beyond kListed that may reach the bound.
inline constexpr int kListedSlack = 16;

// What a slice leaves for the merge: kListed keys, most likely first, 0 where there are no more, then these.
struct SliceSums {
  float largest, sum, sum_at_one, bad;
};
template <class C>
inline constexpr int kSliceBytes = 8 * C::kListed + static_cast<int>(sizeof(SliceSums));

// Larger for more likely tokens; above 0. -0 is 0, NaN is -infinity.
DEVICE u64 key_of(float logit, int token) {
  const u32 b = bits<u32>(logit != logit ? -kInfinity : logit + 0.0f);
  const u32 place = b ^ ((b >> 31) != 0 ? 0xffffffffu : 0x80000000u);
  return u64{place} << 32 | ~static_cast<u32>(token);
}
DEVICE int token_of(u64 key) { return static_cast<int>(~static_cast<u32>(key)); }

DEVICE bool is_asked(float inverse_temperature) {
  return inverse_temperature > 0.0f && inverse_temperature < kInfinity;
}

// A key that at least kListed threads' `largest` reach, and no more than kListedSlack others; with fewer threads that
// have any, the least key there is.
template <int kListed>
DEVICE u64 bound_of(u64 largest) {
  if (sync_block_count(largest > 0) <= kListed + kListedSlack) return 1;
  u64 bound = 0;
  for (int bit = 63; bit >= 0; --bit) {
    const u64 trial = bound | u64{1} << bit;
    const int reach = sync_block_count(largest >= trial);
    if (reach < kListed) continue;
    bound = trial;
    if (reach <= kListed + kListedSlack) break;
  }
  return bound;
}

// Of a block's keys, kEach a thread, the kListed largest: calls put(rank, key) for each. `key(i)` is the thread's i-th;
// kAtOnce of them are asked for at a time: all where they lie in registers.
template <int kThreads, int kListed, int kEach, int kAtOnce, class Key, class Put>
DEVICE void list_largest(u64 largest, const Key& key, const Put& put) {
  SHARED(u64, listed, (kListed + kListedSlack) * kEach);
  SHARED(u32, listed_count, 1);
  if (threadIdx.x == 0) listed_count[0] = 0;
  const u64 bound = bound_of<kListed>(largest);
  if (largest >= bound) {
#pragma unroll(kAtOnce)
    for (int i = 0; i < kEach; ++i) {
      const u64 k = key(i);
      if (k >= bound) listed[atomic_add(&listed_count[0], 1u)] = k;
    }
  }
  sync_block();
  const int count = static_cast<int>(listed_count[0]);
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    const u64 k = listed[i];
    int rank = 0;
    for (int other = 0; other < count; ++other) rank += listed[other] > k ? 1 : 0;
    if (rank < kListed) put(rank, k);
  }
}

// C: kVocab, kStrideX (elements), kVector (1, 4), kSlice, kSlices, kListed, kThreads. Grid: (kSlices, rows).
template <class C>
__device__ void shortlist_slices(const Args& args) {
  constexpr int kVector = C::kVector, kEach = C::kSlice / C::kThreads;
  const int slice = static_cast<int>(blockIdx.x), row = static_cast<int>(blockIdx.y);
  if (row >= args.step->rows) return;
  const float inverse = static_cast<const float*>(args.in[1])[row];
  if (!is_asked(inverse)) return;
  const float* x = static_cast<const float*>(args.in[0]) + i64{row} * C::kStrideX;
  const auto token = [&](int i) {
    return slice * C::kSlice + (i / kVector * C::kThreads + static_cast<int>(threadIdx.x)) * kVector + i % kVector;
  };

  float logits[kEach];
#pragma unroll
  for (int i = 0; i < kEach; i += kVector) {
    if constexpr (kVector == 4) {
      F32x4 v = {-kInfinity, -kInfinity, -kInfinity, -kInfinity};
      if (token(i) < C::kVocab) v = load_constant(reinterpret_cast<const F32x4*>(x + token(i)));
      logits[i] = v.x;
      logits[i + 1] = v.y;
      logits[i + 2] = v.z;
      logits[i + 3] = v.w;
    } else {
      logits[i] =
          token(i) < C::kVocab ? bits<float>(load_constant(reinterpret_cast<const u32*>(x + token(i)))) : -kInfinity;
    }
  }
  const auto key = [&](int i) { return token(i) < C::kVocab ? key_of(logits[i], token(i)) : 0; };
  u64 likeliest = 0;
  float largest = -kInfinity, bad = 0.0f;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const u64 k = key(i);
    likeliest = k > likeliest ? k : likeliest;
    largest = maximum(largest, logits[i]);
    bad += logits[i] < kInfinity ? 0.0f : 1.0f;
  }
  largest = block_max<C::kThreads>(largest);
  float sum = 0.0f, sum_at_one = 0.0f;
  if (largest > -kInfinity) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) sum_at_one += exp(logits[i] - largest);
    sum = sum_at_one;
    if (inverse != 1.0f) {
      sum = 0.0f;
#pragma unroll
      for (int i = 0; i < kEach; ++i) sum += exp((logits[i] - largest) * inverse);
    }
  }
  sum = block_sum<C::kThreads>(sum);
  sum_at_one = block_sum<C::kThreads>(sum_at_one);
  bad = block_sum<C::kThreads>(bad);

  u8* out = static_cast<u8*>(args.workspace) + (i64{row} * C::kSlices + slice) * kSliceBytes<C>;
  u64* keys = reinterpret_cast<u64*>(out);
  if (threadIdx.x == 0) *reinterpret_cast<SliceSums*>(out + 8 * C::kListed) = {largest, sum, sum_at_one, bad};
  const int present = minimum(C::kListed, C::kVocab - slice * C::kSlice);
  if (static_cast<int>(threadIdx.x) < C::kListed - present) keys[present + static_cast<int>(threadIdx.x)] = 0;
  list_largest<C::kThreads, C::kListed, kEach, kEach>(likeliest, key, [&](int rank, u64 k) { keys[rank] = k; });
}

// Word i of a list that says nothing.
template <class C>
DEVICE void clear_list(float* y, float bad) {
  for (int i = static_cast<int>(threadIdx.x); i < 4 + 2 * C::kListed; i += C::kThreads) y[i] = i == 0 ? bad : 0.0f;
}

// Constants as above; kSlices at most kThreads. Grid: (rows).
template <class C>
__device__ void shortlist_merge(const Args& args) {
  constexpr int kKeys = C::kSlices * C::kListed, kEach = (kKeys + C::kThreads - 1) / C::kThreads;
  constexpr int kAtOnce = kEach < 8 ? kEach : 8;
  const int row = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  if (row >= args.step->rows) return;
  const float inverse = static_cast<const float*>(args.in[1])[row];
  const float* x = static_cast<const float*>(args.in[0]) + i64{row} * C::kStrideX;
  float* y = static_cast<float*>(args.out[0]) + row * (4 + 2 * C::kListed);
  if (!is_asked(inverse)) return clear_list<C>(y, 0.0f);
  const u8* slices = static_cast<const u8*>(args.workspace) + i64{row} * C::kSlices * kSliceBytes<C>;

  SliceSums slice = {-kInfinity, 0.0f, 0.0f, 0.0f};
  if (thread < C::kSlices) {
    slice = *reinterpret_cast<const SliceSums*>(slices + thread * kSliceBytes<C> + 8 * C::kListed);
  }
  const float bad = block_sum<C::kThreads>(slice.bad);
  if (bad > 0.0f) return clear_list<C>(y, bad);
  const float largest = block_max<C::kThreads>(slice.largest);
  float sum = 0.0f, sum_at_one = 0.0f;
  if (slice.largest > -kInfinity) {
    sum = slice.sum * exp((slice.largest - largest) * inverse);
    sum_at_one = slice.sum_at_one * exp(slice.largest - largest);
  }
  sum = block_sum<C::kThreads>(sum);
  sum_at_one = block_sum<C::kThreads>(sum_at_one);

  const auto key = [&](int i) -> u64 {
    const int at = i * C::kThreads + thread;
    if (at >= kKeys) return 0;
    return reinterpret_cast<const u64*>(slices + at / C::kListed * kSliceBytes<C>)[at % C::kListed];
  };
  u64 likeliest = 0;
#pragma unroll(kAtOnce)
  for (int i = 0; i < kEach; ++i) {
    const u64 k = key(i);
    likeliest = k > likeliest ? k : likeliest;
  }
  constexpr int kCount = C::kVocab < C::kListed ? C::kVocab : C::kListed;
  if (thread == 0) {
    y[0] = 0.0f;
    y[1] = static_cast<float>(kCount);
    y[2] = sum;
    y[3] = sum_at_one;
  }
  if (thread < C::kListed - kCount) {
    y[4 + kCount + thread] = 0.0f;
    y[4 + C::kListed + kCount + thread] = 0.0f;
  }
  list_largest<C::kThreads, C::kListed, kEach, kAtOnce>(likeliest, key, [&](int rank, u64 k) {
    y[4 + rank] = x[token_of(k)];
    y[4 + C::kListed + rank] = static_cast<float>(token_of(k));
  });
}

}  // namespace ll::cuda
