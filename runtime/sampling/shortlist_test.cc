// Sampling from a shortlist is sampling from its row: the same token, logprobs and errors wherever the list decides.
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <random>

#include "runtime/sampling/plain_params_test.h"
#include "runtime/sampling/sampler.h"

namespace ll::shortlist_choices {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr size_t kListed = 64;

struct ListedRow {
  std::vector<float> logits;
  std::vector<Candidate> candidates;

  explicit ListedRow(std::vector<float> row) : logits(std::move(row)) { TopK().find(logits, kListed, candidates); }
  Shortlist list(float temperature) const {
    const float largest = candidates.front().logit;
    return {candidates, logits.size(), exp_sum(logits, largest, temperature == 0 ? 1 : temperature),
            exp_sum(logits, largest, 1)};
  }
};

void expect_same(const SampledToken& got, const SampledToken& want, const std::string& what) {
  EXPECT_EQ(got.token, want.token) << what;
  EXPECT_EQ(got.logprob, want.logprob) << what;
  EXPECT_EQ(got.error.message, want.error.message) << what;
  ASSERT_EQ(got.top.size(), want.top.size()) << what;
  for (size_t i = 0; i < want.top.size(); ++i) {
    EXPECT_EQ(got.top[i].token, want.top[i].token) << what;
    EXPECT_EQ(got.top[i].logprob, want.top[i].logprob) << what;
  }
}

// Rows as models make them (a few likely tokens), and rows that are all ties, flat or mostly -infinity.
std::vector<float> random_row(std::mt19937& random, size_t vocab) {
  const int kind = static_cast<int>(random() % 5);
  std::normal_distribution<float> normal(0, kind == 1 ? 0.01F : 2.5F);
  std::vector<float> logits(vocab);
  for (float& l : logits) {
    l = normal(random);
    if (kind == 2) l = static_cast<float>(static_cast<int>(random() % 3)) - 1;
    if (kind == 3 && random() % 8 != 0) l = -kInfinity;
    if (kind == 4 && random() % 200 == 0) l += 9;
    if (random() % 16 == 0) l = random() % 2 == 0 ? 0.0F : -0.0F;
  }
  logits[random() % vocab] = 3;
  return logits;
}

SampleParams random_params(std::mt19937& random) {
  const auto one_of = [&](auto... values) {
    const std::common_type_t<decltype(values)...> list[] = {values...};
    return list[random() % sizeof...(values)];
  };
  SampleParams p = plain(one_of(0.0F, 0.3F, 0.8F, 1.0F, 1.7F, 1e-30F, 100.0F));
  p.top_k = one_of(0, 0, 1, 2, 40, 63, 64, 65, 1000000);
  p.top_p = one_of(1.0F, 1.0F, 0.95F, 0.5F, 0.0F, 0.999F);
  p.min_p = one_of(0.0F, 0.0F, 0.05F, 0.3F, 1.0F, 1e-4F);
  p.typical_p = one_of(1.0F, 1.0F, 1.0F, 0.9F, 0.2F);
  p.xtc_probability = one_of(0.0F, 0.0F, 0.5F);
  p.mirostat = one_of(0, 0, 0, 0, 1, 2);
  p.repetition_penalty = one_of(1.0F, 1.0F, 1.0F, 1.3F);
  if (random() % 10 == 0) p.logit_bias = {{0, 2.0F}};
  p.seed = random();
  return p;
}

TEST(Shortlist, DecidesAsTheWholeRowDoes) {
  std::mt19937 random(11);
  Sampler whole, listed;
  std::map<std::string, int> decided, asked;
  for (int round = 0; round < 4000; ++round) {
    const size_t vocab = std::vector<size_t>{1, 33, 63, 64, 65, 500, 3000}[random() % 7];
    const ListedRow row(random_row(random, vocab));
    const SampleParams params = random_params(random);
    const std::vector<int32_t> history = {0, static_cast<int32_t>(vocab - 1)}, banned = {0};
    RowSampling asks;
    asks.params = &params;
    asks.history = history;
    if (vocab > 1 && random() % 12 == 0) asks.banned = banned;
    asks.draw = random() % 100;
    asks.stream = static_cast<uint32_t>(random() % 3);
    asks.logprob = random() % 2 == 0;
    asks.top_logprobs = random() % 3 == 0 ? static_cast<uint32_t>(random() % 25) : 0;
    if (random() % 8 == 0) asks.given = static_cast<int32_t>(random() % vocab);
    SamplingState list_state, row_state;
    asks.state = &list_state;
    const auto got = listed.sample(row.list(params.temperature), asks);
    EXPECT_EQ(list_state.mirostat_mu, -1.0F) << "a list keeps nothing from token to token";
    const std::string what = fmt::format(
        "round {}: vocabulary {}, temperature {}, top_k {}, top_p {}, min_p {}, typical_p {}, xtc {}", round, vocab,
        params.temperature, params.top_k, params.top_p, params.min_p, params.typical_p, params.xtc_probability);
    EXPECT_TRUE(!got || Sampler::may_decide(asks, kListed, vocab)) << what;
    asks.state = &row_state;
    if (got) expect_same(*got, whole.sample(row.logits, asks), what);
    if (HasFailure()) return;
    const std::string kind = asks.given >= 0           ? "given"
                             : params.temperature == 0 ? "greedy"
                             : params.top_k == 0       ? params.top_p < 1   ? "nucleus"
                                                         : params.min_p > 0 ? "min_p"
                                                                            : "plain"
                                                       : "top_k";
    ++asked[kind];
    if (got) ++decided[kind];
  }
  for (const char* kind : {"given", "greedy", "nucleus", "min_p", "top_k"}) {
    EXPECT_GT(decided[kind], asked[kind] / 10) << kind;
    EXPECT_LT(decided[kind], asked[kind]) << kind << ": some ask for more than a list holds";
  }
}

// What may_decide promises is kept: these need no row, whatever the logits.
TEST(Shortlist, TopKAndGreedyAreAlwaysDecided) {
  std::mt19937 random(3);
  Sampler sampler;
  for (int round = 0; round < 200; ++round) {
    const ListedRow row(random_row(random, 2000));
    SampleParams params = plain(round % 2 == 0 ? 0.0F : 0.9F);
    params.top_k = 1 + static_cast<int32_t>(random() % kListed);
    params.top_p = 0.9F;
    RowSampling asks;
    asks.params = &params;
    asks.logprob = true;
    asks.top_logprobs = kMostTopLogprobs;
    ASSERT_TRUE(Sampler::may_decide(asks, kListed, row.logits.size()));
    ASSERT_TRUE(sampler.sample(row.list(params.temperature), asks));
  }
}

TEST(Shortlist, WhatNeedsTheRowIsLeftToIt) {
  const std::vector<int32_t> seen = {1};
  const auto may = [&](auto change) {
    SampleParams params = plain(1);
    params.top_k = 40;
    RowSampling row;
    row.params = &params;
    row.history = seen;
    change(params, row);
    return Sampler::may_decide(row, kListed, 1000);
  };
  EXPECT_TRUE(may([](SampleParams&, RowSampling&) {}));
  EXPECT_FALSE(may([](SampleParams& p, RowSampling&) { p.top_k = 65; }));
  EXPECT_FALSE(may([](SampleParams& p, RowSampling&) { p.top_k = 0; }));
  EXPECT_FALSE(may([](SampleParams& p, RowSampling&) { p.top_k = 1000; }));
  EXPECT_FALSE(may([](SampleParams& p, RowSampling&) { p.mirostat = 2; }));
  EXPECT_FALSE(may([](SampleParams& p, RowSampling&) { p.presence_penalty = 0.5F; }));
  EXPECT_FALSE(may([](SampleParams& p, RowSampling&) { p.dry_multiplier = 0.5F; }));
  EXPECT_FALSE(may([](SampleParams& p, RowSampling&) { p.logit_bias = {{3, 1.0F}}; }));
  EXPECT_FALSE(may([&](SampleParams&, RowSampling& r) { r.banned = seen; }));
  EXPECT_TRUE(may([&](SampleParams&, RowSampling& r) { r.banned = seen, r.given = 4; }));
  const auto with_top_k_off = [&](auto change) {
    return may([&](SampleParams& p, RowSampling&) { p.top_k = 0, change(p); });
  };
  EXPECT_TRUE(with_top_k_off([](SampleParams& p) { p.top_p = 0.9F; }));
  EXPECT_TRUE(with_top_k_off([](SampleParams& p) { p.min_p = 0.1F; }));
  EXPECT_TRUE(with_top_k_off([](SampleParams& p) { p.temperature = 0; }));
  EXPECT_FALSE(with_top_k_off([](SampleParams& p) { p.typical_p = 0.9F, p.top_p = 0.9F; }));
}

// A flat row's nucleus reaches beyond any list; a given token may lie beyond it.
TEST(Shortlist, TellsWhereItEnds) {
  const ListedRow flat(std::vector<float>(5000, 1.0F));
  SampleParams params = plain(1);
  RowSampling row;
  row.params = &params;
  Sampler sampler;
  params.top_p = 0.5F;
  EXPECT_FALSE(sampler.sample(flat.list(1), row));
  params.top_p = 64.0F / 5000;  // the list holds just that: too near to be sure
  EXPECT_FALSE(sampler.sample(flat.list(1), row));
  params.top_p = 0.01F;
  EXPECT_TRUE(sampler.sample(flat.list(1), row));
  params.top_p = 1;
  params.min_p = 0.9F;
  EXPECT_FALSE(sampler.sample(flat.list(1), row));
  row.given = 63;
  row.logprob = true;
  EXPECT_TRUE(sampler.sample(flat.list(1), row));
  row.given = 64;
  EXPECT_FALSE(sampler.sample(flat.list(1), row));
  row.logprob = false;
  EXPECT_EQ(sampler.sample(flat.list(1), row)->token, 64);
}

}  // namespace
}  // namespace ll::shortlist_choices
