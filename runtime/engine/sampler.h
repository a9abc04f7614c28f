// Chooses a token from logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/result.h"

namespace ll {

// Meaning, ranges and order of operations: include/llrt.h, llrt_sample_params.
struct SampleParams {
  float temperature = 0;
  int32_t top_k = 40;
  float top_p = 0.95F;
  float min_p = 0.05F;
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  int32_t penalty_window = 64;
  uint64_t seed = 0;
};

// kUsage names the parameter that is out of range.
Status check(const SampleParams& params);

// Keeps its working memory from call to call. Not thread safe.
class Sampler {
 public:
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
