// Chooses a token from logits, on the host. The specification for devices that sample in a place of their own.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/sampling/penalties.h"
#include "runtime/sampling/row.h"
#include "runtime/sampling/sampling.h"

namespace ll {

// Keeps its working memory from call to call. Not thread safe.
class Sampler {
 public:
  // What RowSampling asks of one row of f32 [vocab_size].
  SampledToken sample(std::span<const float> logits, const RowSampling& row);
  // A token alone: `history` are the earlier tokens, whose number is also the number of the draw. kUsage: see check().
  Result<int32_t> sample(std::span<const float> logits, std::span<const int32_t> history, const SampleParams& params);

 private:
  Result<int32_t> choose(std::span<const float> logits, const RowSampling& row);
  std::span<const float> edit(std::span<const float> logits, const RowSampling& row);
  void mirostat(std::span<const float> logits, float largest, const SampleParams& params, float mu);
  void truncate(std::span<const float> logits, float largest, const SampleParams& params);
  void keep_typical(float largest, const SampleParams& params);
  void keep_top_p(float top_p, double total);
  void exclude_top(const RowSampling& row);
  void weigh(float largest, float temperature);
  size_t draw(const RowSampling& row) const;

  TopK top_k_;
  Penalties penalties_;
  std::vector<float> edited_, terms_;
  std::vector<Candidate> candidates_;  // what the draw is from
  std::vector<double> weights_;        // of the candidates, in proportion to their probabilities
  double total_ = 0;                   // of weights_ before mirostat truncates: that of the whole vocabulary
};

}  // namespace ll
