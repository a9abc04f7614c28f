// Changes to logits that depend on the earlier tokens. Definitions: sampling.h, include/llrt.h.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "runtime/sampling/sampling.h"

namespace ll {

// Keeps its working memory from call to call. Tokens of the history lie in the vocabulary.
class Penalties {
 public:
  // Whether any of the params would change a logit.
  static bool wanted(const SampleParams& params);
  void apply(std::span<const int32_t> history, const SampleParams& params, std::span<float> logits);

 private:
  void penalize_seen(std::span<const int32_t> history, const SampleParams& params, std::span<float> logits);
  void penalize_repetitions(std::span<const int32_t> history, const SampleParams& params, std::span<float> logits);

  std::vector<int32_t> seen_;
  std::vector<uint32_t> lengths_;
  std::vector<std::pair<int32_t, uint32_t>> repeated_;
};

}  // namespace ll
