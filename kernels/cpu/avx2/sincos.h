// sin and cos of four doubles. Include only from kernels/cpu/avx2/.
#pragma once

#include <immintrin.h>

namespace ll::avx2 {

inline constexpr double kMostSincos = 0x1p30;

// Error at most 2^-49 of a result and 2^-108 of x, for |x| <= kMostSincos. n = round(x / (pi/2)) and r = x - n pi/2
// with pi/2 in two parts of 53 bits (fused: n times a part is exact), then Taylor's series to r^15 and r^14 for |r| <=
// pi/4 (what follows is below 2^-49 of a cosine and 2^-54 of a sine); n % 4 says which is which, and their signs.
[[maybe_unused]] static inline void sincos(__m256d x, __m256d& sin, __m256d& cos) {
  const __m256d n = _mm256_round_pd(_mm256_mul_pd(x, _mm256_set1_pd(0x1.45f306dc9c883p-1)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256d r = _mm256_fnmadd_pd(n, _mm256_set1_pd(0x1.921fb54442d18p+0), x);
  r = _mm256_fnmadd_pd(n, _mm256_set1_pd(0x1.1a62633145c07p-54), r);
  const __m256d square = _mm256_mul_pd(r, r);
  __m256d s = _mm256_set1_pd(-1 / 1307674368000.0), c = _mm256_set1_pd(-1 / 87178291200.0);
  for (const double by : {1 / 6227020800.0, -1 / 39916800.0, 1 / 362880.0, -1 / 5040.0, 1 / 120.0, -1 / 6.0}) {
    s = _mm256_fmadd_pd(s, square, _mm256_set1_pd(by));
  }
  for (const double by : {1 / 479001600.0, -1 / 3628800.0, 1 / 40320.0, -1 / 720.0, 1 / 24.0, -0.5, 1.0}) {
    c = _mm256_fmadd_pd(c, square, _mm256_set1_pd(by));
  }
  s = _mm256_fmadd_pd(_mm256_mul_pd(s, square), r, r);
  const __m256i turns = _mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(n));
  const __m256d odd = _mm256_castsi256_pd(_mm256_slli_epi64(turns, 63));
  const __m256i next = _mm256_add_epi64(turns, _mm256_set1_epi64x(1));
  const __m256d sign = _mm256_set1_pd(-0.0);
  const __m256d of_sin = _mm256_and_pd(_mm256_castsi256_pd(_mm256_slli_epi64(turns, 62)), sign);
  const __m256d of_cos = _mm256_and_pd(_mm256_castsi256_pd(_mm256_slli_epi64(next, 62)), sign);
  sin = _mm256_xor_pd(_mm256_blendv_pd(s, c, odd), of_sin);
  cos = _mm256_xor_pd(_mm256_blendv_pd(c, s, odd), of_cos);
}

}  // namespace ll::avx2
