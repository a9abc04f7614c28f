// One piece of an attention step, as kernels read it: plain C++ without includes. The list is made on the host
// (kernels/cuda/attention_work.h); each KV head of an operation runs all of it.
#pragma once

namespace ll::cuda {

// Positions whose keys and values make one partial result. Every row's result is the fold, in order, of the partial
// results of the units [256 u, 256 u + 256) that it sees, whoever computes them: that is why it does not depend on
// batch, chunk or split.
inline constexpr int kAttentionUnit = 256;
// Rows, each one (token, head of a group), of one tensor-core tile, and of the block of tiles that a prefill shares
// keys and values among.
inline constexpr int kAttentionRows = 16;
inline constexpr int kAttentionPrefillRows = 64;
// Partial results, each of one token and one unit for all heads, that a step may keep at once; and the tiles they
// belong to.
inline constexpr int kAttentionSlots = 512;

struct AttentionItem {
  int first_token, tokens;   // of the step; neighbours of one sequence
  int sequence;              // row of the block table
  int unit_begin, unit_end;  // units to compute
  int first_unit, units;     // of the whole tile, of which this item is a part
  int parts;                 // items the tile is cut into; 1: this item alone writes the result
  int slot;                  // parts > 1: partial result of first_token and first_unit; then tokens, then units
  int counter;               // parts > 1: number of the tile's counter of parts that are done
  int reserved[2];
};

}  // namespace ll::cuda
