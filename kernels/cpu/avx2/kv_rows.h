// Rows of the KV cache to and from f32, to the bit as kv_store_row and kv_load_row (kernels/kv_layout.h). Include only
// from kernels/cpu/avx2/.
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
  int64_t i = 0;
  if (dtype == DType::kF16) {
    const auto* half = reinterpret_cast<const uint16_t*>(row);
    for (; i < whole; i += 8) {
      _mm256_storeu_ps(values + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(half + i))));
    }
    if (rest > 0) {
      alignas(16) uint16_t part[8] = {};
      std::memcpy(part, half + i, static_cast<size_t>(2 * rest));
      _mm256_storeu_ps(values + i, _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(part))));
      i += 8;
    }
  } else {
    const auto* scales = reinterpret_cast<const float*>(row + kv_scales_offset(head_dim));
    const auto eight = [](__m256 scale, const std::byte* bytes) {
      const __m256i code = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
      return _mm256_mul_ps(scale, _mm256_cvtepi32_ps(code));
    };
    for (; i + kKvGroup <= head_dim; i += kKvGroup) {
      const __m256 scale = _mm256_broadcast_ss(scales + i / kKvGroup);
      for (int64_t j = i; j < i + kKvGroup; j += 8) _mm256_storeu_ps(values + j, eight(scale, row + j));
    }
    for (; i < whole; i += 8) _mm256_storeu_ps(values + i, eight(_mm256_set1_ps(scales[i / kKvGroup]), row + i));
    if (rest > 0) {
      int64_t part = 0;
      std::memcpy(&part, row + i, static_cast<size_t>(rest));
      const __m256i code = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(part));
      const __m256 v = _mm256_mul_ps(_mm256_set1_ps(scales[i / kKvGroup]), _mm256_cvtepi32_ps(code));
      _mm256_storeu_ps(values + i, v);
      // A NaN scale must not reach the padding.
      std::fill(values + head_dim, values + i + 8, 0.0f);
      i += 8;
    }
  }
  for (; i < padded; i += 8) _mm256_storeu_ps(values + i, _mm256_setzero_ps());
}

// 1 to 32 values and their scale.
[[maybe_unused]] static inline void store_group(const float* values, int64_t count, std::byte* bytes, float* scale) {
  __m256 x[4];
  for (int i = 0; i < 4; ++i) x[i] = load_part(values + 8 * i, std::clamp<int64_t>(count - 8 * i, 0, 8));
  const float largest = largest_magnitude(x);
  __m256i code[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
  if (!(largest < std::numeric_limits<float>::infinity())) {
    *scale = std::numeric_limits<float>::quiet_NaN();
  } else if (largest < kKvSmallest) {
    *scale = 0;
  } else {
    *scale = largest / 127;
    const __m256 inverse = _mm256_set1_ps(127 / largest);
    for (int i = 0; i < 4; ++i) code[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], inverse));
  }
  const __m256i packed = pack_codes(code);
  if (count == kKvGroup) return _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes), packed);
  alignas(32) std::byte part[kKvGroup];
  _mm256_store_si256(reinterpret_cast<__m256i*>(part), packed);
  std::memcpy(bytes, part, static_cast<size_t>(count));
}

[[maybe_unused]] static inline void store_row(DType dtype, const float* values, int64_t head_dim, std::byte* row) {
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
      alignas(16) uint16_t part[8];
      _mm_store_si128(reinterpret_cast<__m128i*>(part),
                      _mm256_cvtps_ph(load_part(values + i, head_dim - i), _MM_FROUND_TO_NEAREST_INT));
      std::memcpy(halves + i, part, static_cast<size_t>(2 * (head_dim - i)));
    }
  } else {
    auto* scales = reinterpret_cast<float*>(row + kv_scales_offset(head_dim));
    for (int64_t i = 0; i < head_dim; i += kKvGroup) {
      store_group(values + i, std::min(kKvGroup, head_dim - i), row + i, scales + i / kKvGroup);
    }
    std::fill(row + head_dim, row + kv_scales_offset(head_dim), std::byte{0});
  }
}

}  // namespace ll::avx2
