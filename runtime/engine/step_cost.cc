#include "runtime/engine/step_cost.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <utility>

namespace ll {
namespace {

constexpr double kRate = 0.15;  // how far an observation moves the curve towards itself
// An observation counts as at most so far off, in parts of what was expected: at first, and when the curve is settled.
// Steps that the system delayed would make a mean of what is to be a usual time.
constexpr double kFirstSurprise = 0.5, kSurprise = 0.2;
constexpr uint32_t kSettled = 10;  // observations

}  // namespace

StepCost::StepCost(std::vector<uint32_t> sizes)
    : sizes_(std::move(sizes)), seen_(sizes_.size(), 0), curve_(sizes_.size(), 0), count_(sizes_.size(), 0) {
  assert(!sizes_.empty());
}

size_t StepCost::corner(uint32_t tokens) const {
  const auto at = std::lower_bound(sizes_.begin(), sizes_.end(), tokens);
  return static_cast<size_t>(std::min(at, sizes_.end() - 1) - sizes_.begin());
}

void StepCost::observe(uint32_t tokens, double seconds) {
  if (tokens == 0 || !(seconds > 0)) return;
  const size_t high = corner(tokens);
  const auto move = [](double& seen, double by) { seen = std::max(seen + by, seen / 2); };
  const double most = count_[high]++ < kSettled ? kFirstSurprise : kSurprise;
  const auto surprise = [&](double expected) {
    return std::clamp(seconds - expected, -most * expected, most * expected);
  };
  if (high == 0 || sizes_[high] == tokens) {
    if (seen_[high] == 0) {
      seen_[high] = seconds;
    } else {
      move(seen_[high], kRate * surprise(seen_[high]));
    }
  } else {
    const size_t low = high - 1;
    const double share = static_cast<double>(tokens - sizes_[low]) / (sizes_[high] - sizes_[low]);
    const auto in_proportion = [&](size_t i) { return seconds * sizes_[i] / tokens; };
    if (seen_[low] == 0) seen_[low] = seen_[high] == 0 ? in_proportion(low) : std::min(seconds, seen_[high]);
    if (seen_[high] == 0) {
      const double line = seen_[low] + (seconds - seen_[low]) / share;
      seen_[high] = std::clamp(line, seconds, std::max(seconds, in_proportion(high)));
    }
    const double error = surprise(seen_[low] * (1 - share) + seen_[high] * share);
    const double norm = (1 - share) * (1 - share) + share * share;
    move(seen_[low], kRate * error * (1 - share) / norm);
    move(seen_[high], kRate * error * share / norm);
  }
  complete();
}

// Between sizes that were seen a straight line; above them the line of the last two, at most in proportion to the last;
// below them in proportion.
void StepCost::complete() {
  constexpr size_t kNone = SIZE_MAX;
  size_t last = kNone, before = kNone;  // seen
  for (size_t i = 0; i < sizes_.size(); ++i) {
    if (seen_[i] == 0) continue;
    before = std::exchange(last, i);
    curve_[i] = seen_[i];
    const size_t begin = before == kNone ? 0 : before + 1;
    for (size_t j = begin; j < i; ++j) {
      curve_[j] = before == kNone ? seen_[i] * sizes_[j] / sizes_[i]
                                  : seen_[before] + (seen_[i] - seen_[before]) * (sizes_[j] - sizes_[before]) /
                                                        (sizes_[i] - sizes_[before]);
    }
  }
  double slope = seen_[last] / sizes_[last];
  if (before != kNone) slope = std::clamp((seen_[last] - seen_[before]) / (sizes_[last] - sizes_[before]), 0.0, slope);
  for (size_t i = last + 1; i < sizes_.size(); ++i) curve_[i] = seen_[last] + slope * (sizes_[i] - sizes_[last]);
  // Never descending: earlier sizes bound later ones.
  for (size_t i = 1; i < sizes_.size(); ++i) curve_[i] = std::max(curve_[i], curve_[i - 1]);
}

double StepCost::predict(uint32_t tokens) const {
  const size_t high = corner(tokens);
  if (high == 0 || sizes_[high] <= tokens) return curve_[high];
  const double share = static_cast<double>(tokens - sizes_[high - 1]) / (sizes_[high] - sizes_[high - 1]);
  return curve_[high - 1] * (1 - share) + curve_[high] * share;
}

uint32_t StepCost::most_tokens(double seconds) const {
  if (curve_.back() == 0) return sizes_.back();
  uint32_t most = 0;
  for (size_t i = 0; i < sizes_.size(); ++i) {
    if (curve_[i] > seconds) {
      if (i == 0) break;
      const double share = (seconds - curve_[i - 1]) / (curve_[i] - curve_[i - 1]);
      return sizes_[i - 1] + static_cast<uint32_t>(share * (sizes_[i] - sizes_[i - 1]));
    }
    most = sizes_[i];
  }
  return most;
}

}  // namespace ll
