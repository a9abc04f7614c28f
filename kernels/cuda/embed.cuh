// y[t, d] = table[tokens[t], d]: rows of an embedding table as f32, exactly (kernels/quant/blocks.h).
//
// The table is f32, f16 or bf16 in rows, or quantized in kTile8 (kernels/quant/tile8.h). A thread makes four values.
//
// C: kType (DType), kColumns, kYStride (floats), kThreads. Grid: (kColumns / 4 / kThreads rounded up, tokens).
// Moves each token's row, and 4 bytes a value.
#pragma once

#include "linear_format.cuh"

namespace ll::cuda {

// Values k .. k + 3 of a row of tiles.
template <int kType>
DEVICE F32x4 tile8_values(const u8* tiles, int row, int k) {
  using F = Tile8<kType>;
  const u8* tile = tiles + k / kTileK * F::kBytes;
  const int in_group = k % 32, g = k % kTileK / 32, f = g % 4, half = g / 4;
  const int h = F::kHalves ? in_group / 16 : in_group / 4 % 2, c = F::kHalves ? in_group % 16 / 4 : in_group / 8;
  const int slot = 8 * c + row;
  const auto word = [&](int at) { return *reinterpret_cast<const u32*>(tile + at); };
  u32 codes;
  if constexpr (F::kLow == 8) {
    codes = word(1024 * half + 512 * (f / 2) + 16 * slot + 8 * (f % 2) + 4 * h);
  } else if constexpr (F::kLow == 4) {
    codes = word(512 * half + 16 * slot + 8 * (f / 2) + 4 * h) >> 4 * (f % 2) & 0x0f0f0f0fu;
  } else {
    codes = word(256 * half + 8 * slot + 4 * h) >> 2 * f & 0x03030303u;
  }
  if constexpr (F::kHigh == 2) codes |= (word(F::kHighAt + 256 * half + 8 * slot + 4 * h) >> 2 * f & 0x03030303u) << 4;
  if constexpr (F::kHigh == 1) {
    codes |= (word(F::kHighAt + 128 * half + 4 * slot) >> (2 * f + h) & 0x01010101u) << F::kLow;
  }

  float scale = 1, offset = 0;
  const u8* scales = tile + F::kScalesAt + F::kScaleBytes * row;
  const u16* factors = reinterpret_cast<const u16*>(tile + F::kFactorsAt + F::kFactorBytes * row);
  if constexpr (!F::kGrouped) {
    scale = f32_from_f16(factors[F::kMin ? 2 * g : g]);
    if constexpr (F::kMin) offset = -f32_from_f16(factors[2 * g + 1]);
  } else {
    int s, m = 0;
    if constexpr (kType == kQ2_K) {
      s = scales[2 * g + h] & 15, m = scales[2 * g + h] >> 4;
    } else if constexpr (F::kHalves) {
      s = static_cast<i8>(scales[2 * g + h]);
    } else if constexpr (F::kMin) {
      s = scales[8 * half + f], m = scales[8 * half + f + 4];
    } else {
      s = static_cast<i8>(scales[g]);
    }
    scale = f32_from_f16(factors[0]) * static_cast<float>(s);
    if constexpr (F::kMin) offset = f32_from_f16(factors[1]) * static_cast<float>(m);
  }
  if constexpr (F::kTable) {
    u32 odd;
    look_up_iq4(codes, codes, odd);
  }
  float y[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int code = F::kSigned ? signed_byte_of(codes, i) : static_cast<int>(byte_of(codes, i)) - F::kZero;
    y[i] = scale * static_cast<float>(code);
    if constexpr (F::kMin) y[i] = y[i] - offset;
  }
  return {y[0], y[1], y[2], y[3]};
}

template <class C>
__device__ void embed(const Args& args) {
  const int token = static_cast<int>(blockIdx.y), k = 4 * static_cast<int>(blockIdx.x * C::kThreads + threadIdx.x);
  if (token >= args.step->tokens || k >= C::kColumns) return;
  const int id = static_cast<const int*>(args.in[1])[token];
  float* y = static_cast<float*>(args.out[0]) + i64{token} * C::kYStride + k;
  if constexpr (C::kType == kF32 || C::kType == kF16 || C::kType == kBF16) {
    for (int i = 0; i < minimum(4, C::kColumns - k); ++i) {
      const i64 at = i64{id} * C::kColumns + k + i;
      if constexpr (C::kType == kF32) {
        y[i] = static_cast<const float*>(args.in[0])[at];
      } else {
        const u16 h = static_cast<const u16*>(args.in[0])[at];
        y[i] = C::kType == kF16 ? f32_from_f16(h) : f32_from_bf16(h);
      }
    }
  } else {
    constexpr int kTiles = (C::kColumns + kTileK - 1) / kTileK;
    const u8* tiles =
        static_cast<const u8*>(args.in[0]) + i64{id / kTileRows} * (i64{kTiles} * Tile8<C::kType>::kBytes);
    const F32x4 v = tile8_values<C::kType>(tiles, id % kTileRows, k);
    y[0] = v.x, y[1] = v.y, y[2] = v.z, y[3] = v.w;
  }
}

}  // namespace ll::cuda
