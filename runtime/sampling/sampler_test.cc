#include "runtime/sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

#include "runtime/sampling/philox.h"
#include "runtime/sampling/plain_params_test.h"

namespace ll {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

int32_t sample(const std::vector<float>& logits, const SampleParams& params, const std::vector<int32_t>& history = {}) {
  Sampler sampler;
  const auto token = sampler.sample(logits, history, params);
  EXPECT_TRUE(token) << token.error().message;
  return token ? *token : -1;
}

// How often each token is drawn, over `draws` seeds.
std::map<int32_t, double> shares(const std::vector<float>& logits, SampleParams params, int draws = 20000) {
  Sampler sampler;
  std::map<int32_t, double> counts;
  for (int i = 0; i < draws; ++i) {
    params.seed = static_cast<uint64_t>(i);
    counts[*sampler.sample(logits, {}, params)] += 1.0 / draws;
  }
  return counts;
}

// Known answers of the paper's reference implementation (Random123, kat_vectors).
TEST(Philox, KnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformNumbersFillTheUnitInterval) {
  double sum = 0, least = 1, most = 0;
  for (uint64_t i = 0; i < 10000; ++i) {
    const double u = uniform(1, i);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    sum += u;
    least = std::min(least, u);
    most = std::max(most, u);
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.01);
  EXPECT_LT(least, 0.001);
  EXPECT_GT(most, 0.999);
}

TEST(Sampler, GreedyTakesTheLargestAndTheFirstOfEquals) {
  EXPECT_EQ(sample({1, 5, 2}, plain(0)), 1);
  EXPECT_EQ(sample({5, 1, 5}, plain(0)), 0);
  EXPECT_EQ(sample({-kInfinity, -3, -kInfinity}, plain(0)), 1);
  EXPECT_EQ(sample({0}, plain(0)), 0);
}

TEST(Sampler, LogitsThatMakeNoDistributionAreErrors) {
  Sampler sampler;
  for (const float temperature : {0.0F, 1.0F}) {
    for (const std::vector<float>& logits :
         {std::vector<float>{1, kNan, 2}, {kNan}, {1, kInfinity}, {-kInfinity, -kInfinity}}) {
      const auto token = sampler.sample(logits, {}, plain(temperature));
      ASSERT_FALSE(token);
      EXPECT_EQ(token.error().code, Code::kBadData);
    }
  }
  const auto token = sampler.sample(std::vector<float>{1, kNan, 2}, {}, plain());
  EXPECT_NE(token.error().message.find("token 1 is nan"), std::string::npos) << token.error().message;
}

TEST(Sampler, ParametersOutOfRangeAreNamed) {
  const auto message = [](auto change) {
    SampleParams params = plain();
    change(params);
    const Status status = check_params(params);
    EXPECT_FALSE(status);
    if (status) return std::string();
    EXPECT_EQ(status.error().code, Code::kUsage);
    return status.error().message.substr(0, status.error().message.find(' '));
  };
  EXPECT_EQ(message([](SampleParams& p) { p.temperature = -1; }), "temperature");
  EXPECT_EQ(message([](SampleParams& p) { p.temperature = kNan; }), "temperature");
  EXPECT_EQ(message([](SampleParams& p) { p.top_k = -1; }), "top_k");
  EXPECT_EQ(message([](SampleParams& p) { p.top_p = 1.1F; }), "top_p");
  EXPECT_EQ(message([](SampleParams& p) { p.min_p = -0.1F; }), "min_p");
  EXPECT_EQ(message([](SampleParams& p) { p.repetition_penalty = 0; }), "repetition_penalty");
  EXPECT_EQ(message([](SampleParams& p) { p.presence_penalty = kInfinity; }), "presence_penalty");
  EXPECT_EQ(message([](SampleParams& p) { p.frequency_penalty = kNan; }), "frequency_penalty");
  EXPECT_EQ(message([](SampleParams& p) { p.penalty_window = -2; }), "penalty_window");
}

TEST(Sampler, DrawsFollowTheSoftmax) {
  const std::vector<float> logits = {0, 1, 2, -kInfinity, 1};
  for (const float temperature : {0.5F, 1.0F, 2.0F}) {
    double total = 0;
    for (const float l : logits) total += std::exp(l / temperature);
    auto share = shares(logits, plain(temperature));
    EXPECT_EQ(share.count(3), 0U);
    for (const int32_t i : {0, 1, 2, 4})
      EXPECT_NEAR(share[i], std::exp(logits[static_cast<size_t>(i)] / temperature) / total, 0.012);
  }
}

TEST(Sampler, TopKKeepsTheLikeliestAndOfEqualsTheFirst) {
  SampleParams params = plain();
  params.top_k = 2;
  auto share = shares({1, 3, 1, 1}, params);
  EXPECT_EQ(share.size(), 2U);
  EXPECT_NEAR(share[0], 1 / (1 + std::exp(2.0)), 0.012);
  params.top_k = 1;
  share = shares({1, 3, 3}, params, 100);
  EXPECT_EQ(share.size(), 1U);
  EXPECT_EQ(share.begin()->first, 1);
  params.top_k = 100;
  EXPECT_EQ(shares({1, 1, 1}, params).size(), 3U);
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
  // Probabilities 0.5, 0.25, 0.125, 0.125.
  const std::vector<float> logits = {std::log(0.125F), std::log(0.5F), std::log(0.125F), std::log(0.25F)};
  const auto kept = [&](float top_p, int32_t top_k = 0) {
    SampleParams params = plain();
    params.top_p = top_p;
    params.top_k = top_k;
    std::vector<int32_t> tokens;
    for (const auto& [token, share] : shares(logits, params)) tokens.push_back(token);
    return tokens;
  };
  using Tokens = std::vector<int32_t>;
  EXPECT_EQ(kept(0), Tokens({1}));
  EXPECT_EQ(kept(0.49F), Tokens({1}));
  EXPECT_EQ(kept(0.6F), Tokens({1, 3}));
  EXPECT_EQ(kept(0.8F), Tokens({0, 1, 3}));
  EXPECT_EQ(kept(0.95F), Tokens({0, 1, 2, 3}));
  EXPECT_EQ(kept(0.6F, 2), Tokens({1}));  // after top_k the shares are 2/3 and 1/3
}

// Leaving unlikely tokens out of the sort must not change what is drawn.
TEST(Sampler, TopPOverALargeVocabularyMatchesTheDefinition) {
  std::vector<float> logits(20000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(uniform(3, i) * 12);
  SampleParams all = plain(0.7F), everything = all;
  all.top_p = 0.9F;
  everything.top_p = 0.9F;
  everything.top_k = static_cast<int32_t>(logits.size());  // takes the other way through the code
  for (uint64_t seed = 0; seed < 200; ++seed) {
    all.seed = everything.seed = seed;
    ASSERT_EQ(sample(logits, all), sample(logits, everything));
  }
}

TEST(LikelihoodSort, OrdersLikeAComparisonWithTiesZerosAndInfinities) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 4);
  LikelihoodSort by_likelihood;
  for (const size_t count : {0, 1, 2047, 2048, 2049, 40000}) {
    std::vector<Candidate> candidates(count);
    for (size_t i = 0; i < count; ++i) {
      const float logits[] = {normal(random), std::round(normal(random)), 0.0F, -0.0F, -kInfinity, 1e-42F};
      candidates[i] = {logits[random() % 6], static_cast<int32_t>(i)};
    }
    std::vector<Candidate> want = candidates;
    std::sort(want.begin(), want.end(), more_likely);
    by_likelihood.sort(candidates);
    ASSERT_EQ(candidates.size(), count);
    for (size_t i = 0; i < count; ++i) ASSERT_EQ(candidates[i].token, want[i].token) << i << " of " << count;
  }
}

TEST(Sampler, MinPKeepsThoseNearTheLikeliest) {
  SampleParams params = plain();
  params.min_p = 0.3F;
  auto share = shares({std::log(0.5F), std::log(0.2F), std::log(0.1F)}, params);
  EXPECT_EQ(share.size(), 2U);
  EXPECT_NEAR(share[0], 5.0 / 7, 0.012);
}

TEST(Sampler, PenaltiesFollowTheirFormulas) {
  SampleParams params = plain(0);
  params.repetition_penalty = 2;
  EXPECT_EQ(sample({4, 3, 0}, params, {0}), 1);     // 4 / 2 < 3
  EXPECT_EQ(sample({-1, -1.5F}, params, {0}), 1);   // -1 * 2 < -1.5
  EXPECT_EQ(sample({4, 1.9F, 0}, params, {0}), 0);  // once, however often it was seen
  EXPECT_EQ(sample({4, 1.9F, 0}, params, {0, 0, 0}), 0);
  params = plain(0);
  params.presence_penalty = 1;
  EXPECT_EQ(sample({4, 3.5F}, params, {0, 0, 0}), 1);
  EXPECT_EQ(sample({4, 2.5F}, params, {0, 0, 0}), 0);
  params = plain(0);
  params.frequency_penalty = 1;
  EXPECT_EQ(sample({4, 1.5F}, params, {0, 0}), 0);
  EXPECT_EQ(sample({4, 1.5F}, params, {0, 0, 0}), 1);
}

TEST(Sampler, PenaltiesReachAsFarBackAsTheWindow) {
  SampleParams params = plain(0);
  params.presence_penalty = 10;
  params.penalty_window = 2;
  EXPECT_EQ(sample({4, 3, 2}, params, {0, 1, 2}), 0);
  params.penalty_window = 3;
  EXPECT_EQ(sample({4, 3, 2}, params, {0, 1, 1}), 2);
  params.penalty_window = -1;
  EXPECT_EQ(sample({4, 3, 2}, params, {0, 1, 1, 1, 1, 1}), 2);
  params.penalty_window = 0;
  EXPECT_EQ(sample({4, 3, 2}, params, {0}), 0);
}

TEST(Sampler, TheSameArgumentsDrawTheSameAndTheCounterIsTheLength) {
  std::vector<float> logits(1000, 0.0F);
  SampleParams params = plain();
  params.seed = 42;
  Sampler sampler;
  const std::vector<int32_t> history = {1, 2, 3};
  const int32_t first = *sampler.sample(logits, history, params);
  ASSERT_TRUE(sampler.sample(std::vector<float>(10, 1.0F), {}, params));
  EXPECT_EQ(*sampler.sample(logits, history, params), first);
  EXPECT_EQ(sample(logits, params, {7, 8, 9}), first);
  std::map<int32_t, int> seen;
  for (int32_t n = 0; n < 50; ++n) ++seen[sample(logits, params, std::vector<int32_t>(static_cast<size_t>(n), 0))];
  EXPECT_GT(seen.size(), 40U);
}

TEST(Sampler, ExtremeTemperaturesStayFinite) {
  SampleParams params = plain(1e-30F);
  EXPECT_EQ(sample({1, 1.0001F, -1e30F}, params), 1);
  params.temperature = 100;
  EXPECT_EQ(shares({0, 0.1F, 0.2F}, params).size(), 3U);
}

}  // namespace
}  // namespace ll
