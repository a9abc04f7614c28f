// Words for eight floats. Include only from kernels/cpu/avx2/. Rows may start at any multiple of 4 bytes.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ll::avx2 {

// The first `count` (0 to 8) floats at x, zeros after them, reading nothing else.
[[maybe_unused]] static inline __m256 load_part(const float* x, int64_t count) {
  if (count >= 8) return _mm256_loadu_ps(x);
  alignas(32) float part[8] = {};
  std::memcpy(part, x, static_cast<size_t>(4 * count));
  return _mm256_load_ps(part);
}

[[maybe_unused]] static inline void store_part(float* y, int64_t count, __m256 v) {
  if (count >= 8) return _mm256_storeu_ps(y, v);
  alignas(32) float part[8];
  _mm256_store_ps(part, v);
  std::memcpy(y, part, static_cast<size_t>(4 * count));
}

// Sum of the lanes as ((0+4)+(2+6)) + ((1+5)+(3+7)).
[[maybe_unused]] static inline float sum_lanes(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

[[maybe_unused]] static inline float max_lanes(__m256 v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

// max |x| of 32 floats with NaN above infinity: magnitudes order like their bits.
[[maybe_unused]] static inline float largest_magnitude(const __m256 x[4]) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i m = _mm256_and_si256(_mm256_castps_si256(x[0]), magnitude);
  for (int i = 1; i < 4; ++i) m = _mm256_max_epi32(m, _mm256_and_si256(_mm256_castps_si256(x[i]), magnitude));
  __m128i s = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
  s = _mm_max_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  s = _mm_max_epi32(s, _mm_shuffle_epi32(s, 0xb1));
  return _mm_cvtss_f32(_mm_castsi128_ps(s));
}

// 4 x 8 integers in -127 .. 127 as 32 bytes in order.
[[maybe_unused]] static inline __m256i pack_codes(const __m256i code[4]) {
  const __m256i low = _mm256_packs_epi32(code[0], code[1]), high = _mm256_packs_epi32(code[2], code[3]);
  return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// Scales and minima of a q4_K or q5_K block of kX16 (kernels/quant/layouts.h) for 16 rows each, as bytes: scales of its
// 8 groups, then their minima. `to` is aligned to 32.
[[maybe_unused]] static inline void unpack_scales(const std::byte* packed, std::byte* to) {
  const __m256i low = _mm256_set1_epi8(0x0f), high = _mm256_set1_epi8(0x30);
  const auto load = [&](int at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(packed + at)); };
  const auto join = [&](int at, __m256i lower, __m256i upper) {
    const __m256i bytes = _mm256_or_si256(_mm256_and_si256(lower, low), _mm256_and_si256(upper, high));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to + at), bytes);
  };
  for (int i = 0; i < 128; i += 64) {  // four groups, of which the upper bits are side by side
    const __m256i first = load(i), second = load(i + 32), upper = load(128 + i / 2);
    join(i, first, _mm256_slli_epi16(upper, 4));
    join(i + 32, second, upper);
    join(128 + i, _mm256_srli_epi16(first, 4), _mm256_slli_epi16(upper, 2));
    join(160 + i, _mm256_srli_epi16(second, 4), _mm256_srli_epi16(upper, 2));
  }
}

}  // namespace ll::avx2
