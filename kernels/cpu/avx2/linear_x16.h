// Panels of kX16 (kernels/quant/layouts.h) times q8a tokens: one skeleton, instantiated with the traits of each format.
// Include only from kernels/cpu/avx2/; everything has internal linkage.
//
// A unit of 64 bytes gives two registers of codes, rows 0-7 and rows 8-15 ("halves"), four consecutive k each.
// vpmaddubsw multiplies them with four broadcast activation codes and adds pairs into 16 bits; some of those sums are
// added up before vpmaddwd widens them, times the group's scale. How many: code * 127 * 2 * kFlush must stay below
// 32768. Sums over a block are exact integers, with group scales too: 256 k have one activation scale (q8a256). They
// are scaled and added in f32 in ascending k, so no output depends on kTokens.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/avx2/linear_dots.h"
#include "kernels/cpu/avx2/vector.h"
#include "kernels/quant/blocks.h"
#include "kernels/quant/q8a.h"

namespace ll::avx2 {
namespace {

// Traits of a format:
//   kElements            of a block
//   kLowBits, kHighBits  of a code: planes of a sub-block, the high one first
//   kTable, kSigned      codes index kIq4Values; codes are signed bytes after unpacking
//   kZero                subtracted from codes
//   kGroup               0, 16 or 32 elements with one scale
//   kSignedScale         group scales are int8 after decoding
//   kMin                 the format has minima (grouped) or an addend (plain)
//   kScaleBytes, kTailBytes
//   decode(block, tail, scales)  grouped formats

[[maybe_unused]] __m256i load(const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
// f16 factors of eight rows.
[[maybe_unused]] __m256 f16_values(const std::byte* p, int half) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 * half)));
}
[[maybe_unused]] __m256i broadcast32(const void* p) {
  int32_t v;
  std::memcpy(&v, p, 4);
  return _mm256_set1_epi32(v);
}
[[maybe_unused]] float read_float(const std::byte* p) {
  float v;
  std::memcpy(&v, p, 4);
  return v;
}

// Bits [from, from + bits) of every byte, moved to bit `to`.
[[maybe_unused]] inline __attribute__((always_inline)) __m256i move_bits(__m256i v, int from, int bits, int to) {
  __m256i moved = v;
  if (from > to) moved = _mm256_srli_epi16(v, from - to);
  if (from < to) moved = _mm256_slli_epi16(v, to - from);
  return _mm256_and_si256(moved, _mm256_set1_epi8(static_cast<char>(((1 << bits) - 1) << to)));
}

// Group scales and minima of one block, a byte for each row: [group][16].
struct GroupScales {
  alignas(32) std::byte scale[16 * 16];
  alignas(32) std::byte min[16 * 16];
};
[[maybe_unused]] inline void store(std::byte* p, __m256i v) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), v); }

// Eight rows' bytes as 16-bit pairs (s, s), one pair a row.
template <bool kSignedBytes>
__m256i spread(const std::byte* bytes) {
  int64_t v;
  std::memcpy(&v, bytes, 8);
  const __m256i all = _mm256_set1_epi64x(v);
  if constexpr (kSignedBytes) {
    const __m256i high = _mm256_setr_epi8(-1, 0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3,  //
                                          -1, 4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7);
    return _mm256_srai_epi16(_mm256_shuffle_epi8(all, high), 8);
  }
  const __m256i low = _mm256_setr_epi8(0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3, -1,  //
                                       4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7, -1);
  return _mm256_shuffle_epi8(all, low);
}

// Scales of k 0-15 and 16-31 of one half of a sub-block, pairs (s, s); ones for plain formats.
struct Factors {
  __m256i scale[2];
};

template <class F>
inline __attribute__((always_inline)) Factors factors_of(const GroupScales& scales, int sub, int half) {
  Factors f;
  if constexpr (F::kGroup == 16) {
    for (int g = 0; g < 2; ++g) f.scale[g] = spread<F::kSignedScale>(scales.scale + 16 * (2 * sub + g) + 8 * half);
  } else if constexpr (F::kGroup == 32) {
    f.scale[0] = f.scale[1] = spread<F::kSignedScale>(scales.scale + 16 * sub + 8 * half);
  } else {
    f.scale[0] = f.scale[1] = _mm256_set1_epi16(1);
  }
  return f;
}

// What a grouped format multiplies sums of codes with: the minima of two neighbouring groups, or, to take kZero back,
// their scales. Eight rows' pairs of 16 bits.
template <class F>
constexpr int kPairs = F::kGroup == 0 || (!F::kMin && F::kZero == 0) ? 0 : 128 / F::kGroup;
template <class F>
inline __attribute__((always_inline)) __m256i pair_of(const GroupScales& scales, int pair, int half) {
  const std::byte* bytes = (F::kMin ? scales.min : scales.scale) + 32 * pair + 8 * half;
  const __m128i both = _mm_unpacklo_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)),
                                         _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes + 16)));
  return !F::kMin && F::kSignedScale ? _mm256_cvtepi8_epi16(both) : _mm256_cvtepu8_epi16(both);
}

// Codes of k 4g .. 4g+3 of eight rows.
template <class F>
inline __attribute__((always_inline)) __m256i unpack(const std::byte* sub, int half, int g) {
  const std::byte* high = sub + 32 * half;
  const std::byte* low = high + 64 * F::kHighBits;
  __m256i w;
  if constexpr (F::kLowBits == 8) w = load(low + 64 * g);
  if constexpr (F::kLowBits == 4) w = move_bits(load(low + 64 * (g % 4)), g / 4 * 4, 4, 0);
  if constexpr (F::kLowBits == 2) w = move_bits(load(low + 64 * (g / 4)), g % 4 * 2, 2, 0);
  if constexpr (F::kHighBits == 1) w = _mm256_or_si256(w, move_bits(load(high), g, 1, F::kLowBits));
  if constexpr (F::kHighBits == 2) {
    w = _mm256_or_si256(w, move_bits(load(high + 64 * (g / 4)), g % 4 * 2, 2, F::kLowBits));
  }
  if constexpr (F::kTable) {
    const auto* values = reinterpret_cast<const __m128i*>(blocks::kIq4Values.data());
    w = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(values)), w);
  }
  return w;
}

// Products that fit 16 bits when added up; see above.
template <class F>
constexpr int flush_after() {
  constexpr int kLargest = F::kSigned ? 128 : (1 << (F::kLowBits + F::kHighBits)) - 1;
  for (int n = 8; n > 1; n /= 2) {
    if (kLargest * 127 * 2 * n < 32768 && (F::kGroup != 16 || n <= 4)) return n;
  }
  return 1;
}

// Keeps a running sum in its register: left alone, the compiler turns chains of additions into trees and spills them.
[[maybe_unused]] inline __attribute__((always_inline)) void pin(__m256i& v) { asm("" : "+x"(v)); }

// Adds 16-bit sums of `first` .. of a sub-block to sum[t][h], times the scales of their groups.
template <int kTokens>
inline __attribute__((always_inline)) void widen(const __m256i (&part)[kTokens][2], const __m256i (&scale)[2],
                                                 __m256i (&sum)[kTokens][2]) {
#pragma GCC unroll 4
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) sum[t][h] = _mm256_add_epi32(sum[t][h], _mm256_madd_epi16(part[t][h], scale[h]));
  }
}

// sum[t][h] += per row of half h, the sum over 32 k of code * activation * scale. `units` gives eight rows' codes of
// four k, (half, unit); `scales` the scales of a unit's group, (half, unit). Token t's codes are at x + t * row_bytes.
template <class F, int kTokens, class Units, class Scales>
inline __attribute__((always_inline)) void dot_sub(const Units& units, const Scales& scales, const std::byte* x,
                                                   int64_t row_bytes, __m256i (&sum)[kTokens][2]) {
  constexpr int kFlush = flush_after<F>();
#pragma GCC unroll 8
  for (int first = 0; first < 8; first += kFlush) {
    __m256i part[kTokens][2];
#pragma GCC unroll 8
    for (int g = first; g < first + kFlush; ++g) {
      const __m256i w[2] = {units(0, g), units(1, g)};
      [[maybe_unused]] __m256i size[2];
      if constexpr (F::kSigned) size[0] = _mm256_abs_epi8(w[0]), size[1] = _mm256_abs_epi8(w[1]);
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) {
        const __m256i a = broadcast32(x + t * row_bytes + 4 * g);
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
          __m256i product;
          if constexpr (F::kSigned) {
            product = _mm256_maddubs_epi16(size[h], _mm256_sign_epi8(a, w[h]));
          } else {
            product = _mm256_maddubs_epi16(w[h], a);
          }
          part[t][h] = g == first ? product : _mm256_add_epi16(part[t][h], product);
          pin(part[t][h]);
        }
      }
    }
    const __m256i scale[2] = {scales(0, first), scales(1, first)};
    widen<kTokens>(part, scale, sum);
  }
}

// total[t][h] += the exact sums of a plain format's block q, scaled; `d` and `m` are its factors.
template <class F, int kTokens>
inline __attribute__((always_inline)) void add_plain(const __m256i (&sum)[kTokens][2], const DotTokens& x, int64_t k,
                                                     int64_t q, const __m256 (&d)[2], const __m256 (&m)[2],
                                                     __m256 (&total)[kTokens][2]) {
#pragma GCC unroll 4
  for (int t = 0; t < kTokens; ++t) {
    const std::byte* row = x.rows + t * x.row_bytes;
    const __m256 scale = _mm256_set1_ps(read_float(row + k + 4 * q));
    __m256i codes;  // their sum
    if constexpr (F::kZero > 0 || F::kMin) {
      codes = _mm256_madd_epi16(broadcast32(row + k + k / 8 + 4 * q), _mm256_set1_epi16(1));
    }
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      __m256i value = sum[t][h];
      if constexpr (F::kZero > 0) {
        static_assert((F::kZero & (F::kZero - 1)) == 0);
        value = _mm256_sub_epi32(value, _mm256_slli_epi32(codes, __builtin_ctz(F::kZero)));
      }
      total[t][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(value), _mm256_mul_ps(d[h], scale), total[t][h]);
      if constexpr (F::kMin) {
        total[t][h] = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(codes), scale), m[h], total[t][h]);
      }
    }
  }
}

// total[t][h] += the exact sums of a grouped format's block b, scaled. `pairs` gives pair_of, (pair, half).
template <class F, int kTokens, class Pairs>
inline __attribute__((always_inline)) void add_block(const __m256i (&sum)[kTokens][2], const DotTokens& x, int64_t k,
                                                     int64_t b, const Pairs& pairs, const __m256 (&d)[2],
                                                     const __m256 (&m)[2], __m256 (&total)[kTokens][2]) {
  constexpr int kCount = kPairs<F>;
  [[maybe_unused]] alignas(16) std::byte sums_of_32[kTokens][16];
  const std::byte* sums[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    const std::byte* of_16 = x.rows + t * x.row_bytes + k + k / 8 + 32 * b;
    sums[t] = of_16;
    if constexpr (kCount > 0 && F::kGroup == 32) {
      store_neighbours(of_16, sums_of_32[t]);
      sums[t] = sums_of_32[t];
    }
  }
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    __m256i pair[kCount + 1];
    for (int p = 0; p < kCount; ++p) pair[p] = pairs(p, h);
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
      const __m256 scale = _mm256_set1_ps(read_float(x.rows + t * x.row_bytes + k + 32 * b));
      __m256i value = sum[t][h], low = _mm256_setzero_si256();
#pragma GCC unroll 8
      for (int p = 0; p < kCount; ++p) {
        const __m256i product = _mm256_madd_epi16(pair[p], broadcast32(sums[t] + 4 * p));
        low = p == 0 ? product : _mm256_add_epi32(low, product);
      }
      if constexpr (F::kZero > 0) {
        static_assert((F::kZero & (F::kZero - 1)) == 0 && !F::kMin);
        value = _mm256_sub_epi32(value, _mm256_slli_epi32(low, __builtin_ctz(F::kZero)));
      }
      __m256 of_block = _mm256_mul_ps(_mm256_cvtepi32_ps(value), d[h]);
      if constexpr (F::kMin) of_block = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(low), m[h], of_block);
      total[t][h] = _mm256_fmadd_ps(of_block, scale, total[t][h]);
    }
  }
}

template <class F, int kTokens>
void dot_panel(const std::byte* panel, int64_t, int64_t k, const DotTokens& x, float* out) {
  constexpr int kSubs = F::kElements / 32;
  constexpr int64_t kSubBytes = 64 * (F::kLowBits + F::kHighBits), kBlockBytes = F::kScaleBytes + kSubs * kSubBytes;
  const int64_t count = k / F::kElements;
  const std::byte* tails = panel + count * kBlockBytes;
  __m256 total[kTokens][2];
  for (int t = 0; t < kTokens; ++t) total[t][0] = total[t][1] = _mm256_setzero_ps();

  for (int64_t b = 0; b < count; ++b) {
    const std::byte* block = panel + b * kBlockBytes;
    const std::byte* tail = tails + b * F::kTailBytes;
    [[maybe_unused]] GroupScales scales;
    if constexpr (F::kGroup != 0) F::decode(block, tail, scales);
    __m256i sum[kTokens][2];
    for (int t = 0; t < kTokens; ++t) sum[t][0] = sum[t][1] = _mm256_setzero_si256();
    for (int s = 0; s < kSubs; ++s) {
      const int64_t q = b * kSubs + s;
      const std::byte* sub = block + F::kScaleBytes + s * kSubBytes;
      const Factors factors[2] = {factors_of<F>(scales, s, 0), factors_of<F>(scales, s, 1)};
      ask_ahead<kBlockBytes + F::kTailBytes, kSubs>(panel, q, x);
      const auto units = [&](int h, int g) __attribute__((always_inline)) { return unpack<F>(sub, h, g); };
      const auto scale = [&](int h, int g) __attribute__((always_inline)) { return factors[h].scale[g / 4]; };
      dot_sub<F, kTokens>(units, scale, x.rows + 32 * q, x.row_bytes, sum);
    }
    const __m256 d[2] = {f16_values(tail, 0), f16_values(tail, 1)};
    __m256 m[2] = {};
    if constexpr (F::kMin) m[0] = f16_values(tail + 32, 0), m[1] = f16_values(tail + 32, 1);
    if constexpr (F::kGroup == 0) {
      add_plain<F, kTokens>(sum, x, k, b, d, m, total);
    } else {
      const auto pairs = [&](int p, int h) __attribute__((always_inline)) { return pair_of<F>(scales, p, h); };
      add_block<F, kTokens>(sum, x, k, b, pairs, d, m, total);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int h = 0; h < 2; ++h) _mm256_store_ps(out + 16 * t + 8 * h, total[t][h]);
  }
}

// A panel unpacked once for many tokens.
template <class F>
struct Unpacked {
  static constexpr int kGroups = F::kGroup == 16 ? 2 : 1;  // of a sub-block
  static constexpr int64_t kPairBytes = 64 * kPairs<F>;    // of a block

  Unpacked(std::byte* scratch, int64_t k)
      : codes(scratch),
        scale(codes + 16 * k),
        pair(scale + (F::kGroup != 0 ? 64 * kGroups * (k / 32) : 0)),
        factor(reinterpret_cast<float*>(pair + kPairBytes * (k / F::kElements))) {}
  std::byte* codes;  // [k / 4][16][4]
  std::byte* scale;  // [k / 32][kGroups][16] pairs (s, s) of 16 bits, grouped formats
  std::byte* pair;   // [blocks][kPairs][16] pairs: pair_of
  float* factor;     // [blocks][d, m][16]
};

template <class F>
void unpack_panel(const std::byte* panel, int64_t k, const Unpacked<F>& to) {
  constexpr int kSubs = F::kElements / 32, kGroups = Unpacked<F>::kGroups;
  constexpr int64_t kSubBytes = 64 * (F::kLowBits + F::kHighBits), kBlockBytes = F::kScaleBytes + kSubs * kSubBytes;
  const int64_t count = k / F::kElements;
  for (int64_t b = 0; b < count; ++b) {
    const std::byte* block = panel + b * kBlockBytes;
    const std::byte* tail = panel + count * kBlockBytes + b * F::kTailBytes;
    [[maybe_unused]] GroupScales scales;
    if constexpr (F::kGroup != 0) F::decode(block, tail, scales);
    for (int s = 0; s < kSubs; ++s) {
      const int64_t q = b * kSubs + s;
      for (int h = 0; h < 2; ++h) {
#pragma GCC unroll 8
        for (int g = 0; g < 8; ++g) {
          store(to.codes + 512 * q + 64 * g + 32 * h, unpack<F>(block + F::kScaleBytes + s * kSubBytes, h, g));
        }
        if constexpr (F::kGroup != 0) {
          const Factors factors = factors_of<F>(scales, s, h);
          for (int g = 0; g < kGroups; ++g) store(to.scale + 64 * (q * kGroups + g) + 32 * h, factors.scale[g]);
        }
      }
    }
    for (int h = 0; h < 2; ++h) {
      for (int p = 0; p < kPairs<F>; ++p) {
        store(to.pair + b * Unpacked<F>::kPairBytes + 64 * p + 32 * h, pair_of<F>(scales, p, h));
      }
      _mm256_store_ps(to.factor + 32 * b + 8 * h, f16_values(tail, h));
      if constexpr (F::kMin) _mm256_store_ps(to.factor + 32 * b + 16 + 8 * h, f16_values(tail + 32, h));
    }
  }
}

// An unpacked panel times kTokens tokens: the operations of dot_panel in its order.
template <class F, int kTokens>
void dot_unpacked(const Unpacked<F>& w, int64_t k, const DotTokens& x, float* out) {
  constexpr int kSubs = F::kElements / 32, kGroups = Unpacked<F>::kGroups;
  __m256 total[kTokens][2];
  for (int t = 0; t < kTokens; ++t) total[t][0] = total[t][1] = _mm256_setzero_ps();
  for (int64_t b = 0; b < k / F::kElements; ++b) {
    const float* factor = w.factor + 32 * b;
    __m256i sum[kTokens][2];
    for (int t = 0; t < kTokens; ++t) sum[t][0] = sum[t][1] = _mm256_setzero_si256();
    for (int s = 0; s < kSubs; ++s) {
      const int64_t q = b * kSubs + s;
      const auto units = [&](int h, int g) __attribute__((always_inline)) {
        return load(w.codes + 512 * q + 64 * g + 32 * h);
      };
      const auto scale = [&](int h, int g) __attribute__((always_inline)) {
        return F::kGroup == 0 ? _mm256_set1_epi16(1) : load(w.scale + 64 * (q * kGroups + g * kGroups / 8) + 32 * h);
      };
      dot_sub<F, kTokens>(units, scale, x.rows + 32 * q, x.row_bytes, sum);
    }
    const __m256 d[2] = {_mm256_load_ps(factor), _mm256_load_ps(factor + 8)};
    __m256 m[2] = {};
    if constexpr (F::kMin) m[0] = _mm256_load_ps(factor + 16), m[1] = _mm256_load_ps(factor + 24);
    if constexpr (F::kGroup == 0) {
      add_plain<F, kTokens>(sum, x, k, b, d, m, total);
    } else {
      const auto pairs = [&](int p, int h) __attribute__((always_inline)) {
        return load(w.pair + b * Unpacked<F>::kPairBytes + 64 * p + 32 * h);
      };
      add_block<F, kTokens>(sum, x, k, b, pairs, d, m, total);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int h = 0; h < 2; ++h) _mm256_store_ps(out + 16 * t + 8 * h, total[t][h]);
  }
}

template <class F>
void prefill(const std::byte* panel, int64_t k, const DotTokens& x, int64_t tokens, std::byte* scratch, float* out) {
  const Unpacked<F> w(scratch, k);
  unpack_panel<F>(panel, k, w);
  for (int64_t t = 0; t < tokens; t += 4) dot_unpacked<F, 4>(w, k, x.from(t), out + 16 * t);
}

template <class F>
constexpr Dots dots_of(DType dtype) {
  Dots dots = {dtype, dot_panel<F, 1>, dot_panel<F, 2>, dot_panel<F, 4>};
  // Formats of one plane of bits are unpacked in passing as fast as they would be read unpacked.
  if constexpr (F::kHighBits != 0 || F::kGroup == 16 || (F::kTable && F::kGroup != 0)) {
    dots.prefill = prefill<F>;
    dots.prefill_tile = 4;
    dots.prefill_least = 16;
  }
  return dots;
}

}  // namespace
}  // namespace ll::avx2
