// Block formats of kTile8 (kernels/quant/tile8.h) on a GPU, and the one order in which every kernel of the linear
// family adds up an output, so that a token's bits do not depend on the kernel that its batch chose:
//
//   x_g      integer dot product of a group of 32, less the format's zero; exact. Formats with a scale for 16 elements:
//            x_g = s_a x_a + s_b x_b over both halves
//   v_g      = x_g * scale of the token's group                               one rounding
//   S_b      over the groups of a tile (256), ascending, from 0:  S = fma(v_g, d_g, S), then S = fma(m_g, sum_g, S)
//              d_g = d * s_g, m_g = -dmin * m_g (q4_1, q5_1: m)               exact
//              sum_g = scale of the token's group * its sum                   one rounding; two of 16 for q2_K
//   y        over the tiles, ascending, from 0:  y = y + S_b
//
// A unit is what a warp takes at once: kGroups groups (4, or 2 of q8_0) of a tile; a lane owns a (column, row) of it.
#pragma once

#include "prim/convert.cuh"
#include "prim/math.cuh"
#include "prim/memory.cuh"

namespace ll::cuda {

// DType (kernels/type.h) of weights.
enum FloatType : int { kF32 = 0, kF16 = 1, kBF16 = 2 };
enum WeightType : int {
  kQ4_0 = 10,
  kQ4_1 = 11,
  kQ5_0 = 12,
  kQ5_1 = 13,
  kQ8_0 = 14,
  kQ2_K = 20,
  kQ3_K = 21,
  kQ4_K = 22,
  kQ5_K = 23,
  kQ6_K = 24,
  kIQ4_NL = 30,
  kIQ4_XS = 31
};

// body(Number<0>()), body(Number<1>()), ... in this order.
template <int kValue>
struct Number {
  static constexpr int value = kValue;
};
template <int kCount, int kFirst = 0, class Body>
DEVICE void unrolled(Body body) {
  if constexpr (kFirst < kCount) {
    body(Number<kFirst>());
    unrolled<kCount, kFirst + 1>(body);
  }
}

inline constexpr int kTileRows = 8, kTileK = 256, kTileGroups = 8;

template <int kType>
struct Tile8 {
  static constexpr int kLow = kType == kQ8_0 ? 8 : kType == kQ2_K || kType == kQ3_K ? 2 : 4;
  static constexpr int kHigh = kType == kQ6_K                                                         ? 2
                               : kType == kQ5_0 || kType == kQ5_1 || kType == kQ5_K || kType == kQ3_K ? 1
                                                                                                      : 0;
  static constexpr bool kTable = kType == kIQ4_NL || kType == kIQ4_XS;
  static constexpr bool kSigned = kTable || kType == kQ8_0;
  static constexpr bool kHalves = kType == kQ2_K || kType == kQ3_K || kType == kQ6_K;
  static constexpr bool kGrouped =
      kType == kQ2_K || kType == kQ3_K || kType == kQ4_K || kType == kQ5_K || kType == kQ6_K || kType == kIQ4_XS;
  static constexpr bool kMin = kType == kQ4_1 || kType == kQ5_1 || kType == kQ2_K || kType == kQ4_K || kType == kQ5_K;
  static constexpr int kZero = kType == kQ4_0 ? 8 : kType == kQ5_0 ? 16 : kType == kQ3_K ? 4 : kType == kQ6_K ? 32 : 0;

  static constexpr int kScaleBytes = !kGrouped ? 0 : kType == kIQ4_XS ? 8 : 16;       // of a row
  static constexpr int kFactorBytes = (kMin ? 4 : 2) * (kGrouped ? 1 : kTileGroups);  // of a row
  static constexpr int kHighAt = 256 * kLow, kScalesAt = kHighAt + 256 * kHigh;
  static constexpr int kFactorsAt = kScalesAt + kTileRows * kScaleBytes;
  static constexpr int kBytes = kFactorsAt + kTileRows * kFactorBytes;

  static constexpr int kGroups = kLow == 8 ? 2 : 4, kUnits = kTileGroups / kGroups;
  static constexpr int kLowWords = kLow == 2 ? 2 : 4, kHighWords = kHigh;

  // Group f of a unit leaves its words multiplied by this; the scale of the token's group is divided by it.
  DEVICE static constexpr int multiple(int f) {
    if (kLow == 4 && kHigh == 0 && !kTable) return f % 2 == 0 ? 1 : 16;
    if (kLow == 2 && kHigh == 0) return 1 << 2 * f;
    if (kLow == 2) return f % 2 == 0 ? 1 : 4;
    return 1;
  }
};

// A lane's codes of one unit.
template <class F>
struct Codes {
  u32 low[F::kLowWords];
  u32 high[F::kHighWords > 0 ? F::kHighWords : 1];
};

// Of the tile at byte `at` of the weights, lane (column_slot / 8, row).
template <class F>
DEVICE void load_codes(Codes<F>& codes, const u8* weights, u32 at, int unit, int column_slot, int row) {
  const auto from = [&](int plane, int stride, int lane_bytes) {
    return weights + (at + static_cast<u32>(stride * unit + lane_bytes * row)) + (plane + lane_bytes * column_slot);
  };
  if constexpr (F::kLowWords == 4) {
    const U32x4 v = load_once(reinterpret_cast<const U32x4*>(from(0, 512, 16)));
    codes.low[0] = v.x, codes.low[1] = v.y, codes.low[2] = v.z, codes.low[3] = v.w;
  } else {
    const U32x2 v = load_once(reinterpret_cast<const U32x2*>(from(0, 256, 8)));
    codes.low[0] = v.x, codes.low[1] = v.y;
  }
  if constexpr (F::kHigh == 2) {
    const U32x2 v = load_once(reinterpret_cast<const U32x2*>(from(F::kHighAt, 256, 8)));
    codes.high[0] = v.x, codes.high[1] = v.y;
  }
  if constexpr (F::kHigh == 1) codes.high[0] = load_once(reinterpret_cast<const u32*>(from(F::kHighAt, 128, 4)));
}
template <class F>
DEVICE void clear_codes(Codes<F>& codes) {
#pragma unroll
  for (int i = 0; i < F::kLowWords; ++i) codes.low[i] = 0;
#pragma unroll
  for (int i = 0; i < F::kHighWords; ++i) codes.high[i] = 0;
}

template <int kLeft>
DEVICE u32 shift_left(u32 v) {
  if constexpr (kLeft >= 0) {
    return v << kLeft;
  } else {
    return v >> -kLeft;
  }
}

// The four values of each nibble of w that kIq4Values (kernels/quant/blocks.h) gives: low nibbles, high nibbles.
DEVICE void look_up_iq4(u32 w, u32& even, u32& odd) {
  constexpr u32 kTable0 = 0xbfad9881u, kTable1 = 0xf6eaddcfu, kTable2 = 0x26190d01u, kTable3 = 0x71594535u;
  const u32 index = w & 0x77777777u, upper = and_or(w >> 1, 0x44444444u, 0x32103210u);
  u32 part[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const u32 low = permute_bytes(kTable0, kTable1, index >> 16 * i),
              high = permute_bytes(kTable2, kTable3, index >> 16 * i);
    part[i] = permute_bytes(low, high, upper >> 16 * i);
  }
  even = permute_bytes(part[0], part[1], 0x6420u);
  odd = permute_bytes(part[0], part[1], 0x7531u);
}

// Word (group kF of the unit, half kH), times F::multiple(kF). Formats with a table go by code_pair alone.
template <class F, int kF, int kH>
DEVICE u32 code_word(const Codes<F>& codes) {
  if constexpr (F::kLow == 8) {
    return codes.low[2 * kF + kH];
  } else if constexpr (F::kLow == 4) {
    const u32 w = codes.low[2 * (kF / 2) + kH];
    if constexpr (F::kHigh == 0) {
      return w & (kF % 2 == 0 ? 0x0f0f0f0fu : 0xf0f0f0f0u);
    } else {
      const u32 low = shift_left < kF % 2 == 0 ? 0 : -4 > (w);
      const u32 high = F::kHigh == 1 ? shift_left<4 - (2 * kF + kH)>(codes.high[0]) & 0x10101010u
                                     : shift_left<4 - 2 * kF>(codes.high[kH % F::kHighWords]) & 0x30303030u;
      return and_or(low, 0x0f0f0f0fu, high);
    }
  } else {
    if constexpr (F::kHigh == 0) {
      return codes.low[kH] & 0x03030303u << 2 * kF;
    } else {
      const u32 low = shift_left < kF < 2 ? 0 : -4 > (codes.low[kH]);
      const u32 high = shift_left<2 + 2 * (kF % 2) - (2 * kF + kH)>(codes.high[0]) & 0x04040404u << 2 * (kF % 2);
      return and_or(low, 0x03030303u << 2 * (kF % 2), high);
    }
  }
}

// The words of groups 2 kPair and 2 kPair + 1.
template <class F, int kPair, int kH>
DEVICE void code_pair(const Codes<F>& codes, u32& even, u32& odd) {
  if constexpr (F::kTable) {
    look_up_iq4(codes.low[2 * kPair + kH], even, odd);
  } else {
    even = code_word<F, 2 * kPair, kH>(codes);
    odd = code_word<F, 2 * kPair + 1, kH>(codes);
  }
}

// A row's scales and factors of one unit, as stored.
template <class F>
struct Scales {
  static constexpr int kWords = F::kGrouped ? F::kScaleBytes / 8 : F::kFactorBytes / 4 / F::kUnits;
  u32 words[kWords];
  u32 factor;  // of grouped formats: d, or d and dmin
};

template <class F>
DEVICE void load_scales(Scales<F>& scales, const u8* weights, u32 at, int unit, int row) {
  constexpr int kWords = Scales<F>::kWords, kRowBytes = F::kGrouped ? F::kScaleBytes : F::kFactorBytes;
  const u8* from = weights + (at + static_cast<u32>(kRowBytes * row + 4 * kWords * unit)) +
                   (F::kGrouped ? F::kScalesAt : F::kFactorsAt);
  if constexpr (kWords == 4) {
    const U32x4 v = load_once(reinterpret_cast<const U32x4*>(from));
    scales.words[0] = v.x, scales.words[1] = v.y, scales.words[2] = v.z, scales.words[3] = v.w;
  } else if constexpr (kWords == 2) {
    const U32x2 v = load_once(reinterpret_cast<const U32x2*>(from));
    scales.words[0] = v.x, scales.words[1] = v.y;
  } else {
    scales.words[0] = load_once(reinterpret_cast<const u32*>(from));
  }
  if constexpr (F::kGrouped) {
    constexpr int kPairs = F::kMin ? 1 : 2;  // rows to a word
    scales.factor =
        load_once(reinterpret_cast<const u32*>(weights + (at + static_cast<u32>(4 * (row / kPairs))) + F::kFactorsAt));
    if constexpr (!F::kMin) scales.factor >>= 16 * (row % 2);
  }
}
template <class F>
DEVICE void clear_scales(Scales<F>& scales) {
#pragma unroll
  for (int i = 0; i < Scales<F>::kWords; ++i) scales.words[i] = 0;
  scales.factor = 0;
}

// What group f multiplies with.
struct GroupScale {
  float d;       // d_g, or of halves the block's d
  float m[2];    // m_g; of halves both
  int scale[2];  // of halves
};

DEVICE u32 byte_of(u32 word, int i) { return word >> 8 * i & 0xffu; }
DEVICE int signed_byte_of(u32 word, int i) { return static_cast<i8>(word >> 8 * i & 0xffu); }

template <class F, int kF>
DEVICE GroupScale group_scale(const Scales<F>& scales) {
  GroupScale s{};
  if constexpr (!F::kGrouped && F::kMin) {
    s.d = low_f16(scales.words[kF]);
    s.m[0] = high_f16(scales.words[kF]);
  } else if constexpr (!F::kGrouped) {
    s.d = kF % 2 == 0 ? low_f16(scales.words[kF / 2]) : high_f16(scales.words[kF / 2]);
  } else if constexpr (F::kHalves) {
    const u32 word = scales.words[kF / 2];
    s.d = low_f16(scales.factor);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int i = kF % 2 * 2 + h;
      if constexpr (F::kMin) {
        s.scale[h] = static_cast<int>(word >> 8 * i & 15u);
        s.m[h] = -high_f16(scales.factor) * static_cast<float>(word >> (8 * i + 4) & 15u);
      } else {
        s.scale[h] = signed_byte_of(word, i);
      }
    }
  } else if constexpr (F::kMin) {
    s.d = low_f16(scales.factor) * static_cast<float>(byte_of(scales.words[0], kF));
    s.m[0] = -high_f16(scales.factor) * static_cast<float>(byte_of(scales.words[1], kF));
  } else {
    s.d = low_f16(scales.factor) * static_cast<float>(signed_byte_of(scales.words[0], kF));
  }
  return s;
}

// A token's group: its scale divided by F::multiple, and what folds the format's minimum (sum_g, as float) or zero (as
// int: where integer sums start) into the products; of halves two.
struct TokenGroup {
  float scale;
  u32 fold[2];
};

template <class F>
DEVICE TokenGroup token_group(float scale, int sum0, int sum1, int f) {
  const int multiple = F::multiple(f);
  TokenGroup g;
  g.scale = scale * (1.0f / static_cast<float>(multiple));
  if constexpr (F::kMin) {
    g.fold[0] = bits<u32>(scale * static_cast<float>(F::kHalves ? sum0 : sum0 + sum1));
    g.fold[1] = F::kHalves ? bits<u32>(scale * static_cast<float>(sum1)) : 0u;
  } else {
    g.fold[0] = static_cast<u32>(-F::kZero * multiple * (F::kHalves ? sum0 : sum0 + sum1));
    g.fold[1] = F::kHalves ? static_cast<u32>(-F::kZero * multiple * sum1) : 0u;
  }
  return g;
}

// One more group of S_b. x: its integer sums as float, or of halves as ints (x0, x1).
template <class F>
DEVICE float add_group(float sum, float x, const GroupScale& s, const TokenGroup& t) {
  sum = fma(x * t.scale, s.d, sum);
  if constexpr (F::kMin) {
    sum = fma(s.m[0], bits<float>(t.fold[0]), sum);
    if constexpr (F::kHalves) sum = fma(s.m[1], bits<float>(t.fold[1]), sum);
  }
  return sum;
}
// Below 2^24: exact as float.
DEVICE float join_halves(int x0, int x1, const GroupScale& s) {
  return static_cast<float>(x0 * s.scale[0] + x1 * s.scale[1]);
}

}  // namespace ll::cuda
