#include "runtime/sampling/row.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <numeric>

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

// Four lanes of GCC's and clang's vector type, which any target has: neither vectorizes the scalar form of what
// follows.
using Floats = float __attribute__((vector_size(16)));
using Ints = int32_t __attribute__((vector_size(16)));
using Doubles = double __attribute__((vector_size(32)));
constexpr size_t kWidth = 4;

// exp(x) for x <= 0, 0 below -87. Range reduction to r in [-ln 2 / 2, ln 2 / 2] and its Taylor series to degree 7,
// whose remainder there is below 6e-9.
inline void exp_of(const Floats& x, Floats& result) {
  constexpr float kLog2E = 1.44269504F, kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  constexpr auto kLeast = std::bit_cast<int32_t>(87.0F);
  const Ints size = std::bit_cast<Ints>(x) & 0x7FFFFFFF;
  const Ints beyond = size > kLeast;  // all bits of a lane, or none
  const Floats clamped = -std::bit_cast<Floats>((size & ~beyond) | (kLeast & beyond));
  const Floats n = (clamped * kLog2E + kRound) - kRound;
  const Floats r = (clamped - n * kLn2High) - n * kLn2Low;
  Floats p = r * (1.0F / 5040) + 1.0F / 720;
  p = p * r + 1.0F / 120;
  p = p * r + 1.0F / 24;
  p = p * r + 1.0F / 6;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  const Floats power = std::bit_cast<Floats>((__builtin_convertvector(n, Ints) + 127) << 23);
  result = std::bit_cast<Floats>(std::bit_cast<Ints>(p * power) & ~beyond);
}

}  // namespace

void LikelihoodSort::sort(std::vector<Candidate>& candidates) {
  constexpr size_t kWorthDigits = 2048;  // fewer are sorted sooner by comparing them
  if (candidates.size() < kWorthDigits) return std::sort(candidates.begin(), candidates.end(), more_likely);
  // Each pass keeps the order of equal digits, so that of equal logits the lower token stays first.
  constexpr int kBits = 11, kPasses = 3;
  constexpr uint32_t kDigits = 1U << kBits;
  const auto digit = [](const Candidate& c, int pass) {
    // 0 and -0 are equals; the largest logit has the smallest key.
    const auto key = ~(static_cast<uint32_t>(ordered(c.logit + 0.0F)) ^ 0x80000000U);
    return key >> (kBits * pass) & (kDigits - 1);
  };
  std::array<std::array<size_t, kDigits>, kPasses> first{};
  for (const Candidate& c : candidates) {
    for (int pass = 0; pass < kPasses; ++pass) ++first[static_cast<size_t>(pass)][digit(c, pass)];
  }
  other_.resize(candidates.size());
  for (int pass = 0; pass < kPasses; ++pass) {
    auto& places = first[static_cast<size_t>(pass)];
    std::exclusive_scan(places.begin(), places.end(), places.begin(), size_t{0});
    for (const Candidate& c : candidates) other_[places[digit(c, pass)]++] = c;
    candidates.swap(other_);
  }
}

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
  constexpr size_t kSums = 4;  // additions that need not wait for one another
  Doubles sums[kSums] = {};
  for (size_t i = 0; i < logits.size(); i += kWidth) {
    const size_t count = std::min(kWidth, logits.size() - i);
    Floats x = {}, term;
    if (count == kWidth) {
      std::memcpy(&x, logits.data() + i, sizeof(x));
      x = (x - largest) / temperature;
    } else {
      for (size_t lane = 0; lane < kWidth; ++lane) {
        x[lane] = lane < count ? (logits[i + lane] - largest) / temperature : -std::numeric_limits<float>::infinity();
      }
    }
    exp_of(x, term);
    sums[i / kWidth % kSums] += __builtin_convertvector(term, Doubles);
    if (weights != nullptr) std::memcpy(weights + i, &term, count * sizeof(float));
  }
  double sum = 0;
  for (const Doubles& s : sums) sum += (s[0] + s[1]) + (s[2] + s[3]);
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
