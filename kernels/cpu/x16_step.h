// Tokens of a step (up to Dots::kMostTokens) as products of kX16 panels read them: what all of them give at a time lies
// side by side, so that a product has one address for all tokens, and constants from there. Include only from
// kernels/cpu/LEVEL/ and from tests; everything has internal linkage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/avx2/linear_dots.h"
#include "kernels/quant/q8a.h"
#include "kernels/ref/linear.h"

namespace ll {
namespace {

// Blocks of kSubs sub-blocks of 32, one after another. A block has of each of its sub-blocks
//   int8 codes[tokens][32]
//   int32 words[kWords][tokens]   what the level's products want to know of the sub-block's codes
// and then
//   int32 pairs[kPairs][tokens]   int16[2]: sums of the codes of two neighbouring groups of minima
//   float scale[tokens]           of the block's codes
template <int kSubsOf, int kWordsOf, int kPairsOf>
struct StepBlock {
  static constexpr int kSubs = kSubsOf, kWords = kWordsOf, kPairs = kPairsOf;
  static constexpr int64_t sub_bytes(int64_t tokens) { return tokens * (32 + 4 * kWords); }
  static constexpr int64_t bytes(int64_t tokens) { return kSubs * sub_bytes(tokens) + 4 * tokens * (kPairs + 1); }
  static_assert(bytes(1) <= kSubs * kStepSubBytes);

  // Of a step of kTokens tokens that begins at `step`.
  template <int kTokens>
  class Of {
   public:
    explicit __attribute__((always_inline)) Of(const std::byte* step, int64_t b) : block_(step + b * bytes(kTokens)) {}
    __attribute__((always_inline)) const std::byte* code(int64_t sub, int t, int i) const {
      return block_ + sub * sub_bytes(kTokens) + 32 * t + i;
    }
    __attribute__((always_inline)) const std::byte* word(int64_t sub, int i, int t) const {
      return code(sub, kTokens, 4 * (kTokens * i + t));
    }
    __attribute__((always_inline)) const std::byte* pair(int i, int t) const {
      return block_ + kSubs * sub_bytes(kTokens) + 4 * (kTokens * i + t);
    }
    __attribute__((always_inline)) const std::byte* scale(int t) const { return pair(kPairs, t); }

   private:
    const std::byte* block_;
  };
};

// ArrangeFn: `tokens` q8a rows as one step. Words::make(codes, of_16, to) makes the words of a sub-block, one after
// another, of its codes or the sums of its two times 16. (A type: given a lambda, GCC 12 leaves the work out.)
template <class Block, class Words>
void arrange_step(const DotTokens& x, int64_t tokens, int64_t k, std::byte* step) {
  constexpr int kSubs = Block::kSubs, kWords = Block::kWords, kPairs = Block::kPairs;
  for (int64_t t = 0; t < tokens; ++t) {
    const std::byte* codes = x.rows + t * x.row_bytes;
    const Q8aRow row = q8a_row(codes, k);
    for (int64_t b = 0; b < k / (32 * kSubs); ++b) {
      std::byte* const block = step + b * Block::bytes(tokens);
      for (int64_t s = 0; s < kSubs; ++s) {
        const int64_t q = b * kSubs + s;
        std::byte* const sub = block + s * Block::sub_bytes(tokens);
        std::memcpy(sub + 32 * t, codes + 32 * q, 32);
        if constexpr (kWords > 0) {
          int32_t of_sub[kWords];
          Words::make(codes + 32 * q, row.sums + 2 * q, of_sub);
          for (int i = 0; i < kWords; ++i) std::memcpy(sub + 32 * tokens + 4 * (tokens * i + t), of_sub + i, 4);
        }
      }
      std::byte* const tail = block + kSubs * Block::sub_bytes(tokens) + 4 * t;
      for (int i = 0; i < kPairs; ++i) {
        const int16_t* const of_16 = row.sums + 16 * b + 16 * i / kPairs;
        int16_t pair[2] = {of_16[0], of_16[1]};  // groups of 16
        if (kPairs == 4) {
          pair[0] = static_cast<int16_t>(of_16[0] + of_16[1]), pair[1] = static_cast<int16_t>(of_16[2] + of_16[3]);
        }
        std::memcpy(tail + 4 * tokens * i, pair, 4);
      }
      std::memcpy(tail + 4 * tokens * kPairs, row.scales + b * kSubs, 4);
    }
  }
}

}  // namespace
}  // namespace ll
