#include "runtime/sampling/penalties.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ll {
namespace {

// Longer repetitions are penalized like one of this length, which is final already.
constexpr uint32_t kMostRepetition = 50;

std::span<const int32_t> last(std::span<const int32_t> history, int32_t window) {
  return window < 0 ? history : history.last(std::min(history.size(), static_cast<size_t>(window)));
}

bool penalizes_seen(const SampleParams& p) {
  return p.penalty_window != 0 && (p.repetition_penalty != 1 || p.presence_penalty != 0 || p.frequency_penalty != 0);
}
bool penalizes_repetitions(const SampleParams& p) { return p.dry_multiplier != 0 && p.dry_window != 0; }

}  // namespace

bool Penalties::wanted(const SampleParams& params) { return penalizes_seen(params) || penalizes_repetitions(params); }

void Penalties::apply(std::span<const int32_t> history, const SampleParams& params, std::span<float> logits) {
  if (penalizes_seen(params)) penalize_seen(history, params, logits);
  if (penalizes_repetitions(params)) penalize_repetitions(history, params, logits);
}

void Penalties::penalize_seen(std::span<const int32_t> history, const SampleParams& params, std::span<float> logits) {
  history = last(history, params.penalty_window);
  seen_.assign(history.begin(), history.end());
  std::sort(seen_.begin(), seen_.end());
  for (size_t i = 0, next = 0; i < seen_.size(); i = next) {
    for (next = i; next < seen_.size() && seen_[next] == seen_[i];) ++next;
    float& logit = logits[static_cast<size_t>(seen_[i])];
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    logit -= params.presence_penalty + static_cast<float>(next - i) * params.frequency_penalty;
  }
}

void Penalties::penalize_repetitions(std::span<const int32_t> history, const SampleParams& params,
                                     std::span<float> logits) {
  history = last(history, params.dry_window);
  history = history.last(std::min(history.size(), kMostDryTokens));
  const size_t count = history.size();
  if (count < 2) return;
  const auto at = [&](size_t back) { return history[count - 1 - back]; };  // 0: the last token
  const auto breaks = [&](int32_t token) {
    return params.dry_breakers != nullptr &&
           std::binary_search(params.dry_breakers->begin(), params.dry_breakers->end(), token);
  };
  uint32_t reach = 0;  // tokens at the end without a breaker: no repetition is longer
  while (reach < std::min<size_t>(count, kMostRepetition) && !breaks(at(reach))) ++reach;
  if (reach == 0) return;
  // lengths_[i]: how many tokens before and with at(i) equal those at the end. The Z algorithm (Gusfield, "Algorithms
  // on Strings, Trees and Sequences", 1.4) on the reversed text: linear, whatever repeats.
  lengths_.assign(count, 0);
  for (size_t i = 1, left = 0, right = 0; i < count; ++i) {
    size_t length = i < right ? std::min<size_t>(right - i, lengths_[i - left]) : 0;
    while (i + length < count && at(length) == at(i + length)) ++length;
    lengths_[i] = static_cast<uint32_t>(length);
    if (i + length > right) {
      left = i;
      right = i + length;
    }
  }
  repeated_.clear();
  for (size_t i = 1; i < count; ++i) {
    const uint32_t length = std::min(lengths_[i], reach);
    if (length == 0 || static_cast<int64_t>(length) < params.dry_allowed_length || breaks(at(i - 1))) continue;
    repeated_.emplace_back(at(i - 1), length);
  }
  std::sort(repeated_.begin(), repeated_.end());
  for (size_t i = 0; i < repeated_.size(); ++i) {
    // The last of a token's entries is its longest.
    if (i + 1 < repeated_.size() && repeated_[i + 1].first == repeated_[i].first) continue;
    const auto [token, length] = repeated_[i];
    const double penalty = static_cast<double>(params.dry_multiplier) *
                           std::pow(static_cast<double>(params.dry_base),
                                    static_cast<double>(length) - static_cast<double>(params.dry_allowed_length));
    float& logit = logits[static_cast<size_t>(token)];
    // Stays finite: the only token left may be one that repeats.
    const auto lowest = static_cast<double>(std::numeric_limits<float>::lowest());
    if (std::isfinite(logit)) logit = static_cast<float>(std::max(static_cast<double>(logit) - penalty, lowest));
  }
}

}  // namespace ll
