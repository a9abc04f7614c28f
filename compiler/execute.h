// The graph executor: runs any valid graph op by op on the reference kernels, before or after any pass. It is what
// plans are compared with, and what shows that a pass keeps the numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "kernels/type.h"
#include "runtime/base/result.h"

namespace ll {

// A tensor of the model in the file's own order, rows one after another. Must outlive the call it answers.
struct WeightBytes {
  DType dtype = DType::kF32;  // the graph's, or f16 or bf16 where the graph says f32
  std::span<const std::byte> bytes;
};
using WeightSource = std::function<Result<WeightBytes>(std::string_view name, const TensorType& type)>;

inline constexpr int64_t kMaxExecutedTokens = 65536;

// Logits f32 [tokens, V] of one sequence, all of whose tokens are one step (R = T) on empty caches. Kernels are those
// that the ops name, or those that select_kernels would choose, at their scalar level. Interleaved weights are repacked
// from what `weights` gives. kBadData when the graph is invalid, a token has no row in an embedding table, or a tensor
// has other bytes than its type.
Result<std::vector<float>> execute(const ir::Graph& graph, const WeightSource& weights,
                                   std::span<const int32_t> tokens);

}  // namespace ll
