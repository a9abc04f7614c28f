// Products of attention with an i8 cache, in integers: codes meet queries and weights that were rounded to 16 bits, so
// that a product takes half of what it takes in floats, and no code becomes a float. Include only from
// kernels/cpu/attention_pages.h; everything has internal linkage.
//
// A query row has one unit for all its elements, of which the largest magnitude is 32767. In a step a row of weights,
// none above 1, times the scales of a group of kKvGroup elements has the unit of the largest scale times 1 / 32767.
// Sums of products, at most 32 * 32767 * 127 of a key's group and 128 * 32767 * 127 of a step's values, are exact. A
// row with NaN or infinity has the unit NaN.
//
// Words W of a level, beside those of kernels/cpu/attention_products.h:
//   Ints                  kLanes words of 32 bits, or twice as many of 16
//   int_zeros(), load_ints(p), broadcast_ints(p)   32 bits at p in each lane
//   even_bytes(v), odd_bytes(v)   the lower, the upper byte of 16 bits, sign extended
//   dot(sum, a, b)        sum + the two products of 16 bits in each lane
//   floats(v)             converted
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/cpu/attention_products.h"
#include "kernels/cpu/avx2/vector.h"

namespace ll {
namespace {

constexpr float kMostUnits = 32767;

// 32 integers as 16 bits, elements 1 and 2 of each 4 exchanged, as even_bytes and odd_bytes meet them.
inline __attribute__((always_inline)) void store_pairs(const __m256i units[4], int16_t* out) {
  for (int i = 0; i < 2; ++i) {
    __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(units[2 * i], units[2 * i + 1]), 0xd8);
    both = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(both, 0xd8), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out) + i, both);
  }
}

// 32 floats in units of which `largest`, no less than any of their magnitudes, is 32767, as store_pairs has them.
// Returns the unit.
inline float code_units(const __m256 x[4], float largest, int16_t* out) {
  __m256i unit[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
  const bool coded = largest >= kKvSmallest && largest < std::numeric_limits<float>::infinity();
  if (coded) {
    const __m256 inverse = _mm256_set1_ps(kMostUnits / largest);
    for (int i = 0; i < 4; ++i) unit[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], inverse));
  }
  store_pairs(unit, out);
  if (coded) return largest * (1 / kMostUnits);
  return largest < kKvSmallest ? 0 : std::numeric_limits<float>::quiet_NaN();
}

// A query in units, as store_pairs has them, zeros to the end of its last group. Returns the unit.
inline float code_query(const float* query, int64_t head_dim, int16_t* units) {
  __m256 x[4];
  const auto load_group = [&](int64_t d) {
    for (int64_t i = 0; i < 4; ++i) {
      x[i] = avx2::load_part(query + d + 8 * i, std::clamp<int64_t>(head_dim - d - 8 * i, 0, 8));
    }
  };
  float largest = 0;
  for (int64_t d = 0; d < head_dim; d += kKvGroup) {
    load_group(d);
    const float most = avx2::largest_magnitude(x);
    if (!(most <= largest)) largest = most;
    if (std::isnan(largest)) break;
  }
  float unit = 0;
  for (int64_t d = 0; d < head_dim; d += kKvGroup) {
    load_group(d);
    unit = code_units(x, largest, units + d);
  }
  return unit;
}

// sum[r][i] += the products of words i of kVectors registers with the four codes of row r, `row` codes apart.
template <class W, int kRows, int kVectors>
inline __attribute__((always_inline)) void add_words(const std::byte* words, const int16_t* codes, int64_t row,
                                                     typename W::Ints (&sum)[kRows][kVectors]) {
  using Ints = typename W::Ints;
  Ints even[kVectors], odd[kVectors];
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i) {
    const Ints word = W::load_ints(words + 4 * W::kLanes * i);
    even[i] = W::even_bytes(word), odd[i] = W::odd_bytes(word);
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const Ints first = W::broadcast_ints(codes + r * row);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) sum[r][i] = W::dot(sum[r][i], even[i], first);
    const Ints second = W::broadcast_ints(codes + r * row + 2);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) sum[r][i] = W::dot(sum[r][i], odd[i], second);
  }
}

// Lines of kVectors registers of words: so many, from `ask` on, work on them asks for of what is ahead.
template <class W, int kVectors>
inline constexpr int64_t kWordLines = 4 * W::kLanes* kVectors / Prefetch::kLine;

template <class W, int kVectors>
inline __attribute__((always_inline)) void ask_for_lines(const std::byte*& ask) {
  static_assert(kWordLines<W, kVectors> > 0);
#pragma GCC unroll 4
  for (int64_t i = 0; i < kWordLines<W, kVectors>; ++i, ask += Prefetch::kLine) Prefetch::line(ask);
}

template <class W, int kRows, int kVectors>
inline __attribute__((always_inline)) void clear(typename W::Ints (&sum)[kRows][kVectors]) {
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) sum[r][i] = W::int_zeros();
  }
}

// scores[r * kAttentionStep + j ..] = dot products of query r, in its units, with kVectors registers of keys from j on.
//   queries  as code_query has them, those of row r `row` elements after those of row 0
//   plane    of keys
// With kAsk work on keys asks for lines of what is ahead.
template <class W, int kRows, int kVectors, bool kAsk>
inline __attribute__((always_inline)) void dot_key_codes(const int16_t* queries, int64_t row, int64_t head_dim,
                                                         const std::byte* plane, int64_t j, float* scores,
                                                         Prefetch& ahead) {
  for (int64_t group = 0; group < head_dim; group += kKvGroup) {
    typename W::Ints sum[kRows][kVectors];
    clear<W>(sum);
    const int64_t words = (std::min(head_dim - group, kKvGroup) + 3) / 4;
    const std::byte* ask = kAsk ? ahead.lines(words * kWordLines<W, kVectors>) : nullptr;
    const std::byte* place = plane + kv_code_offset(KvPart::kKeys, head_dim, j, group);
    const int16_t* query = queries + group;
    for (int64_t i = 0; i < words; ++i, place += 4 * kKvPageSize, query += 4) {
      if (kAsk) ask_for_lines<W, kVectors>(ask);
      add_words<W>(place, query, row, sum);
    }
    const auto* scales = reinterpret_cast<const float*>(plane + kv_scale_offset(head_dim, j, group / kKvGroup));
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      const typename W::Floats scale = W::load(scales + W::kLanes * i);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        float* out = scores + r * kAttentionStep + j + W::kLanes * i;
        const typename W::Floats value = W::floats(sum[r][i]);
        W::store(out, group == 0 ? W::mul(value, scale) : W::fma(value, scale, W::load(out)));
      }
    }
  }
}

// Planes of values of pages [begin, end) of a step; the others are unknown.
struct StepValues {
  const std::byte* plane[kAttentionStep / kKvPageSize];
  int64_t begin, end;
};

// The scales of a group of values at places [begin, end) of a step, in units of which the largest magnitude is 32767,
// as floats; 0 at other places. Returns the unit.
[[gnu::noinline]] inline float unit_scales(const StepValues& values, int64_t head_dim, int64_t group, int64_t begin,
                                           int64_t end, float* units) {
  const __m256i from = _mm256_set1_epi32(static_cast<int>(begin)), to = _mm256_set1_epi32(static_cast<int>(end));
  const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  __m256i most = _mm256_setzero_si256();  // magnitudes order like their bits, NaN above infinity
  std::fill(units, units + values.begin * kKvPageSize, 0.0f);
  std::fill(units + values.end * kKvPageSize, units + kAttentionStep, 0.0f);
  for (int64_t p = values.begin; p < values.end; ++p) {
    const auto* scales = reinterpret_cast<const float*>(values.plane[p] + kv_scale_offset(head_dim, 0, group));
#pragma GCC unroll 4
    for (int64_t j = 0; j < kKvPageSize; j += 8) {
      const __m256i place = _mm256_add_epi32(places, _mm256_set1_epi32(static_cast<int>(p * kKvPageSize + j)));
      const __m256i seen = _mm256_andnot_si256(_mm256_cmpgt_epi32(from, place), _mm256_cmpgt_epi32(to, place));
      const __m256 scale = _mm256_and_ps(_mm256_loadu_ps(scales + j), _mm256_castsi256_ps(seen));
      most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(scale), _mm256_set1_epi32(0x7fffffff)));
      _mm256_storeu_ps(units + p * kKvPageSize + j, scale);
    }
  }
  const __m256 all[4] = {_mm256_castsi256_ps(most)};
  const float largest = avx2::largest_magnitude(all);
  if (!(largest >= kKvSmallest && largest < std::numeric_limits<float>::infinity())) {
    std::fill(units, units + kAttentionStep, 0.0f);
    return largest < kKvSmallest ? 0 : std::numeric_limits<float>::quiet_NaN();
  }
  const __m256 inverse = _mm256_set1_ps(kMostUnits / largest);
#pragma GCC unroll 2
  for (int64_t j = 0; j < kAttentionStep; j += 8) {
    _mm256_storeu_ps(units + j, _mm256_mul_ps(_mm256_loadu_ps(units + j), inverse));
  }
  return largest * (1 / kMostUnits);
}

// A page's weights, none above 1, times unit_scales, as store_pairs has them.
inline __attribute__((always_inline)) void code_weights(const __m256 weights[4], const float* scales, int16_t* codes) {
  __m256i code[4];
  for (int64_t i = 0; i < 4; ++i) {
    code[i] = _mm256_cvtps_epi32(_mm256_mul_ps(weights[i], _mm256_loadu_ps(scales + 8 * i)));
  }
  store_pairs(code, codes);
}

// For kRows query rows r with visible[r]: sums[r][d] = sums[r][d] * corrections[r] + units[r] * sum over the pages'
// places j of weights[r][j] * values[j][d], for kVectors registers of elements from d on. Those behind head_dim become
// anything finite, or what units and corrections make of it. With kAsk asks for lines of what is ahead.
template <class W, int kRows, int kVectors, bool kAsk>
inline __attribute__((always_inline)) void add_value_codes(const StepValues& values, Prefetch& ahead, int64_t head_dim,
                                                           int64_t d, const int16_t* weights, const float* units,
                                                           const float* corrections, const bool* visible, float* sums,
                                                           int64_t row) {
  using Floats = typename W::Floats;
  typename W::Ints sum[kRows][kVectors];
  clear<W>(sum);
  const int64_t distance = kv_code_offset(KvPart::kValues, head_dim, 4, 0);
  for (int64_t p = values.begin; p < values.end; ++p) {
    const std::byte* words = values.plane[p] + kv_code_offset(KvPart::kValues, head_dim, 0, d);
    const int16_t* weight = weights + p * kKvPageSize;
    const std::byte* ask = kAsk ? ahead.lines(kKvPageSize / 4 * kWordLines<W, kVectors>) : nullptr;
    for (int64_t j = 0; j < kKvPageSize; j += 4, words += distance, weight += 4) {
      if (kAsk) ask_for_lines<W, kVectors>(ask);
      add_words<W>(words, weight, kAttentionStep, sum);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    if (!visible[r]) continue;
    const Floats unit = W::broadcast(units + r), correction = W::broadcast(corrections + r);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      float* const out = sums + r * row + W::kLanes * i;
      W::store(out, W::fma(W::floats(sum[r][i]), unit, W::mul(W::load(out), correction)));
    }
  }
}

}  // namespace
}  // namespace ll
