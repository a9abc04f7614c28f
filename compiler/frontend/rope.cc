// Formulas: transformers, src/transformers/modeling_rope_utils.py (default, linear, llama3, yarn), computed in f32 as
// there, so that angles agree to the last bit or two. llama.cpp gives the same frequencies (ggml rope_yarn,
// ggml_rope_yarn_corr_dims): its yarn always truncates, and its mscale is (0.1 ln factor + 1) *
// rope.scaling.attn_factor once the cancelling factors of llama_context and rope_yarn are multiplied out.
#include <cmath>
#include <cstring>
#include <numbers>

#include "compiler/frontend/model_spec.h"

namespace ll {
namespace {

// The default frequencies: 1 / base^(2i / dimensions).
std::vector<float> unscaled(const RopeSpec& rope) {
  std::vector<float> out(rope.dimensions / 2);
  const auto base = static_cast<double>(static_cast<float>(rope.base));
  for (size_t i = 0; i < out.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(rope.dimensions);
    // pow in double, then rounded: the correctly rounded f32 power, which vector libraries reach in nearly all cases.
    out[i] = 1.0f / static_cast<float>(std::pow(base, static_cast<double>(exponent)));
  }
  return out;
}

void scale_llama3(const RopeSpec& rope, std::vector<float>& inv) {
  const auto factor = static_cast<float>(rope.factor);
  const double context = rope.original_context;
  const auto long_wave = static_cast<float>(context / rope.low_freq_factor);
  const auto short_wave = static_cast<float>(context / rope.high_freq_factor);
  const auto low = static_cast<float>(rope.low_freq_factor);
  const auto band = static_cast<float>(rope.high_freq_factor - rope.low_freq_factor);
  for (float& f : inv) {
    const float wave = static_cast<float>(2 * std::numbers::pi) / f;
    if (wave > long_wave) {
      f = f / factor;
    } else if (!(wave < short_wave)) {
      const float smooth = (static_cast<float>(context) / wave - low) / band;
      f = (1 - smooth) * f / factor + smooth * f;
    }
  }
}

void scale_yarn(const RopeSpec& rope, std::vector<float>& inv) {
  const double dims = rope.dimensions;
  // The dimension whose frequency turns `rotations` times within the original context.
  const auto dimension_of = [&](double rotations) {
    return dims * std::log(rope.original_context / (rotations * 2 * std::numbers::pi)) / (2 * std::log(rope.base));
  };
  double low = dimension_of(rope.beta_fast);
  double high = dimension_of(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dims - 1);
  if (low == high) high += 0.001;
  const auto factor = static_cast<float>(rope.factor);
  for (size_t i = 0; i < inv.size(); ++i) {
    const float ramp = (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low);
    const float kept = 1.0f - std::min(std::max(ramp, 0.0f), 1.0f);
    const float power = 1.0f / inv[i];
    inv[i] = 1.0f / (factor * power) * (1.0f - kept) + inv[i] * kept;
  }
}

}  // namespace

Result<std::vector<float>> inv_frequencies(const ModelSpec& spec) {
  const RopeSpec& rope = spec.hyper.rope;
  std::vector<float> inv = unscaled(rope);
  if (rope.frequency_divisors) {
    const WeightTensor* divisors = spec.find("rope_freqs.weight");
    if (divisors == nullptr || divisors->bytes.size() != inv.size() * sizeof(float)) {
      return error(Code::kInternal, "rope_freqs.weight is missing or has another size than checked");
    }
    for (size_t i = 0; i < inv.size(); ++i) {
      float divisor;
      std::memcpy(&divisor, divisors->bytes.data() + i * sizeof(float), sizeof(float));
      if (!std::isfinite(divisor) || divisor <= 0) {
        return bad_data("tensor 'rope_freqs.weight': element {} is {}, expected a positive number", i, divisor);
      }
      inv[i] /= divisor;
    }
  }
  switch (rope.scaling) {
    case RopeSpec::Scaling::kNone:
      break;
    case RopeSpec::Scaling::kLinear:
      for (float& f : inv) f /= static_cast<float>(rope.factor);
      break;
    case RopeSpec::Scaling::kLlama3:
      scale_llama3(rope, inv);
      break;
    case RopeSpec::Scaling::kYarn:
      scale_yarn(rope, inv);
      break;
  }
  for (size_t i = 0; i < inv.size(); ++i) {
    if (!std::isfinite(inv[i]))
      return bad_data("rope frequency {} is {}: base or scaling are out of bounds", i, inv[i]);
  }
  return inv;
}

}  // namespace ll
