// How the SIMD levels divide attention into units of work. Everything has internal linkage.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/kernel.h"

namespace ll {
namespace {

struct AttentionUnits {
  int64_t rows;         // query rows of a unit, at most
  int64_t group_rows;   // as many kv heads share a unit as have place in so many rows,
  int64_t group_heads;  // at most so many
};

// Calls work.add_token and work.run for each unit of this thread: up to block_of(heads of it) tokens of one sequence,
// query heads of one kv head or of a few. Units go to the threads in turn: later blocks of a prompt see more, and in
// turn is nearly even.
template <class BlockOf, class Work>
void attention_units(const KernelCall& call, const AttentionUnits& limits, BlockOf block_of, Work& work) {
  const TensorView &q = call.in[0], &table = call.in[4];
  const int32_t* positions = reinterpret_cast<const int32_t*>(call.in[2].data);
  const int32_t* sequences = reinterpret_cast<const int32_t*>(call.in[3].data);
  const int64_t tokens = q.dim(0), kv_heads = call.attrs.i64("kv_heads"), window = call.attrs.i64("window");
  const int64_t group = call.attrs.i64("heads") / kv_heads;
  if (tokens == 0) return;

  // Heads of a group stay together, to share the page, unless there would be fewer units than threads.
  int64_t parts = (group + limits.rows - 1) / limits.rows;
  if (tokens * kv_heads * parts < call.threads) {
    parts = std::clamp(call.threads / (tokens * kv_heads), parts, group);
  }
  const int64_t part = (group + parts - 1) / parts, block = block_of(part);
  // As far as there are enough kv heads for all threads.
  const int64_t most_heads = std::min((kv_heads + call.threads - 1) / call.threads, limits.group_heads);

  int64_t unit = 0;
  for (int64_t t = 0, end = 0; t < tokens; t = end) {
    while (end < tokens && end < t + block && sequences[end] == sequences[t]) ++end;
    const int32_t* pages = reinterpret_cast<const int32_t*>(table.data) + sequences[t] * table.last();
    const int64_t together = std::clamp<int64_t>(limits.group_rows / ((end - t) * part), 1, most_heads);
    for (int64_t h = 0; h < kv_heads; h += together) {
      const int64_t kv_end = std::min(h + together, kv_heads);
      for (int64_t begin = 0; begin < group; begin += part, ++unit) {
        if (unit % call.threads != call.thread) continue;
        const int64_t heads = std::min(part, group - begin);
        for (int64_t kv_head = h; kv_head < kv_end; ++kv_head) {
          for (int64_t i = t; i < end; ++i) {
            const int64_t first = window > 0 ? std::max<int64_t>(0, positions[i] - window + 1) : 0;
            work.add_token(i, kv_head * group + begin, heads, first, positions[i]);
          }
        }
        work.run(pages, h, kv_end - h);
      }
    }
  }
}

}  // namespace
}  // namespace ll
