// The work list of attention: which pieces the resident blocks of an attention kernel compute in this step. Made on the
// host before each step; Args::work, its length StepSizes::work_items. No result depends on how the work is cut.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/prim/attention_item.h"

namespace ll::cuda {

// What the list is made for: the attention launches of one program, which agree in it (or the list fits the first and
// serves the others less evenly).
struct AttentionShape {
  int blocks = 1;    // of the kernel's grid
  int heads = 1;     // of queries
  int kv_heads = 1;  // divides heads
};

// Most items of a step of that many tokens.
constexpr uint64_t most_attention_items(uint64_t max_tokens) { return max_tokens + kAttentionSlots; }

// Replaces `items`. positions[t] and sequences[t] are the step inputs; tokens of one sequence are neighbours with
// ascending positions.
void attention_work(const AttentionShape& shape, std::span<const int32_t> positions, std::span<const int32_t> sequences,
                    std::vector<AttentionItem>& items);

}  // namespace ll::cuda
