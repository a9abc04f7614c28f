// Passes over one row of logits, written so that compilers vectorize them: vocabularies hold 128 k tokens and more.
// Results do not depend on how they were vectorized.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/result.h"

namespace ll {

struct Candidate {
  float logit = 0;
  int32_t token = 0;
};

// More likely first; of equals the lower id.
inline bool more_likely(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

// What is kept of a row of logits so that most tokens can be chosen without it.
struct Shortlist {
  std::span<const Candidate>
      candidates;         // the most likely of the row, most likely first; at least one, the largest finite
  size_t vocab_size = 0;  // logits of the row, none of them NaN or +infinity
  double sum = 0;         // exp_sum of the whole row, at the temperature of its sampling (unused at 0)
  double sum_at_one = 0;  // the same at temperature 1
};

// Sorts candidates that come in ascending order of tokens, most likely first. Flat distributions leave a whole
// vocabulary to sort: the digits of the logits' bits are sorted, not the logits. No logit is NaN.
class LikelihoodSort {
 public:
  void sort(std::vector<Candidate>& candidates);

 private:
  std::vector<Candidate> other_;
};

// Index of the largest logit, the first of equals. kBadData for logits that make no distribution: one is NaN or
// +infinity, or all are -infinity.
Result<int32_t> most_likely(std::span<const float> logits);

// Sum over i of exp((logits[i] - largest) / temperature), each to about 1e-7 of its value; terms below e^-87 are 0.
// `largest` is the largest of the logits. Writes the terms to `weights` as well unless it is null.
double exp_sum(std::span<const float> logits, float largest, float temperature, float* weights = nullptr);

// The k most likely (all when there are fewer), most likely first.
class TopK {
 public:
  void find(std::span<const float> logits, size_t k, std::vector<Candidate>& found);

 private:
  std::vector<float> block_largest_, ranked_;
};

}  // namespace ll
