// Activation functions on eight floats. Include only from kernels/cpu/avx2/.
#pragma once

#include <immintrin.h>

#include "kernels/activation.h"
#include "kernels/cpu/avx2/exp.h"

namespace ll::avx2 {

// x / (1 + e^-z): silu with z = x; gelu_tanh with z = 2 u, since (1 + tanh u) / 2 = 1 / (1 + e^-2u).
[[maybe_unused]] static inline __m256 gate(__m256 x, __m256 z) {
  const __m256 one = _mm256_set1_ps(1.0f);
  return _mm256_div_ps(x, _mm256_add_ps(one, exp(_mm256_sub_ps(_mm256_setzero_ps(), z))));
}

[[maybe_unused]] static inline __m256 activate(Activation act, __m256 x) {
  if (act == Activation::kSilu) return gate(x, x);
  if (act == Activation::kRelu) return _mm256_max_ps(x, _mm256_setzero_ps());
  if (act == Activation::kGelu) {  // erf has no vector form here, and no model of ours is slowed by it
    alignas(32) float lanes[8];
    _mm256_store_ps(lanes, x);
    for (float& lane : lanes) lane = ll::activate(act, lane);
    return _mm256_load_ps(lanes);
  }
  const __m256 cubic = _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(0.044715f), _mm256_set1_ps(1.0f));
  return gate(x, _mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(2 * 0.79788456f), x), cubic));
}

}  // namespace ll::avx2
