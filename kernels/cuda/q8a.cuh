// Rows of f32 as pieces of vectors, and what becomes of them as q8a (kernels/quant/q8a.h).
#pragma once

#include "prim/convert.cuh"
#include "prim/math.cuh"
#include "prim/memory.cuh"
#include "prim/warp.cuh"

namespace ll::cuda {

template <int kVector>
struct Piece {
  float v[kVector];
};

// kAligned: 16 bytes at once.
template <int kVector, bool kAligned>
DEVICE Piece<kVector> load_piece(const float* x) {
  Piece<kVector> p;
  if constexpr (kVector == 4 && kAligned) {
    const F32x4 all = *reinterpret_cast<const F32x4*>(x);
    p.v[0] = all.x, p.v[1] = all.y, p.v[2] = all.z, p.v[3] = all.w;
  } else {
#pragma unroll
    for (int i = 0; i < kVector; ++i) p.v[i] = x[i];
  }
  return p;
}

template <int kVector, bool kAligned>
DEVICE void store_piece(float* y, const Piece<kVector>& p) {
  if constexpr (kVector == 4 && kAligned) {
    *reinterpret_cast<F32x4*>(y) = {p.v[0], p.v[1], p.v[2], p.v[3]};
  } else {
#pragma unroll
    for (int i = 0; i < kVector; ++i) y[i] = p.v[i];
  }
}

// What a block of 32 values, of which `largest` has the greatest size as bits, is divided by.
struct Q8aScale {
  float scale, inverse;
  bool zero;
};
DEVICE Q8aScale q8a_scale(u32 largest) {
  const bool finite = largest < 0x7f800000u;
  const bool zero = !finite || bits<float>(largest) < 0x1p-100f;
  return {zero ? bits<float>(finite ? 0u : 0x7fc00000u) : bits<float>(largest) / 127.0f,
          zero ? 0.0f : 127.0f / bits<float>(largest), zero};
}
// The size of v, as bits: infinities and NaN are the largest.
DEVICE u32 size_of(float v) { return bits<u32>(v) & 0x7fffffffu; }
DEVICE int q8a_code(const Q8aScale& s, float v) { return s.zero ? 0 : round_to_int(v * s.inverse); }

// A lane's part of a q8a block that 8 neighbouring lanes hold, 4 values each.
struct Q8aPiece {
  u32 codes;
  float scale;  // of the block
  int sum;      // of the half of the block that this lane is in
};
// The whole warp comes here.
DEVICE Q8aPiece quantize_piece(const Piece<4>& p) {
  u32 largest = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) largest = size_of(p.v[i]) > largest ? size_of(p.v[i]) : largest;
  const Q8aScale scale = q8a_scale(warp_max<8>(largest));
  u32 codes = 0;
  int sum = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int code = q8a_code(scale, p.v[i]);
    codes |= (static_cast<u32>(code) & 0xffu) << (8 * i);
    sum += code;
  }
  return {codes, scale.scale, warp_sum<4>(sum)};
}

// Where a row of kColumns keeps the scale of a column's block and the sum of its half.
template <int kColumns>
DEVICE float* q8a_scale_at(u8* row, int column) {
  return reinterpret_cast<float*>(row + kColumns + column / 32 * 4);
}
template <int kColumns>
DEVICE i16* q8a_sum_at(u8* row, int column) {
  return reinterpret_cast<i16*>(row + kColumns + kColumns / 32 * 4 + column / 16 * 2);
}

// Writes a piece, `column` the first of this lane's. The whole warp comes here; lanes with `inside` false take part in
// the shuffles alone.
template <int kColumns>
DEVICE void store_q8a(u8* row, int column, const Piece<4>& p, bool inside) {
  const Q8aPiece q = quantize_piece(p);
  if (!inside) return;
  *reinterpret_cast<u32*>(row + column) = q.codes;
  if (column % 32 == 0) *q8a_scale_at<kColumns>(row, column) = q.scale;
  if (column % 16 == 0) *q8a_sum_at<kColumns>(row, column) = static_cast<i16>(q.sum);
}

// Writes one value of a block that the warp holds, lane by lane. The whole warp comes here.
template <int kColumns>
DEVICE void store_q8a_value(u8* row, int column, float value) {
  const Q8aScale scale = q8a_scale(warp_max(size_of(value)));
  const int code = q8a_code(scale, value), sum = warp_sum<16>(code);
  row[column] = static_cast<u8>(code);
  if (column % 32 == 0) *q8a_scale_at<kColumns>(row, column) = scale.scale;
  if (column % 16 == 0) *q8a_sum_at<kColumns>(row, column) = static_cast<i16>(sum);
}

}  // namespace ll::cuda
