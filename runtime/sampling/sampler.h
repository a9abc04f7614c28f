// Chooses a token from logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/sampling/sampling.h"

namespace ll {

// Keeps its working memory from call to call. Not thread safe.
class Sampler {
 public:
  // What RowSampling asks of one row.
  SampledToken sample(std::span<const float> logits, const RowSampling& row);
  // `history`: the tokens so far, whose number is also the counter of the draw. The result depends on the arguments
  // alone. kBadData: a logit is not a number or +infinity, or all are -infinity.
  Result<int32_t> sample(std::span<const float> logits, std::span<const int32_t> history, const SampleParams& params);

 private:
  struct Candidate {
    float logit;
    int32_t token;
  };
  void penalize(std::span<const int32_t> history, const SampleParams& params);
  int32_t draw(std::span<const float> logits, float largest, const SampleParams& params, uint64_t counter);

  std::vector<float> logits_;
  std::vector<int32_t> seen_;
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;
};

}  // namespace ll
