// Activation functions (kernels/activation.h), the same bits on devices and in the emulator.
#pragma once

#include "prim/math.cuh"

namespace ll::cuda {

// In the order of ll::Activation.
enum ActivationFunction : int { kSilu, kGelu, kGeluTanh, kRelu };

// erf within 2^-21: Abramowitz and Stegun 7.1.26 has 1.5e-7 for x >= 0; erf is odd.
DEVICE float error_function(float x) {
  const float a = magnitude(x), t = 1.0f / fma(0.3275911f, a, 1.0f);
  float p = 1.061405429f;
  p = fma(p, t, -1.453152027f);
  p = fma(p, t, 1.421413741f);
  p = fma(p, t, -0.284496736f);
  p = fma(p, t, 0.254829592f);
  const float y = fma(-(p * t), exp(-a * a), 1.0f);
  return x < 0.0f ? -y : y;
}

template <int kFunction>
DEVICE float activate(float x) {
  if constexpr (kFunction == kSilu) {
    return x / (1.0f + exp(-x));
  } else if constexpr (kFunction == kGelu) {
    return 0.5f * x * (1.0f + error_function(x * 0.70710678f));
  } else if constexpr (kFunction == kGeluTanh) {
    // (1 + tanh(z)) / 2 = 1 / (1 + e^-2z)
    const float z = 0.79788456f * (x + 0.044715f * x * x * x);
    return x / (1.0f + exp(-2.0f * z));
  } else {
    return x > 0.0f ? x : 0.0f;
  }
}

}  // namespace ll::cuda
