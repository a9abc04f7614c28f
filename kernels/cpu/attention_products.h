// Products of attention: queries with a page's keys, weights with its values. Include only from
// kernels/cpu/attention_pages.h; everything has internal linkage.
//
// Words W of a level:
//   kLanes, Floats        floats of a register, 8 or 16
//   kVectors<rows>        registers of keys, or of a row of values, that so many query rows meet at once
//   zeros(), load(p), store(p, v), broadcast(p), mul(a, b), add(a, b), fma(a, b, c)
//   halves(p)             kLanes f16 as floats
//   codes(p, i)           byte i of each of kLanes 4-byte words, as floats times 2^24; the 3 bytes before p may be read
//   value_codes(p, i)     register i of a group of kKvGroup int8 as floats times kValueUnit, in order, or, where
//                         kInterleaved, codes(p, i)
//   pinned(v)             v, kept in a register: the compiler does not load or convert it once more
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/attention.h"

namespace ll {
namespace {

constexpr float kCodeUnit = 0x1p24f;  // of codes(): a code in the highest byte of a word needs no sign extension

// Keys of a page by column. at<W>(d, i, j): element d + i (d a multiple of 4, i below 4) of keys j, j + 1, ....
struct FloatKeys {
  static constexpr bool kScaled = false;
  const float* columns;
  template <class W>
  typename W::Floats at(int64_t d, int64_t i, int64_t j) const {
    return W::load(columns + (d + i) * kKvPageSize + j);
  }
};
struct HalfKeys {
  static constexpr bool kScaled = false;
  const uint16_t* columns;
  template <class W>
  typename W::Floats at(int64_t d, int64_t i, int64_t j) const {
    return W::halves(columns + (d + i) * kKvPageSize + j);
  }
};
struct CodeKeys {
  static constexpr bool kScaled = true;
  const float *columns, *scales;  // [groups, kKvPageSize]
  template <class W>
  typename W::Floats at(int64_t d, int64_t i, int64_t j) const {
    return W::codes(reinterpret_cast<const std::byte*>(columns + d / 4 * kKvPageSize + j), i);
  }
};

// Values of a page: rows `bytes` apart. at<W>(row, d): elements d, d + 1, ... of a row, or those that stand for them
// where they are interleaved.
template <bool scaled>
struct FloatValues {
  static constexpr bool kScaled = scaled;
  const std::byte* rows;
  int64_t bytes;
  const float* scales;  // [groups, kKvPageSize]
  template <class W>
  static typename W::Floats at(const std::byte* row, int64_t d) {
    return W::load(reinterpret_cast<const float*>(row) + d);
  }
};
struct HalfValues {
  static constexpr bool kScaled = false;
  const std::byte* rows;
  int64_t bytes;
  template <class W>
  static typename W::Floats at(const std::byte* row, int64_t d) {
    return W::halves(reinterpret_cast<const uint16_t*>(row) + d);
  }
};
struct CodeValues {  // keys lie before values in the cache, so codes() may read before a row
  static constexpr bool kScaled = true;
  const std::byte* rows;
  int64_t bytes;
  const float* scales;
  template <class W>
  static typename W::Floats at(const std::byte* row, int64_t d) {
    return W::value_codes(row + d / kKvGroup * kKvGroup, d % kKvGroup / W::kLanes);
  }
};

// scores[r * kAttentionStep + j ..] = dot products of query r with kVectors registers of keys from j on.
template <class W, int kRows, int kVectors, class P>
inline __attribute__((always_inline)) void dot_keys(const float* queries, int64_t row, int64_t head_dim, const P& keys,
                                                    int64_t j, float* scores) {
  for (int64_t group = 0; group < head_dim; group += kKvGroup) {
    typename W::Floats sum[kRows][kVectors];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) sum[r][i] = W::zeros();
    }
    const auto add = [&](int64_t d, int64_t place) __attribute__((always_inline)) {
      typename W::Floats key[kVectors];
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) {
        key[i] = W::pinned(keys.template at<W>(d, place, j + W::kLanes * i));
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const typename W::Floats query = W::broadcast(queries + r * row + d + place);
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; ++i) sum[r][i] = W::fma(query, key[i], sum[r][i]);
      }
    };
    const int64_t end = std::min(head_dim, group + kKvGroup), whole = end & ~int64_t{3};
    for (int64_t d = group; d < whole; d += 4) {
#pragma GCC unroll 4
      for (int64_t place = 0; place < 4; ++place) add(d, place);
    }
    for (int64_t place = 0; whole + place < end; ++place) add(whole, place);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      typename W::Floats scale = W::zeros();
      if constexpr (P::kScaled) scale = W::load(keys.scales + group / kKvGroup * kKvPageSize + j + W::kLanes * i);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        float* out = scores + r * kAttentionStep + j + W::kLanes * i;
        if constexpr (P::kScaled) {
          W::store(out, group == 0 ? W::mul(sum[r][i], scale) : W::fma(sum[r][i], scale, W::load(out)));
        } else {
          W::store(out, group == 0 ? sum[r][i] : W::add(sum[r][i], W::load(out)));
        }
      }
    }
  }
}

// Asks for the lines of a plane that the work on the page kAhead further on will read. Without it each page starts with
// cold misses: pages lie far apart, so the hardware does not see them coming.
constexpr int64_t kAhead = 2, kLine = 64;
class Prefetch {
 public:
  // The plane (null: nothing) in as many parts as there are query rows.
  Prefetch(const std::byte* plane, int64_t bytes, int64_t part)
      : at_(plane), end_(plane == nullptr ? nullptr : plane + bytes), part_(part) {}
  void next(int64_t parts) {
    for (const std::byte* end = std::min(at_ + parts * part_, end_); at_ < end; at_ += kLine) {
      _mm_prefetch(reinterpret_cast<const char*>(at_), _MM_HINT_T1);
    }
  }

 private:
  const std::byte *at_, *end_;
  int64_t part_;
};

// For kRows query rows r: sums[r][d] = sums[r][d] * corrections[r] + sum over j in [begin, end) of
// weights[r * distance + j] * values[j][d], for kVectors registers of d.
template <class W, int kRows, int kVectors, class P>
inline __attribute__((always_inline)) void add_values(const P& values, int64_t d, const float* weights,
                                                      int64_t distance, int64_t begin, int64_t end,
                                                      const float* corrections, float* sums, int64_t row) {
  typename W::Floats sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const typename W::Floats correction = W::broadcast(corrections + r);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) sum[r][i] = W::mul(W::load(sums + r * row + d + W::kLanes * i), correction);
  }
  const std::byte* place = values.rows + begin * values.bytes;
  weights += begin;
  for (int64_t j = begin; j < end; ++j, place += values.bytes, ++weights) {
    typename W::Floats value[kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      value[i] = W::pinned(P::template at<W>(place, d + W::kLanes * i));
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const typename W::Floats weight = W::broadcast(weights + r * distance);
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) sum[r][i] = W::fma(weight, value[i], sum[r][i]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) W::store(sums + r * row + d + W::kLanes * i, sum[r][i]);
  }
}

// Four registers of codes(), whose lane l of register i is element 4 l + i, in order.
inline void store_in_order(const float* interleaved, float* y) {
  __m256 v[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) v[i] = _mm256_load_ps(interleaved + 8 * i);
  const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(v[0], v[1])),
                b = _mm256_castps_pd(_mm256_unpacklo_ps(v[2], v[3])),
                c = _mm256_castps_pd(_mm256_unpackhi_ps(v[0], v[1])),
                d = _mm256_castps_pd(_mm256_unpackhi_ps(v[2], v[3]));
  // Elements 0 .. 3 and 16 .. 19, then 4 on, 8 on, 12 on.
  const __m256 first = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b)), second = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)),
               third = _mm256_castpd_ps(_mm256_unpacklo_pd(c, d)), fourth = _mm256_castpd_ps(_mm256_unpackhi_pd(c, d));
  _mm256_storeu_ps(y, _mm256_permute2f128_ps(first, second, 0x20));
  _mm256_storeu_ps(y + 8, _mm256_permute2f128_ps(third, fourth, 0x20));
  _mm256_storeu_ps(y + 16, _mm256_permute2f128_ps(first, second, 0x31));
  _mm256_storeu_ps(y + 24, _mm256_permute2f128_ps(third, fourth, 0x31));
}

}  // namespace
}  // namespace ll
