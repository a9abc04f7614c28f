// Chooses a token from logits, on the host. The specification for devices that sample in a place of their own.
#pragma once

#include <cstdint>
#include <optional>
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
  // The same from a shortlist of the row: the same bits, but for rounding of the list's sums where they are used
  // (logprobs, top_p without top_k). Nothing where the list does not decide what would be chosen.
  std::optional<SampledToken> sample(const Shortlist& list, const RowSampling& row);
  // Whether a list of the `listed` most likely may decide such a row: false where the parameters need the whole row,
  // whatever its logits.
  static bool may_decide(const RowSampling& row, size_t listed, size_t vocab_size);
  // A token alone: `history` are the earlier tokens, whose number is also the number of the draw. kUsage: see check().
  Result<int32_t> sample(std::span<const float> logits, std::span<const int32_t> history, const SampleParams& params);

 private:
  Result<int32_t> choose(std::span<const float> logits, const RowSampling& row);
  std::span<const float> edit(std::span<const float> logits, const RowSampling& row);
  void mirostat(std::span<const float> logits, float largest, const SampleParams& params, float mu);
  // Candidates and weights before anything is cut but top_k. `total` is that of the whole row where the nucleus is
  // found alone, else negative.
  double gather(std::span<const float> logits, float largest, const SampleParams& params);
  std::optional<double> gather(const Shortlist& list, const SampleParams& params);
  void cut(float largest, const SampleParams& params, double total);
  void exclude_at_random(const RowSampling& row);
  void keep_typical(float largest, const SampleParams& params);
  void keep_top_p(float top_p, double total);
  void exclude_top(float threshold);
  void weigh(float largest, float temperature);
  size_t draw(const RowSampling& row) const;

  TopK top_k_;
  LikelihoodSort by_likelihood_;
  Penalties penalties_;
  std::vector<float> edited_, listed_, terms_;
  std::vector<Candidate> candidates_;  // what the draw is from
  std::vector<double> weights_;        // of the candidates, in proportion to their probabilities
  double total_ = 0;                   // of weights_ before mirostat truncates: that of the whole vocabulary
};

}  // namespace ll
