#include "runtime/sampling/row.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace ll {
namespace {

// Floats as integers of the same order, but for NaNs: those of either sign have `magnitude` above infinity's.
int32_t ordered(float value) {
  const auto bits = std::bit_cast<int32_t>(value);
  return bits ^ ((bits >> 31) & 0x7FFFFFFF);
}
int32_t magnitude(float value) { return std::bit_cast<int32_t>(value) & 0x7FFFFFFF; }
float from_ordered(int32_t value) { return std::bit_cast<float>(value ^ ((value >> 31) & 0x7FFFFFFF)); }

constexpr int32_t kInfinityBits = 0x7F800000;
constexpr size_t kBlock = 1024;
constexpr size_t kLanes = 16;

struct Extent {
  int32_t largest = std::numeric_limits<int32_t>::min();  // ordered
  int32_t most = 0;                                       // magnitude
};

Extent extent(const float* values, size_t count) {
  std::array<int32_t, kLanes> largest, most{};
  largest.fill(std::numeric_limits<int32_t>::min());
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      largest[lane] = std::max(largest[lane], ordered(values[i + lane]));
      most[lane] = std::max(most[lane], magnitude(values[i + lane]));
    }
  }
  Extent e;
  for (; i < count; ++i) {
    e.largest = std::max(e.largest, ordered(values[i]));
    e.most = std::max(e.most, magnitude(values[i]));
  }
  e.largest = std::max(e.largest, *std::max_element(largest.begin(), largest.end()));
  e.most = std::max(e.most, *std::max_element(most.begin(), most.end()));
  return e;
}

// exp(x) for x <= 0. Range reduction to r in [-ln 2 / 2, ln 2 / 2] and its Taylor series to degree 7, whose remainder
// there is below 6e-9. No table, no branch.
float exp_of(float x) {
  constexpr float kLog2E = 1.44269504F, kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  const float clamped = std::max(x, -87.0F);
  const float n = (clamped * kLog2E + kRound) - kRound;
  const float r = (clamped - n * kLn2High) - n * kLn2Low;
  float p = 1.0F / 5040;
  for (const float coefficient : {1.0F / 720, 1.0F / 120, 1.0F / 24, 1.0F / 6, 0.5F, 1.0F, 1.0F})
    p = p * r + coefficient;
  const float power = std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return x < -87.0F ? 0.0F : p * power;
}

}  // namespace

Result<int32_t> most_likely(std::span<const float> logits) {
  if (logits.empty()) return error(Code::kInternal, "no logits to sample from");
  Extent all;
  size_t block = 0;  // the first that holds the largest
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const Extent e = extent(logits.data() + begin, std::min(kBlock, logits.size() - begin));
    all.most = std::max(all.most, e.most);
    // Compared as floats, so that -0 and 0 are equals.
    if (begin == 0 || from_ordered(e.largest) > from_ordered(all.largest)) {
      all.largest = e.largest;
      block = begin;
    }
  }
  if (all.most > kInfinityBits || all.largest == kInfinityBits) {
    const auto bad =
        std::find_if(logits.begin(), logits.end(), [](float l) { return !(l <= std::numeric_limits<float>::max()); });
    return bad_data(
        "the logit of token {} is {}, expected a finite number: the plan's weights are damaged or not finite",
        bad - logits.begin(), *bad);
  }
  const float largest = from_ordered(all.largest);
  if (largest < std::numeric_limits<float>::lowest()) return bad_data("all {} logits are -infinity", logits.size());
  while (logits[block] != largest) ++block;
  return static_cast<int32_t>(block);
}

double exp_sum(std::span<const float> logits, float largest, float temperature, float* weights) {
  std::array<double, kLanes> sums{};
  std::array<float, kLanes> terms;
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      terms[lane] = exp_of((logits[i + lane] - largest) / temperature);
    }
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += static_cast<double>(terms[lane]);
    if (weights != nullptr) std::copy(terms.begin(), terms.end(), weights + i);
  }
  for (; i < logits.size(); ++i) {
    const float term = exp_of((logits[i] - largest) / temperature);
    sums[i % kLanes] += static_cast<double>(term);
    if (weights != nullptr) weights[i] = term;
  }
  double sum = 0;
  for (const double s : sums) sum += s;
  return sum;
}

void TopK::find(std::span<const float> logits, size_t k, std::vector<Candidate>& found) {
  constexpr size_t kGroup = 64;
  found.clear();
  k = std::min(k, logits.size());
  if (k == 0) return;
  // The k-th largest of the groups' largest bounds the k-th largest of all from below, so that few tokens are left to
  // rank.
  float least = -std::numeric_limits<float>::infinity();
  block_largest_.clear();
  for (size_t begin = 0; begin < logits.size(); begin += kGroup) {
    block_largest_.push_back(
        from_ordered(extent(logits.data() + begin, std::min(kGroup, logits.size() - begin)).largest));
  }
  if (k < block_largest_.size()) {
    ranked_ = block_largest_;
    const auto kth = ranked_.begin() + static_cast<ptrdiff_t>(k - 1);
    std::nth_element(ranked_.begin(), kth, ranked_.end(), std::greater<>());
    least = *kth;
  }
  for (size_t group = 0; group < block_largest_.size(); ++group) {
    if (block_largest_[group] < least) continue;
    const size_t begin = group * kGroup, end = std::min(begin + kGroup, logits.size());
    for (size_t i = begin; i < end; ++i) {
      if (logits[i] >= least) found.push_back({logits[i], static_cast<int32_t>(i)});
    }
  }
  if (k < found.size()) {
    const auto end = found.begin() + static_cast<ptrdiff_t>(k);
    std::nth_element(found.begin(), end - 1, found.end(), more_likely);
    found.erase(end, found.end());
  }
  std::sort(found.begin(), found.end(), more_likely);
}

}  // namespace ll
