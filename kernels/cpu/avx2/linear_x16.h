// Panels of kX16 (kernels/quant/layouts.h) times q8a tokens: one skeleton, instantiated with the traits of each format.
// Include only from kernels/cpu/avx2/; everything has internal linkage.
//
// A unit of 64 bytes gives two registers of codes, rows 0-7 and rows 8-15 ("halves"), four consecutive k each.
// vpmaddubsw multiplies them with four broadcast activation codes and adds pairs into 16 bits; some of those sums are
// added up before vpmaddwd widens them, times the group's scale. How many: code * 127 * 2 * kFlush must stay below
// 32768. Sums over 32 k are exact integers; they are scaled and added in f32 in ascending k, so no output depends on
// kTokens.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/avx2/linear_dots.h"
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

// What one half of a sub-block is multiplied with.
struct Factors {
  __m256i scale[2];  // of k 0-15 and 16-31, pairs (s, s); ones for plain formats
  __m256i pair;      // (scale[0], scale[1]): meets the two sums of q8a
  __m256 min[2];     // of the same k
};

// Eight rows' unsigned bytes as floats.
[[maybe_unused]] inline __m256 byte_values(const std::byte* bytes) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes))));
}

template <class F>
inline __attribute__((always_inline)) Factors factors_of(const GroupScales& scales, int sub, int half) {
  Factors f;
  if constexpr (F::kGroup == 16) {
    for (int g = 0; g < 2; ++g) f.scale[g] = spread<F::kSignedScale>(scales.scale + 16 * (2 * sub + g) + 8 * half);
    f.pair = _mm256_blend_epi16(f.scale[0], f.scale[1], 0xaa);
    if constexpr (F::kMin) {
      for (int g = 0; g < 2; ++g) f.min[g] = byte_values(scales.min + 16 * (2 * sub + g) + 8 * half);
    }
  } else if constexpr (F::kGroup == 32) {
    f.scale[0] = f.scale[1] = f.pair = spread<F::kSignedScale>(scales.scale + 16 * sub + 8 * half);
    if constexpr (F::kMin) f.min[0] = byte_values(scales.min + 16 * sub + 8 * half);
  } else {
    f.scale[0] = f.scale[1] = f.pair = _mm256_set1_epi16(1);
  }
  return f;
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

// sum[t][h]: per row of half h, the sum over 32 k of code * activation * scale.
template <class F, int kTokens>
inline __attribute__((always_inline)) void dot_sub(const std::byte* sub, const int8_t* const (&x)[kTokens],
                                                   const Factors (&factors)[2], __m256i (&sum)[kTokens][2]) {
  constexpr int kFlush = flush_after<F>();
#pragma GCC unroll 8
  for (int first = 0; first < 8; first += kFlush) {
    __m256i part[kTokens][2];
#pragma GCC unroll 8
    for (int g = first; g < first + kFlush; ++g) {
      const __m256i w[2] = {unpack<F>(sub, 0, g), unpack<F>(sub, 1, g)};
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) {
        const __m256i a = broadcast32(x[t] + 4 * g);
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
          __m256i product;
          if constexpr (F::kSigned) {
            product = _mm256_maddubs_epi16(_mm256_abs_epi8(w[h]), _mm256_sign_epi8(a, w[h]));
          } else {
            product = _mm256_maddubs_epi16(w[h], a);
          }
          part[t][h] = g == first ? product : _mm256_add_epi16(part[t][h], product);
          pin(part[t][h]);
        }
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const __m256i wide = _mm256_madd_epi16(part[t][h], factors[h].scale[first / 4]);
        sum[t][h] = first == 0 ? wide : _mm256_add_epi32(sum[t][h], wide);
      }
    }
  }
}

template <class F, int kTokens>
void dot_panel(const std::byte* panel, int64_t, int64_t k, const DotTokens& x, float* out) {
  constexpr int kSubs = F::kElements / 32, kGroups = F::kGroup == 16 ? 2 : 1;
  constexpr int64_t kSubBytes = 64 * (F::kLowBits + F::kHighBits), kBlockBytes = F::kScaleBytes + kSubs * kSubBytes;
  const int64_t count = k / F::kElements;
  const std::byte* tails = panel + count * kBlockBytes;
  Q8aRow token[kTokens];
  for (int t = 0; t < kTokens; ++t) token[t] = q8a_row(x.rows + t * x.row_bytes, k);
  __m256 total[kTokens][2];
  for (int t = 0; t < kTokens; ++t) total[t][0] = total[t][1] = _mm256_setzero_ps();

  for (int64_t b = 0; b < count; ++b) {
    const std::byte* block = panel + b * kBlockBytes;
    const std::byte* tail = tails + b * F::kTailBytes;
    [[maybe_unused]] GroupScales scales;
    __m256 part[kTokens][2], low[kTokens][2];  // grouped: sums over the block before d and dmin
    if constexpr (F::kGroup != 0) {
      F::decode(block, tail, scales);
      for (int t = 0; t < kTokens; ++t) {
        part[t][0] = part[t][1] = low[t][0] = low[t][1] = _mm256_setzero_ps();
      }
    }
    for (int s = 0; s < kSubs; ++s) {
      const int64_t q = b * kSubs + s;
      const Factors factors[2] = {factors_of<F>(scales, s, 0), factors_of<F>(scales, s, 1)};
      const int8_t* codes[kTokens];
      for (int t = 0; t < kTokens; ++t) codes[t] = token[t].codes + 32 * q;
      ask_ahead<kBlockBytes + F::kTailBytes, kSubs>(panel, q, x);
      __m256i sum[kTokens][2];
      dot_sub<F, kTokens>(block + F::kScaleBytes + s * kSubBytes, codes, factors, sum);
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) {
        const __m256 scale = _mm256_set1_ps(token[t].scales[q]);
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
          if constexpr (F::kZero > 0) {
            const __m256i sums = broadcast32(token[t].sums + 2 * q);
            static_assert((F::kZero & (F::kZero - 1)) == 0);
            const __m256i zeros = _mm256_slli_epi32(_mm256_madd_epi16(factors[h].pair, sums), __builtin_ctz(F::kZero));
            sum[t][h] = _mm256_sub_epi32(sum[t][h], zeros);
          }
          const __m256 value = _mm256_cvtepi32_ps(sum[t][h]);
          if constexpr (F::kGroup != 0) {
            part[t][h] = _mm256_fmadd_ps(value, scale, part[t][h]);
          } else {
            total[t][h] = _mm256_fmadd_ps(value, _mm256_mul_ps(f16_values(tail, h), scale), total[t][h]);
          }
          if constexpr (F::kMin) {
            const float* mins = x.mins + t * x.mins_stride + q * kGroups;
            if constexpr (F::kGroup == 0) {
              total[t][h] = _mm256_fmadd_ps(_mm256_broadcast_ss(mins), f16_values(tail + 32, h), total[t][h]);
            } else {
              for (int g = 0; g < kGroups; ++g) {
                low[t][h] = _mm256_fmadd_ps(factors[h].min[g], _mm256_broadcast_ss(mins + g), low[t][h]);
              }
            }
          }
        }
      }
    }
    if constexpr (F::kGroup != 0) {
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const __m256 d = f16_values(tail, h);
        for (int t = 0; t < kTokens; ++t) total[t][h] = _mm256_fmadd_ps(part[t][h], d, total[t][h]);
        if constexpr (F::kMin) {
          const __m256 m = f16_values(tail + 32, h);
          for (int t = 0; t < kTokens; ++t) total[t][h] = _mm256_fnmadd_ps(low[t][h], m, total[t][h]);
        }
      }
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

  Unpacked(std::byte* scratch, int64_t k)
      : codes(scratch),
        scale(codes + 16 * k),
        min(reinterpret_cast<float*>(scale + (F::kGroup != 0 ? 64 * kGroups * (k / 32) : 0))),
        factor(min + (F::kGroup != 0 && F::kMin ? 16 * kGroups * (k / 32) : 0)) {}
  std::byte* codes;  // [k / 4][16][4]
  std::byte* scale;  // [k / 32][kGroups][16] pairs (s, s) of 16 bits, grouped formats
  float* min;        // [k / 32][kGroups][16], grouped formats with minima
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
          for (int g = 0; g < kGroups; ++g) {
            store(to.scale + 64 * (q * kGroups + g) + 32 * h, factors.scale[g]);
            if constexpr (F::kMin) _mm256_store_ps(to.min + 16 * (q * kGroups + g) + 8 * h, factors.min[g]);
          }
        }
      }
    }
    for (int h = 0; h < 2; ++h) {
      _mm256_store_ps(to.factor + 32 * b + 8 * h, f16_values(tail, h));
      if constexpr (F::kMin) _mm256_store_ps(to.factor + 32 * b + 16 + 8 * h, f16_values(tail + 32, h));
    }
  }
}

// One sub-block of an unpacked panel: value[t][h] = its exact sum over 32 k of code * activation * scale.
template <class F, int kTokens>
inline __attribute__((always_inline)) void unpacked_sub(const std::byte* codes, const std::byte* scale, const int8_t* x,
                                                        int64_t x_row_bytes, const int16_t* sums,
                                                        __m256 (&value)[kTokens][2]) {
  constexpr int kFlush = flush_after<F>(), kGroups = Unpacked<F>::kGroups;
  __m256i sum[kTokens][2];
#pragma GCC unroll 8
  for (int first = 0; first < 8; first += kFlush) {
    __m256i part[kTokens][2];
#pragma GCC unroll 8
    for (int g = first; g < first + kFlush; ++g) {
      const __m256i w[2] = {load(codes + 64 * g), load(codes + 64 * g + 32)};
      [[maybe_unused]] const __m256i size[2] = {_mm256_abs_epi8(w[0]), _mm256_abs_epi8(w[1])};
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) {
        const __m256i a = broadcast32(x + t * x_row_bytes + 4 * g);
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
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const __m256i factor =
            F::kGroup == 0 ? _mm256_set1_epi16(1) : load(scale + 64 * (first * kGroups / 8) + 32 * h);
        const __m256i wide = _mm256_madd_epi16(part[t][h], factor);
        sum[t][h] = first == 0 ? wide : _mm256_add_epi32(sum[t][h], wide);
      }
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < kTokens; ++t) {
    [[maybe_unused]] const __m256i pair = broadcast32(reinterpret_cast<const std::byte*>(sums) + t * x_row_bytes);
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      if constexpr (F::kZero > 0) {
        __m256i scales = _mm256_set1_epi16(1);
        if constexpr (F::kGroup != 0) scales = load(scale + 32 * h);
        if constexpr (kGroups == 2) scales = _mm256_blend_epi16(scales, load(scale + 64 + 32 * h), 0xaa);
        const __m256i zeros = _mm256_slli_epi32(_mm256_madd_epi16(scales, pair), __builtin_ctz(F::kZero));
        sum[t][h] = _mm256_sub_epi32(sum[t][h], zeros);
      }
      value[t][h] = _mm256_cvtepi32_ps(sum[t][h]);
    }
  }
}

// An unpacked panel times kTokens tokens: the operations of dot_panel in its order.
template <class F, int kTokens>
void dot_unpacked(const Unpacked<F>& w, int64_t k, const DotTokens& x, float* out) {
  constexpr int kSubs = F::kElements / 32, kGroups = Unpacked<F>::kGroups;
  const auto* codes = reinterpret_cast<const int8_t*>(x.rows);
  const auto* scales = reinterpret_cast<const float*>(x.rows + k);
  const auto* sums = reinterpret_cast<const int16_t*>(x.rows + k + k / 8);
  const int64_t floats = x.row_bytes / 4;
  __m256 total[kTokens][2];
  for (int t = 0; t < kTokens; ++t) total[t][0] = total[t][1] = _mm256_setzero_ps();
  for (int64_t b = 0; b < k / F::kElements; ++b) {
    const float* factor = w.factor + 32 * b;
    __m256 part[kTokens][2];
    if constexpr (F::kGroup != 0) {
      for (int t = 0; t < kTokens; ++t) part[t][0] = part[t][1] = _mm256_setzero_ps();
    }
    for (int s = 0; s < kSubs; ++s) {
      const int64_t q = b * kSubs + s;
      __m256 value[kTokens][2];
      unpacked_sub<F, kTokens>(w.codes + 512 * q, w.scale + 64 * q * kGroups, codes + 32 * q, x.row_bytes, sums + 2 * q,
                               value);
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) {
        const __m256 scale = _mm256_broadcast_ss(scales + t * floats + q);
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
          if constexpr (F::kGroup != 0) {
            part[t][h] = _mm256_fmadd_ps(value[t][h], scale, part[t][h]);
          } else {
            const __m256 d = _mm256_mul_ps(_mm256_load_ps(factor + 8 * h), scale);
            total[t][h] = _mm256_fmadd_ps(value[t][h], d, total[t][h]);
            if constexpr (F::kMin) {
              const __m256 mins = _mm256_broadcast_ss(x.mins + t * x.mins_stride + q);
              total[t][h] = _mm256_fmadd_ps(mins, _mm256_load_ps(factor + 16 + 8 * h), total[t][h]);
            }
          }
        }
      }
    }
    if constexpr (F::kGroup != 0) {
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
          total[t][h] = _mm256_fmadd_ps(part[t][h], _mm256_load_ps(factor + 8 * h), total[t][h]);
          if constexpr (F::kMin) {
            __m256 low = _mm256_setzero_ps();
#pragma GCC unroll 16
            for (int g = 0; g < kSubs * kGroups; ++g) {
              const int64_t at = b * kSubs * kGroups + g;
              low = _mm256_fmadd_ps(_mm256_load_ps(w.min + 16 * at + 8 * h),
                                    _mm256_broadcast_ss(x.mins + t * x.mins_stride + at), low);
            }
            total[t][h] = _mm256_fnmadd_ps(low, _mm256_load_ps(factor + 16 + 8 * h), total[t][h]);
          }
        }
      }
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
  dots.mins_group = F::kMin ? (F::kGroup == 16 ? 16 : 32) : 0;
  return dots;
}

}  // namespace
}  // namespace ll::avx2
