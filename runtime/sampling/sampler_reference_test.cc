// The sampler against definitions written the plain way: whole vocabulary, double precision, no shortcuts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

#include "runtime/sampling/philox.h"
#include "runtime/sampling/plain_params_test.h"
#include "runtime/sampling/sampler.h"

namespace ll::sampler_reference {
namespace {

using Row = std::vector<float>;
using Tokens = std::vector<int32_t>;
using Shares = std::vector<double>;  // probability of each token

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<size_t> most_likely_first(const Shares& shares) {
  std::vector<size_t> order(shares.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return shares[a] > shares[b]; });
  return order;
}

Shares softmax(const Row& logits, double temperature) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  Shares shares;
  for (const float l : logits) shares.push_back(std::exp((l - largest) / temperature));
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& s : shares) s /= sum;
  return shares;
}

void keep(Shares& shares, const std::vector<size_t>& kept) {
  Shares only(shares.size(), 0);
  double sum = 0;
  for (const size_t i : kept) sum += shares[i];
  for (const size_t i : kept) only[i] = shares[i] / sum;
  shares = only;
}

// Step 6 of sampling.h but for XTC.
Shares truncated(const Row& logits, const SampleParams& p) {
  Shares shares = softmax(logits, p.temperature);
  if (p.top_k > 0) {
    auto order = most_likely_first(shares);
    order.resize(std::min(order.size(), static_cast<size_t>(p.top_k)));
    keep(shares, order);
  }
  if (p.typical_p < 1) {
    double entropy = 0;
    for (const double s : shares) entropy -= s > 0 ? s * std::log(s) : 0;
    auto order = most_likely_first(shares);
    std::erase_if(order, [&](size_t i) { return shares[i] == 0; });
    const auto distance = [&](size_t i) { return std::abs(-std::log(shares[i]) - entropy); };
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return distance(a) < distance(b); });
    double sum = 0;
    size_t n = 0;
    while (n < order.size() && (n == 0 || sum < static_cast<double>(p.typical_p))) sum += shares[order[n++]];
    order.resize(n);
    keep(shares, order);
  }
  if (p.top_p < 1) {
    auto order = most_likely_first(shares);
    double sum = 0;
    size_t n = 0;
    while (n < order.size() && (n == 0 || sum < static_cast<double>(p.top_p))) sum += shares[order[n++]];
    order.resize(n);
    keep(shares, order);
  }
  if (p.min_p > 0) {
    const double largest = *std::max_element(shares.begin(), shares.end());
    std::vector<size_t> kept;
    for (size_t i = 0; i < shares.size(); ++i) {
      if (shares[i] >= static_cast<double>(p.min_p) * largest) kept.push_back(i);
    }
    keep(shares, kept);
  }
  return shares;
}

Row random_row(size_t size, uint64_t seed, double spread = 8) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(0, spread);
  Row row(size);
  for (float& l : row) l = static_cast<float>(normal(random));
  return row;
}

// How often the sampler draws each token.
Shares drawn(const Row& logits, const SampleParams& params, int draws, const Tokens& history = {}) {
  Sampler sampler;
  Shares shares(logits.size(), 0);
  for (int i = 0; i < draws; ++i) {
    RowSampling row;
    row.params = &params;
    row.history = history;
    row.draw = static_cast<uint64_t>(i);
    const SampledToken token = sampler.sample(logits, row);
    EXPECT_GE(token.token, 0) << token.error.message;
    if (token.token >= 0) shares[static_cast<size_t>(token.token)] += 1.0 / draws;
  }
  return shares;
}

// Five standard deviations of a share that is counted over the draws.
void expect_near(const Shares& got, const Shares& want, int draws) {
  for (size_t i = 0; i < want.size(); ++i) {
    if (want[i] == 0) {
      ASSERT_EQ(got[i], 0) << "token " << i;
    } else {
      ASSERT_NEAR(got[i], want[i], 5 * std::sqrt(want[i] * (1 - want[i]) / draws) + 1e-9) << "token " << i;
    }
  }
}

TEST(SamplerReference, EveryMixOfTruncationsDrawsFromTheDefinedDistribution) {
  std::mt19937 random(3);
  const auto pick = [&](std::initializer_list<float> of) { return *(of.begin() + random() % of.size()); };
  constexpr int kDraws = 3000;
  for (int round = 0; round < 60; ++round) {
    const Row logits = random_row(1 + random() % 400, random(), 3);
    SampleParams p = plain(pick({0.3F, 1, 2.5F}));
    p.top_k = static_cast<int32_t>(pick({0, 1, 7, 64, 1000}));
    p.top_p = pick({1, 0.9F, 0.5F, 0});
    p.min_p = pick({0, 0.01F, 0.3F, 1});
    p.typical_p = pick({1, 1, 0.8F, 0.2F});
    p.seed = random();
    expect_near(drawn(logits, p, kDraws), truncated(logits, p), kDraws);
    if (HasFatalFailure()) FAIL() << "round " << round;
  }
}

TEST(SamplerReference, LargeVocabulariesTakeTheSameTokens) {
  for (const size_t size : {1023, 1024, 1025, 40000, 128256}) {
    const Row logits = random_row(size, static_cast<uint32_t>(size), 4);
    const auto order = [&] {
      Shares shares(logits.begin(), logits.end());
      return most_likely_first(shares);
    }();
    EXPECT_EQ(*most_likely(logits), static_cast<int32_t>(order[0]));
    TopK top_k;
    std::vector<Candidate> found;
    for (const size_t k : {size_t{1}, size_t{2}, size_t{40}, size_t{1000}, size / 2, size, size + 5}) {
      top_k.find(logits, k, found);
      ASSERT_EQ(found.size(), std::min(k, size));
      for (size_t i = 0; i < found.size(); ++i) ASSERT_EQ(found[i].token, static_cast<int32_t>(order[i]));
    }
    const double largest = logits[order[0]];
    double sum = 0;
    for (const float l : logits) sum += std::exp((l - largest) / 0.7);
    EXPECT_NEAR(exp_sum(logits, logits[order[0]], 0.7F), sum, 3e-7 * sum);
  }
}

TEST(SamplerReference, EqualLogitsAreTakenInTheOrderOfTheirIds) {
  Row logits(5000, 1.0F);
  logits[4000] = 2;
  TopK top_k;
  std::vector<Candidate> found;
  top_k.find(logits, 100, found);
  EXPECT_EQ(found[0].token, 4000);
  for (size_t i = 1; i < 100; ++i) EXPECT_EQ(found[i].token, static_cast<int32_t>(i - 1));
  EXPECT_EQ(*most_likely(Row{-0.0F, 0.0F}), 0);
  EXPECT_EQ(*most_likely(Row{0.0F, -0.0F}), 0);
  for (const size_t at : {0, 15, 16, 1023, 1024, 4999}) {
    Row row(5000, -3.0F);
    row[at] = -2.5F;
    EXPECT_EQ(*most_likely(row), static_cast<int32_t>(at));
    row[at] = -std::numeric_limits<float>::quiet_NaN();
    EXPECT_FALSE(most_likely(row));
    row[at] = kInfinity;
    EXPECT_FALSE(most_likely(row));
    row[at] = -kInfinity;
    EXPECT_TRUE(most_likely(row));
  }
}

TEST(SamplerReference, XtcExcludesAllButTheLeastOfTheTopChoices) {
  // 0.4, 0.3, 0.2, 0.1
  const Row logits = {std::log(0.2F), std::log(0.4F), std::log(0.1F), std::log(0.3F)};
  SampleParams p = plain();
  p.xtc_probability = 1;
  p.xtc_threshold = 0.15F;
  constexpr int kDraws = 4000;
  expect_near(drawn(logits, p, kDraws), {0.2 / 0.3, 0, 0.1 / 0.3, 0}, kDraws);
  p.xtc_threshold = 0.35F;  // one choice above it: nothing to exclude
  expect_near(drawn(logits, p, kDraws), {0.2, 0.4, 0.1, 0.3}, kDraws);
  p.xtc_threshold = 0.15F;
  p.xtc_probability = 0.5F;
  expect_near(drawn(logits, p, kDraws), {(0.2 / 0.3 + 0.2) / 2, 0.2, (0.1 / 0.3 + 0.1) / 2, 0.15}, kDraws);
  p.xtc_probability = 1;
  p.top_k = 2;  // 4/7 and 3/7 are left, both above the threshold
  expect_near(drawn(logits, p, kDraws), {0, 0, 0, 1}, kDraws);
}

// DRY as its author describes it: for every earlier place whose tokens match the end of the text, the token that
// followed there is penalized by the length of the match.
Row dry(const Row& logits, Tokens history, const SampleParams& p) {
  if (p.dry_window >= 0)
    history.erase(history.begin(), history.end() - std::min<ptrdiff_t>(p.dry_window, std::ssize(history)));
  const auto breaks = [&](int32_t t) {
    return p.dry_breakers && std::count(p.dry_breakers->begin(), p.dry_breakers->end(), t) > 0;
  };
  std::map<int32_t, int> longest;
  const auto n = static_cast<int>(history.size());
  const auto at = [&](int i) { return history[static_cast<size_t>(i)]; };
  for (int i = 0; i + 1 < n; ++i) {
    int length = 0;
    while (length < 50 && i - length >= 0 && at(i - length) == at(n - 1 - length) && !breaks(at(i - length))) ++length;
    const int32_t next = at(i + 1);
    if (length > 0 && !breaks(next)) longest[next] = std::max(longest[next], length);
  }
  Row out = logits;
  for (const auto& [token, length] : longest) {
    if (length < p.dry_allowed_length) continue;
    float& l = out[static_cast<size_t>(token)];
    l = static_cast<float>(
        std::max<double>(l - static_cast<double>(p.dry_multiplier) *
                                 std::pow(static_cast<double>(p.dry_base), length - p.dry_allowed_length),
                         std::numeric_limits<float>::lowest()));
  }
  return out;
}

TEST(SamplerReference, DryPenalizesWhatWouldGoOnRepeating) {
  std::mt19937 random(9);
  for (int round = 0; round < 500; ++round) {
    const auto vocab = static_cast<uint32_t>(2 + random() % 6);
    Tokens history(random() % 200);
    for (int32_t& t : history) t = static_cast<int32_t>(random() % vocab);
    if (round % 5 == 0) std::fill(history.begin(), history.end(), 1);
    SampleParams p = plain(0);
    p.dry_multiplier = 0.8F;
    p.dry_base = 1.75F;
    p.dry_allowed_length = static_cast<int32_t>(random() % 5);
    p.dry_window = random() % 3 == 0 ? static_cast<int32_t>(random() % 100) : -1;
    if (random() % 2 == 0) p.dry_breakers = std::make_shared<Tokens>(Tokens{0, 5});
    const Row logits = random_row(vocab, random(), 2);
    Row got = logits;
    Penalties penalties;
    penalties.apply(history, p, got);
    const Row want = dry(logits, history, p);
    for (size_t i = 0; i < vocab; ++i) ASSERT_FLOAT_EQ(got[i], want[i]) << "round " << round << ", token " << i;
  }
}

TEST(SamplerReference, DryIsLinearInRepetitionsAndLeavesTheLastTokenStanding) {
  SampleParams p = plain(0);
  p.dry_multiplier = 100;
  p.dry_base = 8;
  const Tokens history(100000, 0);
  EXPECT_EQ(drawn({5}, p, 1, history)[0], 1);  // penalized beyond all floats, yet the only one
  EXPECT_EQ(drawn({5, -50}, p, 1, history)[1], 1);
}

// Mirostat 1 as in the paper's algorithm 1, with the paper's reference formulas.
struct Mirostat {
  double mu, tau, eta;
  double s(const std::vector<double>& sorted) const {
    double up = 0, down = 0;
    for (size_t i = 0; i + 1 < std::min<size_t>(sorted.size(), 100); ++i) {
      const double b = std::log(sorted[i] / sorted[i + 1]);
      const double t = std::log((static_cast<double>(i) + 2) / (static_cast<double>(i) + 1));
      up += b * t;
      down += t * t;
    }
    return up / down;
  }
  size_t k(const std::vector<double>& sorted) const {
    const double exponent = s(sorted), e = exponent - 1, n = static_cast<double>(sorted.size());
    return static_cast<size_t>(
        std::max(1.0, std::min(n, std::round(std::pow(e * std::exp2(mu) / (1 - std::pow(n, -e)), 1 / exponent)))));
  }
};

TEST(SamplerReference, MirostatDrawsFromWhatItsTargetAllowsAndMovesTowardsIt) {
  for (const int32_t version : {1, 2}) {
    SampleParams p = plain(0.9F);
    p.mirostat = version;
    p.mirostat_tau = 3;
    p.mirostat_eta = 0.2F;
    Sampler sampler;
    SamplingState state;
    double mu = 6, total_surprise = 0;
    constexpr int kSteps = 2000;
    for (int i = 0; i < kSteps; ++i) {
      const Row logits = random_row(300, static_cast<uint32_t>(i), 3);
      const Shares shares = softmax(logits, static_cast<double>(p.temperature));
      const auto order = most_likely_first(shares);
      std::vector<double> sorted;
      for (const size_t o : order) sorted.push_back(shares[o]);
      size_t keep_count = 0;
      if (version == 1) {
        keep_count = Mirostat{mu, 3, 0.2}.k(sorted);
      } else {
        while (keep_count < sorted.size() && -std::log2(sorted[keep_count]) <= mu) ++keep_count;
        keep_count = std::max<size_t>(keep_count, 1);
      }
      RowSampling row;
      row.params = &p;
      row.state = &state;
      row.draw = static_cast<uint64_t>(i);
      const int32_t token = sampler.sample(logits, row).token;
      const auto rank =
          static_cast<size_t>(std::find(order.begin(), order.end(), static_cast<size_t>(token)) - order.begin());
      ASSERT_LT(rank, keep_count) << "version " << version << ", step " << i;
      const double norm =
          version == 1 ? 1 : std::accumulate(sorted.begin(), sorted.begin() + static_cast<ptrdiff_t>(keep_count), 0.0);
      const double surprise = -std::log2(shares[static_cast<size_t>(token)] / norm);
      mu = std::max(0.0, mu - static_cast<double>(p.mirostat_eta) * (surprise - static_cast<double>(p.mirostat_tau)));
      ASSERT_NEAR(state.mirostat_mu, mu, 1e-3);
      mu = static_cast<double>(state.mirostat_mu);
      total_surprise += surprise;
    }
    EXPECT_NEAR(total_surprise / kSteps, 3, 0.15) << "version " << version;
  }
}

TEST(SamplerReference, BiasesAndBansChangeTheChoice) {
  SampleParams p = plain(0);
  p.logit_bias = {{0, -3}, {2, 4}};
  EXPECT_EQ(drawn({5, 4, 1}, p, 1), (Shares{0, 0, 1}));
  p.logit_bias = {{0, -kInfinity}, {1, -kInfinity}};
  EXPECT_EQ(drawn({5, 4, -100}, p, 1), (Shares{0, 0, 1}));
  p = plain(0);
  RowSampling row;
  const Tokens banned = {0, 2};
  row.params = &p;
  row.banned = banned;
  Sampler sampler;
  EXPECT_EQ(sampler.sample(Row{5, 1, 4}, row).token, 1);
  // Bans come last: nothing brings a banned token back.
  p.logit_bias = {{0, 1000}};
  EXPECT_EQ(sampler.sample(Row{5, 1, 4}, row).token, 1);
  p.logit_bias = {{1, -kInfinity}};
  const SampledToken none = sampler.sample(Row{5, 1, 4}, row);
  EXPECT_EQ(none.token, -1);
  EXPECT_EQ(none.error.code, Code::kBadData);
  EXPECT_NE(none.error.message.find("no token is left"), std::string::npos);
}

TEST(SamplerReference, LogprobsAreOfTheModelsOwnDistribution) {
  const Row logits = random_row(5000, 4);
  const Shares shares = softmax(logits, 1);
  const auto order = most_likely_first(shares);
  SampleParams p = plain(0.2F);
  p.logit_bias = {{static_cast<int32_t>(order[0]), -kInfinity}};
  p.top_k = 3;
  RowSampling row;
  row.params = &p;
  row.logprob = true;
  row.top_logprobs = 5;
  Sampler sampler;
  const SampledToken token = sampler.sample(logits, row);
  EXPECT_NE(token.token, static_cast<int32_t>(order[0]));
  EXPECT_NEAR(token.logprob, std::log(shares[static_cast<size_t>(token.token)]), 1e-5);
  ASSERT_EQ(token.top.size(), 5U);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(token.top[i].token, static_cast<int32_t>(order[i]));
    EXPECT_NEAR(token.top[i].logprob, std::log(shares[order[i]]), 1e-5);
  }
  row.given = 77;
  const SampledToken given = sampler.sample(logits, row);
  EXPECT_EQ(given.token, 77);
  EXPECT_NEAR(given.logprob, std::log(shares[77]), 1e-5);
}

TEST(SamplerReference, DrawsDependOnSeedNumberAndStreamAlone) {
  const Row logits(1000, 0.0F);
  SampleParams p = plain();
  Sampler sampler;
  std::map<int32_t, int> seen;
  for (uint32_t stream = 0; stream < 4; ++stream) {
    for (uint64_t draw = 0; draw < 10; ++draw) {
      RowSampling row;
      row.params = &p;
      row.stream = stream;
      row.draw = draw;
      const int32_t token = sampler.sample(logits, row).token;
      EXPECT_EQ(Sampler().sample(logits, row).token, token);
      ++seen[token];
    }
  }
  EXPECT_GT(seen.size(), 35U);
}

TEST(SamplerReference, ParametersOutOfRangeAreNamed) {
  const auto word = [](auto change) {
    SampleParams p = plain();
    change(p);
    const Status status = check_params(p, 100);
    EXPECT_FALSE(status);
    return status ? std::string() : status.error().message.substr(0, status.error().message.find(' '));
  };
  EXPECT_EQ(word([](SampleParams& p) { p.typical_p = 1.5F; }), "typical_p");
  EXPECT_EQ(word([](SampleParams& p) { p.dry_multiplier = -1; }), "dry_multiplier");
  EXPECT_EQ(word([](SampleParams& p) { p.dry_base = 0.5F; }), "dry_base");
  EXPECT_EQ(word([](SampleParams& p) { p.dry_allowed_length = -1; }), "dry_allowed_length");
  EXPECT_EQ(word([](SampleParams& p) { p.dry_window = -2; }), "dry_window");
  EXPECT_EQ(word([](SampleParams& p) { p.dry_breakers = std::make_shared<Tokens>(Tokens{3, 1}); }), "dry_breakers");
  EXPECT_EQ(word([](SampleParams& p) { p.xtc_probability = std::nanf(""); }), "xtc_probability");
  EXPECT_EQ(word([](SampleParams& p) { p.xtc_threshold = -0.1F; }), "xtc_threshold");
  EXPECT_EQ(word([](SampleParams& p) { p.mirostat = 3; }), "mirostat");
  EXPECT_EQ(word([](SampleParams& p) { p.mirostat_tau = -1; }), "mirostat_tau");
  EXPECT_EQ(word([](SampleParams& p) { p.mirostat_eta = 2; }), "mirostat_eta");
  EXPECT_EQ(word([](SampleParams& p) { p.logit_bias = {{100, 0}}; }), "logit_bias");
  EXPECT_EQ(word([](SampleParams& p) { p.logit_bias = {{-1, 0}}; }), "logit_bias");
  EXPECT_EQ(word([](SampleParams& p) { p.logit_bias = {{1, kInfinity}}; }), "logit_bias");
  EXPECT_EQ(word([](SampleParams& p) { p.logit_bias = {{1, std::nanf("")}}; }), "logit_bias");
  EXPECT_EQ(word([](SampleParams& p) { p.logit_bias.resize(1025); }), "logit_bias");
}

}  // namespace
}  // namespace ll::sampler_reference
