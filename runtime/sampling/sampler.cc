#include "runtime/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "runtime/sampling/philox.h"

namespace ll {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// What a random number is for: draws for different purposes are independent.
enum Purpose : uint32_t { kDraw = 0, kXtc = 1 };

double random_number(const RowSampling& row, Purpose purpose) {
  return uniform(row.params->seed, row.draw, row.stream, purpose);
}

constexpr double kNoTotal = -1;

size_t kept_by_top_k(const SampleParams& params, size_t vocab) {
  return params.top_k == 0 ? vocab : std::min(vocab, static_cast<size_t>(params.top_k));
}

// Whether top_p is the first to cut, so that its shares are of the whole row.
bool nucleus_alone(const SampleParams& params, size_t vocab) {
  return kept_by_top_k(params, vocab) == vocab && params.top_p < 1 && params.typical_p >= 1;
}

// Tokens of SampledToken::top.
size_t most_wanted(const RowSampling& row, size_t vocab) {
  return std::min<size_t>({row.top_logprobs, kMostTopLogprobs, vocab});
}

bool edits(const RowSampling& row) {
  return !row.banned.empty() || !row.params->logit_bias.empty() || Penalties::wanted(*row.params);
}

// What a mirostat sampler of this target begins with: the paper's 2 * tau.
float mu_of(const RowSampling& row) {
  return row.state == nullptr || row.state->mirostat_mu < 0 ? 2 * row.params->mirostat_tau : row.state->mirostat_mu;
}

// Zipf's exponent of candidates, most likely first, by least squares over the m most likely (Basu et al., equation 7).
double zipf_exponent(std::span<const double> weights) {
  constexpr size_t kMost = 100;
  double products = 0, squares = 0;
  for (size_t i = 0; i + 1 < std::min(weights.size(), kMost); ++i) {
    if (weights[i + 1] <= 0) break;
    const double t = std::log(static_cast<double>(i + 2) / static_cast<double>(i + 1));
    products += t * std::log(weights[i] / weights[i + 1]);
    squares += t * t;
  }
  return squares == 0 ? 1 : products / squares;
}

// How many of the most likely of `vocab` tokens keep the expected surprise at mu bits (Basu et al., theorem 3).
size_t mirostat_k(double exponent, double mu, size_t vocab) {
  const double epsilon = exponent - 1;
  // The formula's limit for epsilon -> 0 is used where the formula itself cancels.
  const double ratio = std::abs(epsilon) < 1e-6 ? 1 / std::log(static_cast<double>(vocab))
                                                : epsilon / (1 - std::pow(static_cast<double>(vocab), -epsilon));
  const double k = std::pow(ratio * std::exp2(mu), 1 / exponent);
  return k >= 1 ? static_cast<size_t>(std::min(std::round(k), static_cast<double>(vocab))) : 1;
}

}  // namespace

SampledToken Sampler::sample(std::span<const float> logits, const RowSampling& row) {
  SampledToken sampled;
  auto token = choose(logits, row);
  if (!token) {
    sampled.error = std::move(token).error();
    return sampled;
  }
  sampled.token = *token;
  if (!row.logprob) return sampled;
  const float largest = *std::max_element(logits.begin(), logits.end());
  const double norm = static_cast<double>(largest) + std::log(exp_sum(logits, largest, 1));
  const auto logprob = [&](float logit) { return static_cast<float>(static_cast<double>(logit) - norm); };
  sampled.logprob = logprob(logits[static_cast<size_t>(*token)]);
  if (row.top_logprobs == 0) return sampled;
  top_k_.find(logits, std::min(row.top_logprobs, kMostTopLogprobs), candidates_);
  for (const Candidate& c : candidates_) sampled.top.push_back({c.token, logprob(c.logit)});
  return sampled;
}

bool Sampler::may_decide(const RowSampling& row, size_t listed, size_t vocab_size) {
  const SampleParams& params = *row.params;
  if (row.logprob && most_wanted(row, vocab_size) > listed) return false;
  if (row.given >= 0) return true;
  if (edits(row)) return false;
  if (params.temperature == 0) return true;
  if (params.mirostat != 0) return false;
  const size_t k = kept_by_top_k(params, vocab_size);
  return k <= listed || (k == vocab_size && params.typical_p >= 1 && (params.top_p < 1 || params.min_p > 0));
}

std::optional<SampledToken> Sampler::sample(const Shortlist& list, const RowSampling& row) {
  const SampleParams& params = *row.params;
  if (!may_decide(row, list.candidates.size(), list.vocab_size)) return std::nullopt;
  const float largest = list.candidates.front().logit;
  SampledToken sampled;
  if (row.given >= 0) {
    sampled.token = row.given;
  } else if (params.temperature == 0) {
    sampled.token = list.candidates.front().token;
  } else {
    const std::optional<double> total = gather(list, params);
    if (!total) return std::nullopt;
    cut(largest, params, *total);
    exclude_at_random(row);
    sampled.token = candidates_[draw(row)].token;
  }
  if (!row.logprob) return sampled;
  const auto chosen = std::find_if(list.candidates.begin(), list.candidates.end(),
                                   [&](const Candidate& c) { return c.token == sampled.token; });
  if (chosen == list.candidates.end()) return std::nullopt;
  const double norm = static_cast<double>(largest) + std::log(list.sum_at_one);
  const auto logprob = [&](float logit) { return static_cast<float>(static_cast<double>(logit) - norm); };
  sampled.logprob = logprob(chosen->logit);
  for (const Candidate& c : list.candidates.first(most_wanted(row, list.vocab_size))) {
    sampled.top.push_back({c.token, logprob(c.logit)});
  }
  return sampled;
}

Result<int32_t> Sampler::sample(std::span<const float> logits, std::span<const int32_t> history,
                                const SampleParams& params) {
  TRY(check_params(params, static_cast<uint32_t>(logits.size())));
  RowSampling row;
  row.params = &params;
  row.history = history;
  row.draw = history.size();
  return choose(logits, row);
}

Result<int32_t> Sampler::choose(std::span<const float> logits, const RowSampling& row) {
  const SampleParams& params = *row.params;
  TRY_ASSIGN(int32_t best, most_likely(logits));
  if (row.given >= 0) return row.given;
  if (edits(row)) {
    logits = edit(logits, row);
    auto edited = most_likely(logits);
    if (!edited) return bad_data("no token is left to choose from: logit_bias, min_tokens and penalties exclude all");
    best = *edited;
  }
  if (params.temperature == 0) return best;
  const float largest = logits[static_cast<size_t>(best)];
  const float mu = mu_of(row);
  if (params.mirostat != 0) {
    mirostat(logits, largest, params, mu);
  } else {
    cut(largest, params, gather(logits, largest, params));
    exclude_at_random(row);
  }
  const size_t index = draw(row);
  if (params.mirostat != 0 && row.state != nullptr) {
    // 1 measures surprise by the model's distribution, as the paper does; 2 by that which is drawn from, as its users
    // know it.
    const double total = params.mirostat == 1 ? total_ : std::accumulate(weights_.begin(), weights_.end(), 0.0);
    const double surprise = std::log2(total / weights_[index]);
    const double error = surprise - static_cast<double>(params.mirostat_tau);
    // Below 0 would mean "not begun"; no token has a negative surprise.
    row.state->mirostat_mu =
        static_cast<float>(std::max(0.0, static_cast<double>(mu) - static_cast<double>(params.mirostat_eta) * error));
  }
  return candidates_[index].token;
}

std::span<const float> Sampler::edit(std::span<const float> logits, const RowSampling& row) {
  edited_.assign(logits.begin(), logits.end());
  for (const TokenBias& b : row.params->logit_bias) edited_[static_cast<size_t>(b.token)] += b.bias;
  penalties_.apply(row.history, *row.params, edited_);
  for (const int32_t token : row.banned) edited_[static_cast<size_t>(token)] = kMinusInfinity;
  return edited_;
}

void Sampler::mirostat(std::span<const float> logits, float largest, const SampleParams& params, float mu) {
  total_ = exp_sum(logits, largest, params.temperature);
  if (params.mirostat == 1) {
    top_k_.find(logits, 100, candidates_);
    weigh(largest, params.temperature);
    const size_t k = mirostat_k(zipf_exponent(weights_), static_cast<double>(mu), logits.size());
    top_k_.find(logits, k, candidates_);
  } else {
    // Surprise at most mu: a share of at least 2^-mu of the total. The most likely token stays in any case.
    candidates_.clear();
    const double least = std::log(total_) - static_cast<double>(mu) * std::log(2.0);
    for (size_t i = 0; i < logits.size(); ++i) {
      const double x =
          (static_cast<double>(logits[i]) - static_cast<double>(largest)) / static_cast<double>(params.temperature);
      if (x >= least || logits[i] == largest) candidates_.push_back({logits[i], static_cast<int32_t>(i)});
    }
  }
  weigh(largest, params.temperature);
}

void Sampler::weigh(float largest, float temperature) {
  weights_.clear();
  for (const Candidate& c : candidates_) {
    weights_.push_back(
        std::exp((static_cast<double>(c.logit) - static_cast<double>(largest)) / static_cast<double>(temperature)));
  }
}

double Sampler::gather(std::span<const float> logits, float largest, const SampleParams& params) {
  const size_t vocab = logits.size(), k = kept_by_top_k(params, vocab);
  if (k < vocab) {
    top_k_.find(logits, k, candidates_);
    weigh(largest, params.temperature);
    return kNoTotal;
  }
  if (nucleus_alone(params, vocab)) {
    // A token below this share cannot be in the nucleus: all such tokens together weigh less than what top_p leaves
    // out. So a sort of the others does, which are few but for flat rows.
    const double total = exp_sum(logits, largest, params.temperature);
    const double share = (1 - static_cast<double>(params.top_p)) * total / static_cast<double>(vocab);
    const double least = static_cast<double>(largest) + static_cast<double>(params.temperature) * std::log(share);
    candidates_.clear();
    for (size_t i = 0; i < vocab; ++i) {
      if (static_cast<double>(logits[i]) >= least || logits[i] == largest) {
        candidates_.push_back({logits[i], static_cast<int32_t>(i)});
      }
    }
    by_likelihood_.sort(candidates_);
    weigh(largest, params.temperature);
    return total;
  }
  terms_.resize(vocab);
  exp_sum(logits, largest, params.temperature, terms_.data());
  weights_.assign(terms_.begin(), terms_.end());
  candidates_.resize(vocab);
  for (size_t i = 0; i < vocab; ++i) candidates_[i] = {logits[i], static_cast<int32_t>(i)};
  return kNoTotal;
}

// Takes the listed for the row where what is cut away later holds all that is not listed.
std::optional<double> Sampler::gather(const Shortlist& list, const SampleParams& params) {
  // More than the terms, the sum and the list's sum are rounded by.
  constexpr double kRounding = 1e-5;
  const size_t k = kept_by_top_k(params, list.vocab_size);
  const bool whole = list.candidates.size() == list.vocab_size;
  if (!whole && k > list.candidates.size() && params.typical_p < 1) return std::nullopt;
  const float largest = list.candidates.front().logit;
  candidates_.assign(list.candidates.begin(), list.candidates.end());
  if (k < list.vocab_size) {
    if (k > candidates_.size()) return std::nullopt;
    candidates_.resize(k);
    weigh(largest, params.temperature);
    return kNoTotal;
  }
  const auto min_p_cuts = [&](double least_likely) {
    return params.min_p > 0 && least_likely * (1 + kRounding) < static_cast<double>(params.min_p);
  };
  if (nucleus_alone(params, list.vocab_size)) {
    weigh(largest, params.temperature);
    const double listed = std::accumulate(weights_.begin(), weights_.end(), 0.0);
    const bool holds = listed * (1 - kRounding) >= static_cast<double>(params.top_p) * list.sum;
    if (!whole && !holds && !min_p_cuts(weights_.back())) return std::nullopt;
    return list.sum;
  }
  // Without either the draw is by ascending id, with the weights of exp_sum.
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  listed_.clear();
  for (const Candidate& c : candidates_) listed_.push_back(c.logit);
  terms_.resize(listed_.size());
  exp_sum(listed_, largest, params.temperature, terms_.data());
  if (!whole && !min_p_cuts(static_cast<double>(*std::min_element(terms_.begin(), terms_.end())))) return std::nullopt;
  weights_.assign(terms_.begin(), terms_.end());
  return kNoTotal;
}

void Sampler::cut(float largest, const SampleParams& params, double total) {
  if (params.typical_p < 1) {
    keep_typical(largest, params);
    weigh(largest, params.temperature);
  }
  if (params.top_p < 1) {
    if (total < 0) total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
    keep_top_p(params.top_p, total);
  }
  if (params.min_p > 0) {
    const double least = static_cast<double>(params.min_p) * *std::max_element(weights_.begin(), weights_.end());
    for (double& w : weights_) {
      if (w < least) w = 0;
    }
  }
}

// Keeps the fewest tokens whose surprise is nearest to its expectation and that together hold typical_p; most likely
// first.
void Sampler::keep_typical(float largest, const SampleParams& params) {
  const auto x = [&](const Candidate& c) {
    return (static_cast<double>(c.logit) - static_cast<double>(largest)) / static_cast<double>(params.temperature);
  };
  // The surprise of a token is log(total) - x; the logarithm cancels in its distance to the expectation.
  double total = 0, expected = 0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] == 0) continue;
    total += weights_[i];
    expected += weights_[i] * x(candidates_[i]);
  }
  expected /= total;
  struct Ranked {
    double distance, weight;
    Candidate candidate;
  };
  std::vector<Ranked> ranked;
  ranked.reserve(weights_.size());
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] > 0) ranked.push_back({std::abs(x(candidates_[i]) - expected), weights_[i], candidates_[i]});
  }
  const auto nearer = [](const Ranked& a, const Ranked& b) {
    return a.distance != b.distance ? a.distance < b.distance : more_likely(a.candidate, b.candidate);
  };
  // Where the sum reaches typical_p is found by halving, so that few tokens need an order of their own.
  const double wanted = static_cast<double>(params.typical_p) * total;
  auto begin = ranked.begin(), end = ranked.end();
  double sum = 0;
  while (end - begin > 64) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, nearer);
    const double half = std::accumulate(begin, middle, sum, [](double s, const Ranked& r) { return s + r.weight; });
    if (half >= wanted) {
      end = middle;
    } else {
      begin = middle;
      sum = half;
    }
  }
  std::sort(begin, end, nearer);
  while (begin != end && (begin == ranked.begin() || sum < wanted)) sum += (begin++)->weight;
  candidates_.clear();
  for (auto it = ranked.begin(); it != begin; ++it) candidates_.push_back(it->candidate);
  std::sort(candidates_.begin(), candidates_.end(), more_likely);
}

// Of candidates in order, most likely first.
void Sampler::keep_top_p(float top_p, double total) {
  const double wanted = static_cast<double>(top_p) * total;
  double sum = 0;
  size_t keep = 0;
  while (keep < weights_.size() && (keep == 0 || sum < wanted)) sum += weights_[keep++];
  candidates_.resize(keep);
  weights_.resize(keep);
}

void Sampler::exclude_at_random(const RowSampling& row) {
  const SampleParams& params = *row.params;
  if (params.xtc_probability > 0 && random_number(row, kXtc) < static_cast<double>(params.xtc_probability)) {
    exclude_top(params.xtc_threshold);
  }
}

// XTC: of the tokens that reach the threshold only the least likely stays.
void Sampler::exclude_top(float threshold) {
  const double least = static_cast<double>(threshold) * std::accumulate(weights_.begin(), weights_.end(), 0.0);
  size_t stays = weights_.size();
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] == 0 || weights_[i] < least) continue;
    if (stays == weights_.size() || more_likely(candidates_[stays], candidates_[i])) stays = i;
  }
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (i != stays && weights_[i] >= least) weights_[i] = 0;
  }
}

// Index of a candidate, each with its weight's share of the probability.
size_t Sampler::draw(const RowSampling& row) const {
  const double target = random_number(row, kDraw) * std::accumulate(weights_.begin(), weights_.end(), 0.0);
  double sum = 0;
  size_t index = 0;
  for (size_t i = 0; i < weights_.size() && sum <= target; ++i) {
    if (weights_[i] == 0) continue;
    index = i;
    sum += weights_[i];
  }
  return index;
}

}  // namespace ll
