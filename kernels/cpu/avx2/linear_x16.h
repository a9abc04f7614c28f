// Panels of kX16 (kernels/quant/layouts.h) times q8a tokens: one skeleton, instantiated with the traits of each format.
// Include only from kernels/cpu/avx2/; everything has internal linkage.
//
// A unit of 64 bytes gives two registers of codes, rows 0-7 and rows 8-15 ("halves"), four consecutive k each.
// vpmaddubsw multiplies them with four broadcast activation codes and adds pairs into 16 bits; some of those sums are
// added up before vpmaddwd widens them, times the group's scale. How many, kFlush: what they add up to must fit 16
// bits. With a kZero that is code - kZero, from -kZero to kZero - 1: sums of codes may wrap around, as long as kZero
// times the activations' sum is taken off in the same 16 bits. Sums over a block are exact integers, with group scales
// too: 256 k have one activation scale (q8a256). They are scaled and added in f32 in ascending k, so no output depends
// on kTokens.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/cpu/avx2/linear_dots.h"
#include "kernels/cpu/avx2/vector.h"
#include "kernels/cpu/x16_step.h"
#include "kernels/quant/blocks.h"
#include "kernels/quant/q8a.h"

namespace ll::avx2 {
namespace {

// Traits of a format:
//   kElements            of a block
//   kLowBits, kHighBits  of a code: planes of a sub-block, the high one first
//   kTable, kSigned      codes index kIq4Values; codes are signed bytes after unpacking
//   kZero                subtracted from codes; 0 or half of 2^bits
//   kGroup               0, 16 or 32 elements with one scale
//   kSignedScale         group scales are int8 after decoding
//   kMin                 the format has minima (grouped) or an addend (plain)
//   kScaleBytes, kHeadBytes
//   decode(block, head, scales)  grouped formats

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

// A grouped format's minima of two neighbouring groups: eight rows' pairs of 16 bits.
template <class F>
constexpr int kPairs = F::kGroup != 0 && F::kMin ? 128 / F::kGroup : 0;
template <class F>
inline __attribute__((always_inline)) __m256i min_pair(const GroupScales& scales, int pair, int half) {
  const std::byte* bytes = scales.min + 32 * pair + 8 * half;
  return _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)),
                                                _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes + 16))));
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
  static_assert(F::kZero == 0 || 2 * F::kZero == 1 << (F::kLowBits + F::kHighBits));
  constexpr int kLargest = F::kSigned ? 128 : F::kZero > 0 ? F::kZero : (1 << (F::kLowBits + F::kHighBits)) - 1;
  for (int n = 8; n > 1; n /= 2) {
    if (kLargest * 127 * 2 * n < 32768 && (F::kGroup != 16 || n <= 4)) return n;
  }
  return 1;
}

// Tokens of a step as the format's products read them. Words, of a kZero: two int16, kZero times the sums of codes that
// meet in 16 bits, of k with k % 4 < 2 and of the others; of plain formats with an addend: the sum of codes.
template <class F>
constexpr int words_of_sub() {
  if (F::kZero != 0) return 8 / flush_after<F>();
  return F::kMin && F::kGroup == 0 ? 1 : 0;
}
template <class F>
using Step = StepBlock<F::kElements / 32, words_of_sub<F>(), kPairs<F>>;
template <class F>
struct Words {
  static void make(const std::byte* codes, const int16_t* of_16, int32_t* to) {
    if constexpr (F::kZero == 0) {
      to[0] = of_16[0] + of_16[1];
    } else {
      constexpr int kFlush = flush_after<F>();
      static_assert(kFlush >= 4);
      __m256i all = _mm256_maddubs_epi16(_mm256_set1_epi8(1), load(codes));
      all = _mm256_slli_epi16(all, __builtin_ctz(F::kZero));
      all = _mm256_add_epi16(all, _mm256_shuffle_epi32(all, 0x4e));
      all = _mm256_add_epi16(all, _mm256_shuffle_epi32(all, 0xb1));  // of k 0-15 and 16-31
      const __m128i first = _mm256_castsi256_si128(all), second = _mm256_extracti128_si256(all, 1);
      if constexpr (kFlush == 4) {
        to[0] = _mm_cvtsi128_si32(first), to[1] = _mm_cvtsi128_si32(second);
      } else {
        to[0] = _mm_cvtsi128_si32(_mm_add_epi16(first, second));
      }
    }
  }
};
template <class F, int kTokens>
using Tokens = typename Step<F>::template Of<kTokens>;

// Keeps a running sum in its register: left alone, the compiler turns chains of additions into trees and spills them.
[[maybe_unused]] inline __attribute__((always_inline)) __m256i pin(__m256i v) {
  asm("" : "+x"(v));
  return v;
}

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

// sum[t][h] += per row of half h, the sum over sub-block s of a block of (code - kZero) * activation * scale. `units`
// gives eight rows' codes of four k, (half, unit); `scales` the scales of a unit's group, (half, unit).
template <class F, int kTokens, class Units, class Scales>
inline __attribute__((always_inline)) void dot_sub(const Units& units, const Scales& scales,
                                                   const Tokens<F, kTokens>& x, int64_t s, __m256i (&sum)[kTokens][2]) {
  constexpr int kFlush = flush_after<F>();
#pragma GCC unroll 8
  for (int first = 0; first < 8; first += kFlush) {
    __m256i part[kTokens][2];
    [[maybe_unused]] __m256i zero[kTokens];
    if constexpr (F::kZero > 0) {
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) zero[t] = broadcast32(x.word(s, first / kFlush, t));
    }
#pragma GCC unroll 8
    for (int g = first; g < first + kFlush; ++g) {
      const __m256i w[2] = {units(0, g), units(1, g)};
      [[maybe_unused]] __m256i size[2];
      if constexpr (F::kSigned) size[0] = _mm256_abs_epi8(w[0]), size[1] = _mm256_abs_epi8(w[1]);
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) {
        const __m256i a = broadcast32(x.code(s, t, 4 * g));
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
          __m256i product;
          if constexpr (F::kSigned) {
            product = _mm256_maddubs_epi16(size[h], _mm256_sign_epi8(a, w[h]));
          } else {
            product = _mm256_maddubs_epi16(w[h], a);
          }
          if (g > first) {
            product = _mm256_add_epi16(part[t][h], product);
          } else if constexpr (F::kZero > 0) {
            product = _mm256_sub_epi16(product, zero[t]);
          }
          part[t][h] = pin(product);
        }
      }
    }
    const __m256i scale[2] = {scales(0, first), scales(1, first)};
    widen<kTokens>(part, scale, sum);
  }
}

// total[t][h] += the exact sums of a plain format's block, scaled; `d` and `m` are its factors.
template <class F, int kTokens>
inline __attribute__((always_inline)) void add_plain(const __m256i (&sum)[kTokens][2], const Tokens<F, kTokens>& x,
                                                     const __m256 (&d)[2], const __m256 (&m)[2],
                                                     __m256 (&total)[kTokens][2]) {
#pragma GCC unroll 4
  for (int t = 0; t < kTokens; ++t) {
    const __m256 scale = _mm256_set1_ps(read_float(x.scale(t)));
    [[maybe_unused]] __m256 low;
    if constexpr (F::kMin) low = _mm256_mul_ps(_mm256_cvtepi32_ps(broadcast32(x.word(0, 0, t))), scale);
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      total[t][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[t][h]), _mm256_mul_ps(d[h], scale), total[t][h]);
      if constexpr (F::kMin) total[t][h] = _mm256_fmadd_ps(low, m[h], total[t][h]);
    }
  }
}

// total[t][h] += the exact sums of a grouped format's block, scaled. `pairs` gives min_pair, (pair, half).
template <class F, int kTokens, class Pairs>
inline __attribute__((always_inline)) void add_block(const __m256i (&sum)[kTokens][2], const Tokens<F, kTokens>& x,
                                                     const Pairs& pairs, const __m256 (&d)[2], const __m256 (&m)[2],
                                                     __m256 (&total)[kTokens][2]) {
  constexpr int kCount = kPairs<F>;
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    [[maybe_unused]] __m256i pair[kCount + 1];
    for (int p = 0; p < kCount; ++p) pair[p] = pairs(p, h);
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
      const __m256 scale = _mm256_set1_ps(read_float(x.scale(t)));
      __m256 of_block = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[t][h]), d[h]);
      if constexpr (F::kMin) {
        __m256i low = _mm256_madd_epi16(pair[0], broadcast32(x.pair(0, t)));
#pragma GCC unroll 8
        for (int p = 1; p < kCount; ++p) {
          low = _mm256_add_epi32(low, _mm256_madd_epi16(pair[p], broadcast32(x.pair(p, t))));
        }
        of_block = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(low), m[h], of_block);
      }
      total[t][h] = _mm256_fmadd_ps(of_block, scale, total[t][h]);
    }
  }
}

// Where the parts of a panel are.
template <class F>
struct PanelParts {
  static constexpr int kSubs = F::kElements / 32;
  static constexpr int64_t kSubBytes = 64 * (F::kLowBits + F::kHighBits),
                           kBlockBytes = F::kScaleBytes + kSubs * kSubBytes;
  using Ahead = LinesAhead<F::kHeadBytes + kBlockBytes, kSubs>;

  PanelParts(const std::byte* start, int64_t k) : panel(start), blocks(start + k / F::kElements * F::kHeadBytes) {}
  const std::byte* block(int64_t b) const { return blocks + b * kBlockBytes; }
  const std::byte* head(int64_t b) const { return panel + b * F::kHeadBytes; }
  const std::byte* sub(int64_t b, int64_t s) const { return block(b) + F::kScaleBytes + s * kSubBytes; }
  // Sub-block first + s, of up to eight from a grouped format's block on.
  const std::byte* sub_of_chunk(int64_t first, int64_t s) const {
    return F::kGroup != 0 ? sub(first / kSubs, s) : sub(first + s, 0);
  }
  void decode(int64_t b, GroupScales& scales) const {
    if constexpr (F::kGroup != 0) F::decode(block(b), head(b), scales);
  }
  void factors(int64_t b, __m256 (&d)[2], __m256 (&m)[2]) const {
    for (int h = 0; h < 2; ++h) {
      d[h] = f16_values(head(b), h);
      if constexpr (F::kMin) m[h] = f16_values(head(b) + 32, h);
    }
  }

  const std::byte *panel, *blocks;
};

// A panel times 1, 2 or 4 tokens: codes are unpacked in passing.
template <class F, int kTokens>
void dot_panel(const std::byte* panel, int64_t, int64_t k, const DotTokens& x, float* out) {
  using Parts = PanelParts<F>;
  const Parts parts(panel, k);
  __m256 total[kTokens][2];
  for (int t = 0; t < kTokens; ++t) total[t][0] = total[t][1] = _mm256_setzero_ps();

  for (int64_t b = 0; b < k / F::kElements; ++b) {
    const Tokens<F, kTokens> tokens(x.rows, b);
    [[maybe_unused]] GroupScales scales;
    parts.decode(b, scales);
    __m256i sum[kTokens][2];
    for (int t = 0; t < kTokens; ++t) sum[t][0] = sum[t][1] = _mm256_setzero_si256();
    for (int s = 0; s < Parts::kSubs; ++s) {
      const int64_t q = b * Parts::kSubs + s;
      const std::byte* sub = parts.sub(b, s);
      const Factors factors[2] = {factors_of<F>(scales, s, 0), factors_of<F>(scales, s, 1)};
      const typename Parts::Ahead ahead(panel, q, x);
      const auto units = [&](int h, int g) __attribute__((always_inline)) {
        if (h == 0) ahead.ask(g);
        return unpack<F>(sub, h, g);
      };
      const auto scale = [&](int h, int g) __attribute__((always_inline)) { return factors[h].scale[g / 4]; };
      dot_sub<F, kTokens>(units, scale, tokens, s, sum);
    }
    __m256 d[2], m[2] = {};
    parts.factors(b, d, m);
    if constexpr (F::kGroup == 0) {
      add_plain<F, kTokens>(sum, tokens, d, m, total);
    } else {
      const auto pairs = [&](int p, int h) __attribute__((always_inline)) { return min_pair<F>(scales, p, h); };
      add_block<F, kTokens>(sum, tokens, pairs, d, m, total);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int h = 0; h < 2; ++h) _mm256_store_ps(out + 16 * t + 8 * h, total[t][h]);
  }
}

// Up to 256 k of a panel, decoded once for many tokens, in the L1 cache: a block of a grouped format, up to kSubs of a
// plain one.
template <class F>
struct DecodedChunk {
  static constexpr bool kGrouped = F::kGroup != 0;
  static constexpr int kSubs = 8, kGroups = F::kGroup == 16 ? 2 : 1;  // kGroups of a sub-block
  // Codes of one plane of bits are unpacked in passing by the first tokens and left here for the others.
  static constexpr bool kInPassing = F::kHighBits == 0;

  // Sub-blocks [first, first + count).
  DecodedChunk(const PanelParts<F>& parts, int64_t first, int64_t count) {
    const int64_t block = first / PanelParts<F>::kSubs;
    if constexpr (kGrouped) {
      GroupScales scales;
      parts.decode(block, scales);
      for (int h = 0; h < 2; ++h) {
        for (int s = 0; s < kSubs; ++s) {
          const Factors factors = factors_of<F>(scales, s, h);
          for (int g = 0; g < kGroups; ++g) scale[s][g][h] = factors.scale[g];
        }
        for (int p = 0; p < kPairs<F>; ++p) pair[p][h] = min_pair<F>(scales, p, h);
      }
    }
    for (int64_t i = 0; i < (kGrouped ? 1 : count); ++i) parts.factors(block + i, d[i], m[i]);
    if constexpr (!kInPassing) {
      for (int64_t s = 0; s < count; ++s) {
        const std::byte* sub = parts.sub_of_chunk(first, s);
        for (int h = 0; h < 2; ++h) {
#pragma GCC unroll 8
          for (int g = 0; g < 8; ++g) codes[s][g][h] = unpack<F>(sub, h, g);
        }
      }
    }
  }

  __m256i codes[kSubs][8][2];
  __m256i scale[kSubs][kGroups][2];  // grouped formats
  __m256i pair[kPairs<F> + 1][2];
  __m256 d[kGrouped ? 1 : kSubs][2], m[kGrouped ? 1 : kSubs][2];
};

// total[t][h] += the products of sub-blocks [first, first + count), which w has, with kTokens tokens: the operations of
// dot_panel in its order. kUnpack: w's codes are made on the way.
template <class F, int kTokens, bool kUnpack>
inline __attribute__((always_inline)) void dot_decoded(const PanelParts<F>& parts, DecodedChunk<F>& w, int64_t first,
                                                       int64_t count, const DotTokens& x, __m256 (&total)[kTokens][2]) {
  using Chunk = DecodedChunk<F>;
  [[maybe_unused]] const int64_t block = first / Chunk::kSubs;
  __m256i sum[kTokens][2];
  for (int64_t s = 0; s < count; ++s) {
    if (!Chunk::kGrouped || s == 0) {
      for (int t = 0; t < kTokens; ++t) sum[t][0] = sum[t][1] = _mm256_setzero_si256();
    }
    const typename PanelParts<F>::Ahead ahead(parts.panel, first + s, x);
    const auto units = [&](int h, int g) __attribute__((always_inline)) {
      if (h == 0) ahead.ask(g);
      if constexpr (kUnpack) w.codes[s][g][h] = unpack<F>(parts.sub_of_chunk(first, s), h, g);
      return w.codes[s][g][h];
    };
    const auto scale = [&](int h, int g) __attribute__((always_inline)) {
      return Chunk::kGrouped ? w.scale[s][g * Chunk::kGroups / 8][h] : _mm256_set1_epi16(1);
    };
    const Tokens<F, kTokens> tokens(x.rows, Chunk::kGrouped ? block : first + s);
    dot_sub<F, kTokens>(units, scale, tokens, Chunk::kGrouped ? s : 0, sum);
    if constexpr (!Chunk::kGrouped) add_plain<F, kTokens>(sum, tokens, w.d[s], w.m[s], total);
  }
  if constexpr (Chunk::kGrouped) {
    const auto pairs = [&](int p, int h) __attribute__((always_inline)) { return w.pair[p][h]; };
    add_block<F, kTokens>(sum, Tokens<F, kTokens>(x.rows, block), pairs, w.d[0], w.m[0], total);
  }
}

// ManyFn.
template <class F>
void dot_many(const std::byte* panel, int64_t k, const DotTokens& x, int64_t tokens, float* out) {
  const PanelParts<F> parts(panel, k);
  const auto asking = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(tokens / 4)));
  for (int64_t first = 0; first < k / 32; first += DecodedChunk<F>::kSubs) {
    const int64_t count = std::min<int64_t>(DecodedChunk<F>::kSubs, k / 32 - first);
    DecodedChunk<F> w(parts, first, count);
    for (int64_t t = 0; t < tokens; t += 4) {
      DotTokens part = x.from(t);
      if (t / 4 >= asking) part.ahead = 0;
      part.ahead_mask = asking - 1, part.ahead_turn = t / 4;
      float* sums = out + 16 * t;
      __m256 total[4][2];
      for (int i = 0; i < 4; ++i) {
        for (int h = 0; h < 2; ++h) {
          total[i][h] = first == 0 ? _mm256_setzero_ps() : _mm256_load_ps(sums + 16 * i + 8 * h);
        }
      }
      if (DecodedChunk<F>::kInPassing && t == 0) {
        dot_decoded<F, 4, DecodedChunk<F>::kInPassing>(parts, w, first, count, part, total);
      } else {
        dot_decoded<F, 4, false>(parts, w, first, count, part, total);
      }
      for (int i = 0; i < 4; ++i) {
        for (int h = 0; h < 2; ++h) _mm256_store_ps(sums + 16 * i + 8 * h, total[i][h]);
      }
    }
  }
}

template <class F>
constexpr Dots dots_of(DType dtype) {
  Dots dots = {dtype, dots_of_tokens<4>([]<int kTokens> { return &dot_panel<F, kTokens>; })};
  // Blocks of 32 of one plane of bits are unpacked in passing as fast as they would be read unpacked.
  if constexpr (F::kGroup != 0 || F::kHighBits != 0) dots.many = dot_many<F>;
  dots.step = {arrange_step<Step<F>, Words<F>>, Step<F>::kSubs, Step<F>::bytes(1)};
  return dots;
}

}  // namespace
}  // namespace ll::avx2
