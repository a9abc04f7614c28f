#include "runtime/device/shortlist_words.h"

#include <algorithm>
#include <limits>

#include "runtime/sampling/sampler.h"

namespace ll {

float shortlist_factor(const RowSampling& row, uint32_t vocab_size) {
  if (!Sampler::may_decide(row, static_cast<size_t>(kShortlist), vocab_size)) return 0;
  const float temperature = row.params->temperature;
  // A temperature so small that its inverse is no float leaves nothing but the largest logit, as the inverse's limit
  // does.
  return temperature > 0 ? std::min(1 / temperature, std::numeric_limits<float>::max()) : 1.0F;
}

Result<Shortlist> read_shortlist(std::span<const float> words, uint32_t vocab_size, std::span<Candidate> room) {
  const auto word = [&](int64_t i) { return words[static_cast<size_t>(i)]; };
  if (word(kShortlistBad) != 0) return Shortlist{};
  const int64_t count = std::min<int64_t>(kShortlist, vocab_size);
  if (word(kShortlistCount) != static_cast<float>(count)) {
    return error(Code::kInternal, "a shortlist of {} tokens, expected {}", word(kShortlistCount), count);
  }
  for (int64_t i = 0; i < count; ++i) {
    const float token = word(kShortlistTokens + i);
    if (!(token >= 0 && token < static_cast<float>(vocab_size))) {
      return error(Code::kInternal, "a shortlist with token {}, the vocabulary has {}", token, vocab_size);
    }
    room[static_cast<size_t>(i)] = {word(kShortlistLogits + i), static_cast<int32_t>(token)};
  }
  constexpr float kMost = std::numeric_limits<float>::max();
  const float largest = room[0].logit, sum = word(kShortlistSum), sum_at_one = word(kShortlistSumAtOne);
  if (largest < -kMost) return Shortlist{};
  // The largest logit's term is 1.
  if (!(largest <= kMost && sum >= 0.5F && sum <= kMost && sum_at_one >= 0.5F && sum_at_one <= kMost)) {
    return error(Code::kInternal, "a shortlist with a largest logit of {} and sums of {} and {}", largest, sum,
                 sum_at_one);
  }
  return Shortlist{room.first(static_cast<size_t>(count)), vocab_size, static_cast<double>(sum),
                   static_cast<double>(sum_at_one)};
}

}  // namespace ll
