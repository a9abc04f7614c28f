// Activation functions of `activation` and `gated_linear` (attribute act), elementwise in f32. The definition; SIMD
// versions stay within 4 ulp of each step they replace.
//   silu        x / (1 + exp(-x))
//   gelu        x / 2 * (1 + erf(x / sqrt(2)))
//   gelu_tanh   x / 2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))
//   relu        max(x, 0)
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace ll {

enum class Activation : uint8_t { kSilu, kGelu, kGeluTanh, kRelu };

std::optional<Activation> find_activation(std::string_view name);
float activate(Activation act, float x);

}  // namespace ll
