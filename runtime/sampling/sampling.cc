#include "runtime/sampling/sampling.h"

#include <algorithm>
#include <limits>

namespace ll {
namespace {

struct Limit {
  const char* name;
  float SampleParams::*value;
  float low, high;
};

constexpr Limit kLimits[] = {
    {"temperature", &SampleParams::temperature, 0, 100},
    {"top_p", &SampleParams::top_p, 0, 1},
    {"min_p", &SampleParams::min_p, 0, 1},
    {"typical_p", &SampleParams::typical_p, 0, 1},
    {"repetition_penalty", &SampleParams::repetition_penalty, 0.01F, 100},
    {"presence_penalty", &SampleParams::presence_penalty, -100, 100},
    {"frequency_penalty", &SampleParams::frequency_penalty, -100, 100},
    {"dry_multiplier", &SampleParams::dry_multiplier, 0, 100},
    {"dry_base", &SampleParams::dry_base, 1, 8},
    {"xtc_probability", &SampleParams::xtc_probability, 0, 1},
    {"xtc_threshold", &SampleParams::xtc_threshold, 0, 1},
    {"mirostat_tau", &SampleParams::mirostat_tau, 0, 100},
    {"mirostat_eta", &SampleParams::mirostat_eta, 0, 1},
};

}  // namespace

Status check_params(const SampleParams& params, uint32_t vocab_size) {
  for (const Limit& limit : kLimits) {
    const float value = params.*limit.value;
    // False for NaN.
    if (value >= limit.low && value <= limit.high) continue;
    return usage("{} is {}, expected {} to {}", limit.name, value, limit.low, limit.high);
  }
  if (params.top_k < 0) return usage("top_k is {}, expected 0 (all) or more", params.top_k);
  if (params.penalty_window < -1) {
    return usage("penalty_window is {}, expected -1 (all) or more", params.penalty_window);
  }
  if (params.dry_allowed_length < 0) {
    return usage("dry_allowed_length is {}, expected 0 or more", params.dry_allowed_length);
  }
  if (params.dry_window < -1) return usage("dry_window is {}, expected -1 (all) or more", params.dry_window);
  if (params.dry_breakers != nullptr && !std::is_sorted(params.dry_breakers->begin(), params.dry_breakers->end())) {
    return usage("dry_breakers are not in ascending order");
  }
  if (params.mirostat < 0 || params.mirostat > 2) return usage("mirostat is {}, expected 0, 1 or 2", params.mirostat);
  if (params.logit_bias.size() > kMostBiases) {
    return usage("logit_bias has {} entries, expected at most {}", params.logit_bias.size(), kMostBiases);
  }
  for (const TokenBias& b : params.logit_bias) {
    if (b.token < 0 || static_cast<uint32_t>(b.token) >= vocab_size) {
      return usage("logit_bias names token {}, expected 0 to {}", b.token, vocab_size - 1);
    }
    // A bias that is NaN fails both comparisons; an infinite one could make NaNs of logits, but for -infinity.
    if (b.bias == -std::numeric_limits<float>::infinity()) continue;
    if (!(b.bias >= -1e6F && b.bias <= 1e6F)) {
      return usage("logit_bias of token {} is {}, expected -infinity or -1e6 to 1e6", b.token, b.bias);
    }
  }
  return {};
}

}  // namespace ll
