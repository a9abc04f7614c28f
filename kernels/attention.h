// Attention over the paged KV cache, shared by every level.
//
// For token t at position p of sequence s, head h, and kv head g = h / (heads / kv_heads):
//   first  = window > 0 ? max(0, p - window + 1) : 0
//   w[j]   = softmax over j in [first, p] of scale * dot(q[t,h], key[s,j,g])
//   y[t,h] = sum over j of w[j] * value[s,j,g]
// Position j lies in page block_table[s, j / kKvPageSize], place j % kKvPageSize (kernels/kv_layout.h). Places outside
// [first, p] may hold anything, NaN too, and never count. What comes out for (t, h) depends on nothing but that row of
// q and those keys and values: not on T, the other tokens of the step, or the number of threads.
#pragma once

#include <cstdint>

#include "kernels/kv_layout.h"

namespace ll {

// Query rows, each one (token, head), that a SIMD level works on while one page of keys and values is in its cache.
inline constexpr int64_t kAttentionQueries = 32;

// Floats that a row of head_dim takes in scratch: whole vectors of every level.
constexpr int64_t attention_row(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }

// A SIMD level takes one online softmax step every so many positions, from multiples of it.
inline constexpr int64_t kAttentionStep = 4 * kKvPageSize;
inline constexpr int64_t kAttentionRowsAtOnce = 4;  // query rows whose products share a loaded key or value

// One thread's scratch: queries and sums [kAttentionQueries, row] each, one page of keys by column or of values as f32
// [kKvPageSize, row], one page of f16 keys by column, weights [kAttentionQueries, kAttentionStep], one vector of 8 a
// query, and for i8, for each group of kKvGroup elements: weights of kAttentionRowsAtOnce queries as 16 bits, the
// scales of a step's values in units, their unit, and one of each of those queries.
constexpr int64_t attention_scratch_bytes(int64_t head_dim) {
  const int64_t groups = (head_dim + kKvGroup - 1) / kKvGroup;
  return 4 * ((2 * kAttentionQueries + kKvPageSize + kKvPageSize / 2) * attention_row(head_dim) +
              kAttentionQueries * (kAttentionStep + 8) +
              groups * ((kAttentionRowsAtOnce / 2 + 1) * kAttentionStep + 1 + kAttentionRowsAtOnce));
}

// Level amx with f16: what one unit of work is, in groups of 16 query rows, and its longest head. Longer ones are
// AVX-512's.
inline constexpr int64_t kAttentionTiles = 8;
inline constexpr int64_t kAttentionTileHead = 256;

// One thread's scratch there, in tiles of 1 KB (kernels/cpu/attention_tiles.h): a step of keys, a step of values,
// queries, sums, scores and weights of a step for two groups of query rows, a page whose rows are whole, two tiles on
// their way.
constexpr int64_t attention_tiles_scratch_bytes(int64_t head_dim) {
  if (head_dim > kAttentionTileHead) return 0;
  const int64_t steps = (head_dim + 31) / 32, pages = kAttentionStep / kKvPageSize;
  return 1024 * ((4 * pages + 4 * pages + 2 * kAttentionTiles + 2 * kAttentionTiles + 2) * steps + 16 + 4 * pages + 2);
}

}  // namespace ll
