// Keys of one page by column, so that lanes are keys: a query's products with them need no sums over lanes. Include
// only from kernels/cpu/LEVEL/; everything has internal linkage.
//
// Rows that no query sees may hold anything; what comes of them stays in their lanes.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/kv_layout.h"

namespace ll {
namespace {

// columns[d][j] = word d of row j, for all `count` words of a page's rows.
[[gnu::noinline]] inline void words_by_column(const std::byte* rows, int64_t count, float* columns) {
  const int64_t bytes = 4 * count;
  if (count < 4) {
    for (int64_t d = 0; d < count; ++d) {
      for (int64_t j = 0; j < kKvPageSize; ++j) std::memcpy(columns + d * kKvPageSize + j, rows + j * bytes + 4 * d, 4);
    }
    return;
  }
  for (int64_t j = 0; j < kKvPageSize; j += 8) {
    const std::byte* row = rows + j * bytes;
    for (int64_t next = 0; next < count; next += 4) {
      const int64_t d = std::min(next, count - 4);
      const std::byte* at = row + 4 * d;
      __m256 both[4];  // rows i and i + 4
#pragma GCC unroll 4
      for (int64_t i = 0; i < 4; ++i) {
        const __m256 low = _mm256_castps128_ps256(_mm_loadu_ps(reinterpret_cast<const float*>(at + i * bytes)));
        both[i] = _mm256_insertf128_ps(low, _mm_loadu_ps(reinterpret_cast<const float*>(at + (i + 4) * bytes)), 1);
      }
      const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(both[0], both[1])),
                    b = _mm256_castps_pd(_mm256_unpackhi_ps(both[0], both[1])),
                    c = _mm256_castps_pd(_mm256_unpacklo_ps(both[2], both[3])),
                    e = _mm256_castps_pd(_mm256_unpackhi_ps(both[2], both[3]));
      float* out = columns + d * kKvPageSize + j;
      _mm256_store_ps(out, _mm256_castpd_ps(_mm256_unpacklo_pd(a, c)));
      _mm256_store_ps(out + kKvPageSize, _mm256_castpd_ps(_mm256_unpackhi_pd(a, c)));
      _mm256_store_ps(out + 2 * kKvPageSize, _mm256_castpd_ps(_mm256_unpacklo_pd(b, e)));
      _mm256_store_ps(out + 3 * kKvPageSize, _mm256_castpd_ps(_mm256_unpackhi_pd(b, e)));
    }
  }
}

// columns[d][j] = half d of row j, for all `count` halves of a page's rows.
[[gnu::noinline]] inline void halves_by_column(const std::byte* rows, int64_t bytes, int64_t count, uint16_t* columns) {
  if (count < 8) {
    for (int64_t d = 0; d < count; ++d) {
      for (int64_t j = 0; j < kKvPageSize; ++j) std::memcpy(columns + d * kKvPageSize + j, rows + j * bytes + 2 * d, 2);
    }
    return;
  }
  for (int64_t j = 0; j < kKvPageSize; j += 16) {
    const std::byte* row = rows + j * bytes;
    for (int64_t next = 0; next < count; next += 8) {
      const int64_t d = std::min(next, count - 8);
      __m256i a[8], b[8];  // rows i and i + 8
#pragma GCC unroll 8
      for (int64_t i = 0; i < 8; ++i) {
        const auto* low = reinterpret_cast<const __m128i*>(row + i * bytes + 2 * d);
        const auto* high = reinterpret_cast<const __m128i*>(row + (i + 8) * bytes + 2 * d);
        a[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(low)), _mm_loadu_si128(high), 1);
      }
#pragma GCC unroll 4
      for (int i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_epi16(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_epi16(a[i], a[i + 1]);
      }
#pragma GCC unroll 2
      for (int i = 0; i < 8; i += 4) {  // a[i .. i+3]: rows i .. i+3 of halves 0 and 1, 2 and 3, 4 and 5, 6 and 7
        a[i] = _mm256_unpacklo_epi32(b[i], b[i + 2]);
        a[i + 1] = _mm256_unpackhi_epi32(b[i], b[i + 2]);
        a[i + 2] = _mm256_unpacklo_epi32(b[i + 1], b[i + 3]);
        a[i + 3] = _mm256_unpackhi_epi32(b[i + 1], b[i + 3]);
      }
      auto* out = reinterpret_cast<__m256i*>(columns + d * kKvPageSize + j);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        _mm256_store_si256(out + 4 * i, _mm256_unpacklo_epi64(a[i], a[i + 4]));
        _mm256_store_si256(out + 4 * i + 2, _mm256_unpackhi_epi64(a[i], a[i + 4]));
      }
    }
  }
}

}  // namespace
}  // namespace ll
