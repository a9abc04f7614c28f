// e^x on eight floats. Include only from kernels/cpu/avx2/.
#pragma once

#include <immintrin.h>

namespace ll::avx2 {

// Relative error at most 2^-23 for -87.3 <= x <= 88. exp(0) is exactly 1. Below -87.3 (also -infinity) the result is 0;
// above 88 it stays e^88; NaN stays NaN. n = round(x / ln 2) and r = x - n ln 2 in two fused steps (n ln2_high is
// exact), then 1 + r + r^2 q(r) with q interpolating (e^r - 1 - r) / r^2 at the five Chebyshev nodes of |r| <= ln(2)/2:
// approximation error 1.1e-8, the rest is rounding.
[[maybe_unused]] static inline __m256 exp(__m256 x) {
  const __m256 low = _mm256_set1_ps(-87.3f);
  // Operand order matters: max and min return the second operand when either is NaN.
  const __m256 clamped = _mm256_min_ps(_mm256_set1_ps(88.0f), _mm256_max_ps(low, x));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(clamped, _mm256_set1_ps(0x1.715476p+0f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), clamped);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
  __m256 q = _mm256_set1_ps(0x1.6d113cp-10f);
  q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(0x1.120ba2p-7f));
  q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(0x1.55551ap-5f));
  q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(0x1.5554dcp-3f));
  q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(0.5f));
  const __m256 p = _mm256_add_ps(_mm256_set1_ps(1.0f), _mm256_fmadd_ps(_mm256_mul_ps(r, r), q, r));
  const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  const __m256 result = _mm256_mul_ps(p, _mm256_castsi256_ps(power));
  return _mm256_andnot_ps(_mm256_cmp_ps(x, low, _CMP_LT_OQ), result);
}

// 2^x for x <= 0. Relative error at most 2^-23 for x >= -100; exp2_below(0) is exactly 1. Below -100 (also -infinity)
// the result is about 2^-100, whose products with f16 are no subnormals: Intel's processors take 100 cycles and more
// for those. NaN stays NaN. n = round(x), 1 + r q(r) for r = x - n with q interpolating (2^r - 1) / r at the six
// Chebyshev nodes of |r| <= 1/2: approximation error 5e-9, the rest is rounding.
//
// In place, of N registers side by side: the operations of one wait for each other.
template <int N>
[[maybe_unused]] static inline __attribute__((always_inline)) void exp2_below(__m256 (&x)[N]) {
  __m256 r[N], q[N];
  const auto each = [](auto step) __attribute__((always_inline)) {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) step(i);
  };
  // Operand order matters: max returns the second operand when either is NaN.
  each([&](int i) { x[i] = _mm256_max_ps(_mm256_set1_ps(-100.0f), x[i]); });
  each([&](int i) { r[i] = _mm256_round_ps(x[i], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); });
  each([&](int i) {
    const __m256 n = r[i];
    r[i] = _mm256_sub_ps(x[i], n);
    x[i] = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtps_epi32(n), 23));
  });
  each([&](int i) { q[i] = _mm256_fmadd_ps(_mm256_set1_ps(0x1.44138ap-13f), r[i], _mm256_set1_ps(0x1.5f0890p-10f)); });
  for (const float c : {0x1.3b2a54p-7f, 0x1.c6af6cp-5f, 0x1.ebfbe0p-3f, 0x1.62e430p-1f, 1.0f}) {
    each([&](int i) { q[i] = _mm256_fmadd_ps(q[i], r[i], _mm256_set1_ps(c)); });
  }
  each([&](int i) {
    x[i] = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(q[i]), _mm256_castps_si256(x[i])));
  });
}

}  // namespace ll::avx2
