// q8a rows as level amx's products of prompts read them (kernels/cpu/x16_requantized.h): codes in the shape of tiles,
// and one scale for 512 values. Where a call says so (KernelCall::slabs), a launch of 64 rows and more has each 32 of
// them in a slab, in the place of the rows: row 32 s is where slab s begins. What is left over, fewer than 32, stays
// rows.
//
//   int8   codes[k/64][32][64]      k a multiple of 256
//   float  scales[k/512, rounded up][32]
//
// Codes and scales are made of a token's 512 (or last 256) values as those of a block are (kernels/quant/q8a.h).
#pragma once

#include <cstdint>

#include "kernels/quant/q8a.h"

namespace ll {

inline constexpr int64_t kSlabTokens = 32, kSlabScale = 512;

// Whether a launch of so many tokens has slabs, where k is a multiple of 256; of its rows, those in them.
constexpr bool has_slabs(int64_t tokens) { return tokens >= 64; }
constexpr int64_t slab_tokens(int64_t tokens, int64_t k) {
  return has_slabs(tokens) && k % 256 == 0 ? tokens / kSlabTokens * kSlabTokens : 0;
}
constexpr int64_t slab_bytes(int64_t k) { return kSlabTokens * q8a_row_bytes(k); }  // from one to the next
// Where a slab has 64 codes from i on, and the scale of value i, of its token t.
constexpr int64_t slab_codes(int64_t t, int64_t i) { return (i / 64 * kSlabTokens + t) * 64; }
constexpr int64_t slab_scale(int64_t t, int64_t i, int64_t k) {
  return kSlabTokens * k + 4 * (i / kSlabScale * kSlabTokens + t);
}

}  // namespace ll
