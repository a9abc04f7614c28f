// From the words that the kernel `shortlist` writes of a row (kernels/shortlist.h) to what Sampler takes, and from what
// is asked of a row to what the kernel is told.
#pragma once

#include <span>

#include "kernels/shortlist.h"
#include "runtime/base/result.h"
#include "runtime/sampling/row.h"
#include "runtime/sampling/sampling.h"

namespace ll {

// What the step input inverse_temperatures says of such a row: 0 where a shortlist cannot decide it.
float shortlist_factor(const RowSampling& row, uint32_t vocab_size);

// `words` of one row, kShortlistWords, of a vocabulary of `vocab_size`. The candidates are put into `room`, of
// kShortlist, which outlives the result. Without candidates: the row's logits make no distribution, which sampling from
// them reports. kInternal for words that no row of logits gives: code of a plan cannot be proven, and tokens are used
// as indices.
Result<Shortlist> read_shortlist(std::span<const float> words, uint32_t vocab_size, std::span<Candidate> room);

}  // namespace ll
