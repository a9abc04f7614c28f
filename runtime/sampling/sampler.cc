#include "runtime/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/sampling/philox.h"

namespace ll {
namespace {

struct Limit {
  const char* name;
  float low, high;
};

Status in_range(const Limit& limit, float value) {
  if (value >= limit.low && value <= limit.high) return {};  // false for NaN
  return usage("{} is {}, expected {} to {}", limit.name, value, limit.low, limit.high);
}

// More likely first; of equals the lower id.
constexpr auto kMoreLikely = [](const auto& a, const auto& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
};

// Index of the largest logit, the first of equals. kBadData for logits that make no distribution.
Result<int32_t> most_likely(std::span<const float> logits) {
  if (logits.empty()) return error(Code::kInternal, "no logits to sample from");
  size_t best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    // Also false for NaN.
    if (!(logits[i] <= std::numeric_limits<float>::max())) {
      return bad_data(
          "the logit of token {} is {}, expected a finite number: the plan's weights are damaged or not finite", i,
          logits[i]);
    }
    if (logits[i] > logits[best]) best = i;
  }
  if (logits[best] < std::numeric_limits<float>::lowest())
    return bad_data("all {} logits are -infinity", logits.size());
  return static_cast<int32_t>(best);
}

}  // namespace

Status check(const SampleParams& params, uint32_t /*vocab_size*/) {
  TRY(in_range({"temperature", 0, 100}, params.temperature));
  TRY(in_range({"top_p", 0, 1}, params.top_p));
  TRY(in_range({"min_p", 0, 1}, params.min_p));
  TRY(in_range({"repetition_penalty", 0.01F, 100}, params.repetition_penalty));
  TRY(in_range({"presence_penalty", -100, 100}, params.presence_penalty));
  TRY(in_range({"frequency_penalty", -100, 100}, params.frequency_penalty));
  if (params.top_k < 0) return usage("top_k is {}, expected 0 (all) or more", params.top_k);
  if (params.penalty_window < -1)
    return usage("penalty_window is {}, expected -1 (all) or more", params.penalty_window);
  return {};
}

SampledToken Sampler::sample(std::span<const float> logits, const RowSampling& row) {
  SampledToken sampled;
  auto token = sample(logits, row.history, *row.params);
  if (token) {
    sampled.token = *token;
  } else {
    sampled.error = std::move(token).error();
  }
  return sampled;
}

Result<int32_t> Sampler::sample(std::span<const float> logits, std::span<const int32_t> history,
                                const SampleParams& params) {
  TRY(check(params));
  const bool penalties = params.penalty_window != 0 && (params.repetition_penalty != 1 ||
                                                        params.presence_penalty != 0 || params.frequency_penalty != 0);
  if (penalties) {
    logits_.assign(logits.begin(), logits.end());
    penalize(history, params);
    logits = logits_;
  }
  TRY_ASSIGN(const int32_t best, most_likely(logits));
  if (params.temperature == 0) return best;
  return draw(logits, logits[static_cast<size_t>(best)], params, history.size());
}

void Sampler::penalize(std::span<const int32_t> history, const SampleParams& params) {
  if (params.penalty_window >= 0) {
    history = history.last(std::min(history.size(), static_cast<size_t>(params.penalty_window)));
  }
  seen_.assign(history.begin(), history.end());
  std::sort(seen_.begin(), seen_.end());
  for (size_t i = 0, next = 0; i < seen_.size(); i = next) {
    for (next = i; next < seen_.size() && seen_[next] == seen_[i];) ++next;
    float& logit = logits_[static_cast<size_t>(seen_[i])];
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    logit -= params.presence_penalty + static_cast<float>(next - i) * params.frequency_penalty;
  }
}

int32_t Sampler::draw(std::span<const float> logits, float largest, const SampleParams& params, uint64_t counter) {
  // Likelihood relative to the most likely token. In double, so that a sum over a large vocabulary loses nothing.
  const auto weight = [&](float logit) {
    return std::exp((static_cast<double>(logit) - largest) / static_cast<double>(params.temperature));
  };
  const auto k = static_cast<size_t>(params.top_k);
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  if (k > 0 && k < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + params.top_k, candidates_.end(), kMoreLikely);
    candidates_.resize(k);
  }
  if (params.top_p < 1) {
    double total = 0;
    if (k == 0) {
      // A token below this share cannot be in the nucleus: all such tokens together weigh less than what top_p leaves
      // out. So a sort of the few others does.
      for (const Candidate& c : candidates_) total += weight(c.logit);
      const double least = (1 - static_cast<double>(params.top_p)) * total / static_cast<double>(candidates_.size());
      std::erase_if(candidates_, [&](const Candidate& c) { return c.logit != largest && weight(c.logit) < least; });
    }
    std::sort(candidates_.begin(), candidates_.end(), kMoreLikely);
    if (k > 0) {
      for (const Candidate& c : candidates_) total += weight(c.logit);
    }
    const double wanted = static_cast<double>(params.top_p) * total;
    double sum = 0;
    size_t keep = 0;
    while (keep < candidates_.size() && (keep == 0 || sum < wanted)) sum += weight(candidates_[keep++].logit);
    candidates_.resize(keep);
  } else if (k > 0) {
    // What nth_element leaves has no order of its own.
    std::sort(candidates_.begin(), candidates_.end(), kMoreLikely);
  }
  double total = 0;
  weights_.clear();
  for (const Candidate& c : candidates_) {
    const double w = weight(c.logit);
    weights_.push_back(w >= static_cast<double>(params.min_p) ? w : 0);
    total += weights_.back();
  }
  const double target = uniform(params.seed, counter) * total;
  double sum = 0;
  int32_t token = candidates_.front().token;
  for (size_t i = 0; i < candidates_.size() && sum <= target; ++i) {
    if (weights_[i] == 0) continue;
    token = candidates_[i].token;
    sum += weights_[i];
  }
  return token;
}

}  // namespace ll
