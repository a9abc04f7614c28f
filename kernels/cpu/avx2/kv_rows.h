// Rows of the KV cache to f32 (f32 and f16) and from it, to the bit as kv_load and kv_store (kernels/kv_layout.h).
// Include only from kernels/cpu/avx2/.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/cpu/avx2/vector.h"
#include "kernels/kv_layout.h"

namespace ll::avx2 {

// `padded` values of f32 (a multiple of 8, at least head_dim); zeros after head_dim.
[[maybe_unused]] static inline void load_row(DType dtype, const std::byte* row, int64_t head_dim, int64_t padded,
                                             float* values) {
  const int64_t whole = head_dim & ~int64_t{7}, rest = head_dim - whole;
  if (dtype == DType::kF32) {
    std::memcpy(values, row, static_cast<size_t>(4 * head_dim));
    std::fill(values + head_dim, values + padded, 0.0f);
    return;
  }
  const auto* half = reinterpret_cast<const uint16_t*>(row);
  int64_t i = 0;
  for (; i < whole; i += 8) {
    _mm256_storeu_ps(values + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(half + i))));
  }
  if (rest > 0) {
    alignas(16) uint16_t part[8] = {};
    std::memcpy(part, half + i, static_cast<size_t>(2 * rest));
    _mm256_storeu_ps(values + i, _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(part))));
    i += 8;
  }
  for (; i < padded; i += 8) _mm256_storeu_ps(values + i, _mm256_setzero_ps());
}

// 1 to 32 values as codes, zeros behind them. Returns the scale.
[[maybe_unused]] static inline float code_group(const float* values, int64_t count, std::byte* codes) {
  __m256 x[4];
  for (int i = 0; i < 4; ++i) x[i] = load_part(values + 8 * i, std::clamp<int64_t>(count - 8 * i, 0, 8));
  const float largest = largest_magnitude(x);
  float scale = 0;
  __m256i code[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
  if (!(largest < std::numeric_limits<float>::infinity())) {
    scale = std::numeric_limits<float>::quiet_NaN();
  } else if (largest >= kKvSmallest) {
    scale = largest / 127;
    const __m256 inverse = _mm256_set1_ps(127 / largest);
    for (int i = 0; i < 4; ++i) code[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], inverse));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), pack_codes(code));
  return scale;
}

[[maybe_unused]] static inline void store_row(DType dtype, const float* values, int64_t head_dim, KvPart part,
                                              std::byte* plane, int64_t place) {
  std::byte* const row = plane + place * kv_row_bytes(dtype, head_dim);
  if (dtype == DType::kF32) {
    std::memcpy(row, values, static_cast<size_t>(4 * head_dim));
  } else if (dtype == DType::kF16) {
    auto* halves = reinterpret_cast<uint16_t*>(row);
    int64_t i = 0;
    for (; i + 8 <= head_dim; i += 8) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(halves + i),
                       _mm256_cvtps_ph(_mm256_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT));
    }
    if (i < head_dim) {
      alignas(16) uint16_t last[8];
      _mm_store_si128(reinterpret_cast<__m128i*>(last),
                      _mm256_cvtps_ph(load_part(values + i, head_dim - i), _MM_FROUND_TO_NEAREST_INT));
      std::memcpy(halves + i, last, static_cast<size_t>(2 * (head_dim - i)));
    }
  } else {
    for (int64_t d = 0; d < head_dim; d += kKvGroup) {
      std::byte codes[kKvGroup];
      const float scale = code_group(values + d, std::min(kKvGroup, head_dim - d), codes);
      std::memcpy(plane + kv_scale_offset(head_dim, place, d / kKvGroup), &scale, 4);
      std::byte* const to = plane + kv_code_offset(part, head_dim, place, d);
      const int64_t count = std::min(kKvGroup, kv_scales_offset(head_dim) - d);
      if (part == KvPart::kKeys) {
        for (int64_t i = 0; i < count; i += 4) std::memcpy(to + i * kKvPageSize, codes + i, 4);
      } else {
        for (int64_t i = 0; i < count; ++i) to[4 * i] = codes[i];
      }
    }
  }
}

}  // namespace ll::avx2
