// Products of f32, f16 or bf16 weights (kRows) with f32 tokens, any number of them, in f32.
//
//   y[t, n] = sum over k of w[n, k] * x[t, k]      forms, biases, residual: kernels/ref/linear.h
//
// The order of sums is that of linear_format.cuh with tiles of 256 weights: S = fma(w, x, S) for ascending k from 0,
// y = y + S over ascending tiles from 0. bf16 has no tensor core word on sm_75, and f16's would round the tokens, so a
// row's products stay on the f32 pipe for every batch.
//
// A warp takes 32 rows, one a lane, and every kThreads / 32-th tile of them: it loads 64 bytes of each row, several
// lanes a row, and turns them round through its part of shared memory. Tokens are broadcast loads that L1 answers. The
// tiles' sums are exchanged through shared memory, to be added in order.
//
// C: of linear_parts.cuh (kType0 ..: FloatType; kXBytes), and kTokens (of a block), kAligned (rows of weights start at
// multiples of 16 bytes), kXAligned (so do those of x, and K is a multiple of 4).
// Grid: (blocks of 32 rows of all parts, blocks of kTokens tokens).
// Moves the weights once a token block.
#pragma once

#include "linear_parts.cuh"
#include "prim/block.cuh"

namespace ll::cuda {

template <int kType>
struct FloatWeight {
  static constexpr int kBytes = kType == kF32 ? 4 : 2;
  static constexpr int kChunk = 64 / kBytes;    // elements of a row that a warp turns round at once
  static constexpr int kLanes = 4, kLoads = 4;  // to a row's 64 bytes; to 32 rows

  DEVICE static float value(const u8* row, int k) {
    if constexpr (kType == kF32) return reinterpret_cast<const float*>(row)[k];
    const u16 h = reinterpret_cast<const u16*>(row)[k];
    return kType == kF16 ? f32_from_f16(h) : f32_from_bf16(h);
  }
  // The elements of 16 bytes.
  DEVICE static void store(const U32x4& v, float* to) {
    const u32 words[4] = {v.x, v.y, v.z, v.w};
    if constexpr (kType == kF32) {
      *reinterpret_cast<U32x4*>(to) = v;
    } else {
#pragma unroll
      for (int i = 0; i < 4; i += 2) {
        const u32 a = words[i], b = words[i + 1];
        if constexpr (kType == kF16) {
          *reinterpret_cast<F32x4*>(to + 2 * i) = {low_f16(a), high_f16(a), low_f16(b), high_f16(b)};
        } else {
          *reinterpret_cast<U32x4*>(to + 2 * i) = {a << 16, a & 0xffff0000u, b << 16, b & 0xffff0000u};
        }
      }
    }
  }
};

inline constexpr int kTurnStride = 36;  // floats of a row in shared memory: 16-byte reads of 32 rows meet no bank twice

template <class C>
DEVICE F32x4 token_values(const u8* x, int token, int tokens, int k) {
  const float* from = reinterpret_cast<const float*>(x + i64{token} * C::kXBytes) + k;
  if (token >= tokens) return {0, 0, 0, 0};
  if constexpr (C::kXAligned) {
    return k < C::kColumns ? *reinterpret_cast<const F32x4*>(from) : F32x4{0, 0, 0, 0};
  } else {
    const auto at = [&](int i) { return k + i < C::kColumns ? from[i] : 0.0f; };
    return {at(0), at(1), at(2), at(3)};
  }
}

template <class C, int kType>
DEVICE void float_rows(const Args& args, const Part& part, int first_token, int tokens, float* turned,
                       float* exchange) {
  using W = FloatWeight<kType>;
  constexpr int kPairs = C::kForm == kGated ? 2 : 1, kDepth = C::kThreads / kWarp;
  constexpr int kTiles = (C::kColumns + kTileK - 1) / kTileK, kRounds = (kTiles + kDepth - 1) / kDepth;
  constexpr int kChunks = kTileK / W::kChunk, kSteps = kChunks * kPairs;  // of a tile
  constexpr int kOwned = (C::kTokens + kDepth - 1) / kDepth;
  constexpr i64 kRowBytes = i64{C::kColumns} * W::kBytes;
  const u8* x = static_cast<const u8*>(args.in[0]);
  const int row = part.first_row + lane();

  U32x4 fetched[W::kLoads];
  // 64 bytes of 32 rows, of tile `tile`, step `step`: chunk step / kPairs of the gate's or the up projection's rows.
  const auto fetch = [&](int tile, int step) {
    const u8* base = kPairs == 2 && step % 2 != 0 ? part.up : part.weights;
    const int k = tile * kTileK + step / kPairs * W::kChunk + lane() % W::kLanes * (16 / W::kBytes);
#pragma unroll
    for (int i = 0; i < W::kLoads; ++i) {
      const int r = part.first_row + 8 * i + lane() / W::kLanes;
      fetched[i] = {0, 0, 0, 0};
      if (r < part.rows && k < C::kColumns) {
        fetched[i] = load_once(reinterpret_cast<const U32x4*>(base + r * kRowBytes + i64{k} * W::kBytes));
      }
    }
  };
  const auto turn = [&](int tile, int step) {
    if constexpr (C::kAligned) {
#pragma unroll
      for (int i = 0; i < W::kLoads; ++i) {
        W::store(fetched[i],
                 turned + (8 * i + lane() / W::kLanes) * kTurnStride + lane() % W::kLanes * (16 / W::kBytes));
      }
    } else {
      const u8* base = kPairs == 2 && step % 2 != 0 ? part.up : part.weights;
      for (int i = lane(); i < kWarp * W::kChunk; i += kWarp) {
        const int r = i / W::kChunk, k = tile * kTileK + step / kPairs * W::kChunk + i % W::kChunk;
        const bool there = part.first_row + r < part.rows && k < C::kColumns;
        turned[r * kTurnStride + i % W::kChunk] = there ? W::value(base + (part.first_row + r) * kRowBytes, k) : 0.0f;
      }
    }
  };

  float sums[kPairs][C::kTokens] = {}, totals[kPairs][kOwned] = {};
  if constexpr (C::kAligned) fetch(warp(), 0);
#pragma unroll 1
  for (int round = 0; round < kRounds; ++round) {
    const int tile = round * kDepth + warp();
#pragma unroll 1
    for (int chunk = 0; chunk < kChunks; ++chunk) {
#pragma unroll
      for (int p = 0; p < kPairs; ++p) {
        const int step = chunk * kPairs + p;
        turn(tile, step);
        sync_warp();
        if constexpr (C::kAligned) {
          const bool last = step + 1 == kSteps;
          if (!last || round + 1 < kRounds) fetch(last ? tile + kDepth : tile, last ? 0 : step + 1);
        }
#pragma unroll(C::kTokens > 4 ? 1 : 2)
        for (int k = 0; k < W::kChunk; k += 4) {
          const F32x4 w = *reinterpret_cast<const F32x4*>(turned + lane() * kTurnStride + k);
#pragma unroll
          for (int t = 0; t < C::kTokens; ++t) {
            const F32x4 v = token_values<C>(x, first_token + t, tokens, tile * kTileK + chunk * W::kChunk + k);
            float& sum = sums[p][t];
            sum = fma(w.x, v.x, sum);
            sum = fma(w.y, v.y, sum);
            sum = fma(w.z, v.z, sum);
            sum = fma(w.w, v.w, sum);
          }
        }
        sync_warp();
      }
    }
    // exchange[round % 2][pair][token][thread]: the other half is still being read.
    float* tile_sums = exchange + round % 2 * (kPairs * C::kTokens * C::kThreads);
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
#pragma unroll
      for (int t = 0; t < C::kTokens; ++t) {
        tile_sums[(p * C::kTokens + t) * C::kThreads + threadIdx.x] = sums[p][t];
        sums[p][t] = 0;
      }
    }
    sync_block();
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
#pragma unroll
      for (int o = 0; o < kOwned; ++o) {
        const int t = o * kDepth + warp();
        if (t >= C::kTokens) break;
#pragma unroll
        for (int d = 0; d < kDepth; ++d) {
          if (round * kDepth + d < kTiles) {
            totals[p][o] += tile_sums[(p * C::kTokens + t) * C::kThreads + d * kWarp + lane()];
          }
        }
      }
    }
  }

#pragma unroll
  for (int o = 0; o < kOwned; ++o) {
    const int t = o * kDepth + warp();
    if (t < C::kTokens && first_token + t < tokens && row < part.rows) {
      finish<C>(args, part, first_token + t, row, totals[0][o], totals[kPairs - 1][o]);
    }
  }
}

template <class C>
__device__ void linear_float(const Args& args) {
  constexpr int kPairs = C::kForm == kGated ? 2 : 1;
  SHARED(float, turned, C::kThreads* kTurnStride);
  SHARED(float, exchange, 2 * kPairs * C::kTokens * C::kThreads);
  const int tokens = token_count<C>(args), first_token = static_cast<int>(blockIdx.y) * C::kTokens;
  if (first_token >= tokens) return;
  const Part part = find_part<C, kWarp>(args, static_cast<int>(blockIdx.x));
  with_type<C>(part, [&](auto type) {
    float_rows<C, type.value>(args, part, first_token, tokens, turned + warp() * (kWarp * kTurnStride), exchange);
  });
}

}  // namespace ll::cuda
