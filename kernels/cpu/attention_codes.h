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
//   Ints                  kLanes of 32 bits, or twice as many of 16
//   int_zeros(), load_ints(p), broadcast_ints(p)   32 bits at p in each lane
//   even_bytes(v), odd_bytes(v)   the lower, the upper byte of 16 bits, sign extended
//   dot(sum, a, b)        sum + the two products of 16 bits in each lane
//   floats(v)             converted
//   pairs(a, b, low, high)        2 * kLanes bytes of two rows as 16 bits side by side, (a[d], b[d]), in some order ...
//   in_order(low, high, first, second)   ... and sums of them in the order of d
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

// 32 floats in units of which `largest`, no less than any of their magnitudes, is 32767; 16 bits each, in order.
// Returns the unit.
inline float code_units(const __m256 x[4], float largest, int16_t* out) {
  auto* words = reinterpret_cast<__m256i*>(out);
  if (!(largest >= kKvSmallest && largest < std::numeric_limits<float>::infinity())) {
    _mm256_storeu_si256(words, _mm256_setzero_si256());
    _mm256_storeu_si256(words + 1, _mm256_setzero_si256());
    return largest < kKvSmallest ? 0 : std::numeric_limits<float>::quiet_NaN();
  }
  const __m256 inverse = _mm256_set1_ps(kMostUnits / largest);
  __m256i unit[4];
  for (int i = 0; i < 4; ++i) unit[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], inverse));
  for (int i = 0; i < 2; ++i) {
    const __m256i both = _mm256_packs_epi32(unit[2 * i], unit[2 * i + 1]);
    _mm256_storeu_si256(words + i, _mm256_permute4x64_epi64(both, 0xd8));
  }
  return largest * (1 / kMostUnits);
}

// A query in units, its elements 1 and 2 of each 4 exchanged as even_bytes and odd_bytes want them, zeros to the end of
// its last group. Returns the unit.
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
    for (int64_t i = d; i < d + kKvGroup; i += 4) std::swap(units[i + 1], units[i + 2]);
  }
  return unit;
}

// scores[r * kAttentionStep + j ..] = dot products of query r, in its units, with kVectors registers of keys from j on.
//   queries  16 bits, those of row r `row` elements after those of row 0
//   columns  the keys' bytes by column of four (kernels/cpu/key_columns.h); scales f32 [groups, kKvPageSize]
// With kAsk asks for a line of what is ahead with each column.
template <class W, int kRows, int kVectors, bool kAsk>
inline __attribute__((always_inline)) void dot_key_codes(const int16_t* queries, int64_t row, int64_t head_dim,
                                                         const float* columns, const float* scales, int64_t j,
                                                         float* scores, Prefetch& ahead) {
  using Ints = typename W::Ints;
  for (int64_t group = 0; group < head_dim; group += kKvGroup) {
    Ints sum[kRows][kVectors];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) sum[r][i] = W::int_zeros();
    }
    const int64_t end = std::min(head_dim, group + kKvGroup);
    const std::byte* ask = kAsk ? ahead.lines(kKvGroup / 4) : nullptr;
    for (int64_t d = group; d < end; d += 4) {
      if (kAsk) Prefetch::line(ask + (d - group) / 4 * Prefetch::kLine);
      Ints even[kVectors], odd[kVectors];
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) {
        const Ints word = W::load_ints(columns + d / 4 * kKvPageSize + j + W::kLanes * i);
        even[i] = W::even_bytes(word), odd[i] = W::odd_bytes(word);
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const Ints first = W::broadcast_ints(queries + r * row + d);
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; ++i) sum[r][i] = W::dot(sum[r][i], even[i], first);
        const Ints second = W::broadcast_ints(queries + r * row + d + 2);
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; ++i) sum[r][i] = W::dot(sum[r][i], odd[i], second);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      const typename W::Floats scale = W::load(scales + group / kKvGroup * kKvPageSize + j + W::kLanes * i);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        float* out = scores + r * kAttentionStep + j + W::kLanes * i;
        const typename W::Floats value = W::floats(sum[r][i]);
        W::store(out, group == 0 ? W::mul(value, scale) : W::fma(value, scale, W::load(out)));
      }
    }
  }
}

// Scales of places [begin, end) of a step in units of which the largest magnitude is 32767, as floats; 0 at other
// places. Returns the unit.
[[gnu::noinline]] inline float unit_scales(const float* scales, int64_t begin, int64_t end, float* units) {
  const __m256i from = _mm256_set1_epi32(static_cast<int>(begin)), to = _mm256_set1_epi32(static_cast<int>(end));
  __m256i place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  __m256i most = _mm256_setzero_si256();  // magnitudes order like their bits, NaN above infinity
#pragma GCC unroll 2
  for (int64_t j = 0; j < kAttentionStep; j += 8) {
    const __m256i seen = _mm256_andnot_si256(_mm256_cmpgt_epi32(from, place), _mm256_cmpgt_epi32(to, place));
    const __m256 scale = _mm256_and_ps(_mm256_loadu_ps(scales + j), _mm256_castsi256_ps(seen));
    most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(scale), _mm256_set1_epi32(0x7fffffff)));
    _mm256_storeu_ps(units + j, scale);
    place = _mm256_add_epi32(place, _mm256_set1_epi32(8));
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

// A page's weights, none above 1, times unit_scales, as 16 bits.
inline __attribute__((always_inline)) void code_weights(const __m256 weights[4], const float* scales, int16_t* codes) {
  __m256i code[4];
  for (int64_t i = 0; i < 4; ++i) {
    code[i] = _mm256_cvtps_epi32(_mm256_mul_ps(weights[i], _mm256_loadu_ps(scales + 8 * i)));
  }
  for (int64_t i = 0; i < 2; ++i) {
    const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(code[2 * i], code[2 * i + 1]), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + 16 * i), both);
  }
}

// Pages [begin, end) of a step's values: rows `bytes` apart.
struct StepValues {
  const std::byte* page[kAttentionStep / kKvPageSize];
  int64_t begin, end, bytes;
};

// For kRows query rows r with visible[r]: sums[r][d] = sums[r][d] * corrections[r] + units[r] * sum over the pages'
// places j of weights[r][j] * values[j][d], for 2 * kLanes elements from d on, of sums no more than `count`, a multiple
// of 16. With kAsk work on a page asks for lines of ahead[page].
template <class W, int kRows, bool kAsk>
inline __attribute__((always_inline)) void add_value_codes(const StepValues& values, Prefetch* ahead, int64_t d,
                                                           int64_t count, const int16_t* weights, const float* units,
                                                           const float* corrections, const bool* visible, float* sums,
                                                           int64_t row) {
  using Ints = typename W::Ints;
  using Floats = typename W::Floats;
  Ints low_sum[kRows], high_sum[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) low_sum[r] = high_sum[r] = W::int_zeros();
  for (int64_t p = values.begin; p < values.end; ++p) {
    const std::byte* place = values.page[p] + d;
    const int16_t* weight = weights + p * kKvPageSize;
    const std::byte* ask = kAsk ? ahead[p].lines(kKvPageSize / 4) : nullptr;
    for (int64_t j = 0; j < kKvPageSize; j += 2, place += 2 * values.bytes, weight += 2) {
      if (kAsk && j % 4 == 0) Prefetch::line(ask + j / 4 * Prefetch::kLine);
      Ints low, high;
      W::pairs(place, place + values.bytes, low, high);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const Ints both = W::broadcast_ints(weight + r * kAttentionStep);
        low_sum[r] = W::dot(low_sum[r], low, both);
        high_sum[r] = W::dot(high_sum[r], high, both);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    if (!visible[r]) continue;
    Ints first, second;
    W::in_order(low_sum[r], high_sum[r], first, second);
    const Floats unit = W::broadcast(units + r), correction = W::broadcast(corrections + r);
    float* out = sums + r * row;
    W::store(out, W::fma(W::floats(first), unit, W::mul(W::load(out), correction)));
    if (W::kLanes < count) {
      out += W::kLanes;
      W::store(out, W::fma(W::floats(second), unit, W::mul(W::load(out), correction)));
    }
  }
}

}  // namespace
}  // namespace ll
