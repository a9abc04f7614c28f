// What the kernel `shortlist` keeps of a row of logits, so that most tokens can be chosen without the row: one f32 row
// of kShortlistWords. Words that are not spoken of are 0, all of them where nobody asked (an inverse temperature that
// is not a finite number above 0).
//   0                  logits that are NaN or +infinity. Not 0: the other words are 0
//   1                  n, how many are listed: kShortlist, or the whole vocabulary when that is smaller
//   2                  sum over the row of exp((logit - largest) * inverse temperature)
//   3                  the same with an inverse temperature of 1. Both are 0 where every logit is -infinity
//   4 .. 4 + n         logits of the n most likely tokens, most likely first, of equals the lower id
//   4 + kShortlist ..  their ids, as numbers
#pragma once

#include <cstdint>

namespace ll {

inline constexpr int64_t kShortlist = 64;
inline constexpr int64_t kShortlistBad = 0, kShortlistCount = 1, kShortlistSum = 2, kShortlistSumAtOne = 3,
                         kShortlistLogits = 4, kShortlistTokens = kShortlistLogits + kShortlist,
                         kShortlistWords = kShortlistTokens + kShortlist;
// The largest vocabulary that rows may have: ids are exact as f32, and one block of a GPU merges a row's slices.
inline constexpr int64_t kMostShortlistVocab = int64_t{1} << 20;

}  // namespace ll
