// RMS norm and quantization of f32 rows [rows, kColumns]:
//
//   rms_norm       y f32 = x / sqrt(mean(x^2) + eps) * w
//   norm_quantize  y q8a = quantize of that, the same bits as the two kernels one after another
//   quantize       y q8a of x                                  q8a: kernels/quant/q8a.h
//
// Moves x and y once (and w, out of L2). A norm takes one block a row. Thread t owns columns kVector * (t + j *
// kThreads) for each j and sums their squares in order of j; kThreads follows from kColumns alone, so every row of
// every step is summed in the same order.
#pragma once

#include "prim/block.cuh"
#include "q8a.cuh"

namespace ll::cuda {

// C: kColumns, kVector (1, 4), kAligned, kRowsAreTokens, kQuantize, kEps, kStrideX, kStrideY (bytes), kThreads.
// Grid: (rows).
template <class C>
__device__ void norm(const Args& args) {
  constexpr int kVector = C::kVector, kChunk = kVector * C::kThreads;
  constexpr int kChunks = (C::kColumns + kChunk - 1) / kChunk;
  constexpr bool kKeep = kChunks * kVector <= 32;  // in registers from one pass to the next
  const int row = static_cast<int>(blockIdx.x);
  if (row >= (C::kRowsAreTokens ? args.step->tokens : args.step->rows)) return;
  const float* x = reinterpret_cast<const float*>(static_cast<const u8*>(args.in[0]) + i64{row} * C::kStrideX);
  const float* w = static_cast<const float*>(args.in[1]);
  u8* y = static_cast<u8*>(args.out[0]) + i64{row} * C::kStrideY;
  const int first = kVector * static_cast<int>(threadIdx.x);

  Piece<kVector> kept[kKeep ? kChunks : 1];
  float squares = 0.0f;
#pragma unroll(kKeep ? kChunks : 1)
  for (int j = 0; j < kChunks; ++j) {
    const int column = first + j * kChunk;
    Piece<kVector> p{};
    if (column < C::kColumns) p = load_piece<kVector, C::kAligned != 0>(x + column);
#pragma unroll
    for (int i = 0; i < kVector; ++i) squares = fma(p.v[i], p.v[i], squares);
    if constexpr (kKeep) kept[j] = p;
  }
  const float mean = block_sum<C::kThreads>(squares) / static_cast<float>(C::kColumns);
  const float factor = reciprocal_root(mean + float_constant(C::kEps));

#pragma unroll(kKeep ? kChunks : 1)
  for (int j = 0; j < kChunks; ++j) {
    const int column = first + j * kChunk;
    const bool inside = column < C::kColumns;
    Piece<kVector> p{};
    if (inside) {
      if constexpr (kKeep) {
        p = kept[j];
      } else {
        p = load_piece<kVector, C::kAligned != 0>(x + column);
      }
      const Piece<kVector> scale = load_piece<kVector, true>(w + column);
#pragma unroll
      for (int i = 0; i < kVector; ++i) p.v[i] = p.v[i] * factor * scale.v[i];
    }
    if constexpr (C::kQuantize != 0) {
      store_q8a<C::kColumns>(y, column, p, inside);
    } else if (inside) {
      store_piece<kVector, C::kAligned != 0>(reinterpret_cast<float*>(y) + column, p);
    }
  }
}

// C: kColumns (a multiple of 32), kAligned, kRowsAreTokens, kStrideX, kStrideY (bytes), kThreads.
// Grid: (kColumns / 4 / kThreads rounded up, rows).
template <class C>
__device__ void quantize(const Args& args) {
  const int row = static_cast<int>(blockIdx.y);
  if (row >= (C::kRowsAreTokens ? args.step->tokens : args.step->rows)) return;
  const float* x = reinterpret_cast<const float*>(static_cast<const u8*>(args.in[0]) + i64{row} * C::kStrideX);
  u8* y = static_cast<u8*>(args.out[0]) + i64{row} * C::kStrideY;
  const int column = 4 * static_cast<int>(blockIdx.x * C::kThreads + threadIdx.x);
  const bool inside = column < C::kColumns;
  Piece<4> p{};
  if (inside) p = load_piece<4, C::kAligned != 0>(x + column);
  store_q8a<C::kColumns>(y, column, p, inside);
}

}  // namespace ll::cuda
