// What a valid graph is. Everything that passes, the executor and code generation rely on is checked here.
#pragma once

#include "ir/graph.h"
#include "runtime/base/result.h"

namespace ll::ir {

// Proves of the whole graph, in this order, or says what was found and expected, with the op's line:
//   - every operand is defined before its use in the list; value names are well formed and unique
//   - attributes are complete, known and in range; operand roles and shapes are right; inferred types equal the stored
//   ones
//   - T, R and S have one bound each
//   - weights declared twice under one name have one type
//   - each kv_cache has an index of its own and is written exactly once; only that write reads it, and only attention
//   reads
//     what the write returns
//   - the returned value is f32 [R, V], computed by an op (not a slice of something), with V the module's vocab_size
//   when the
//     module has one; embed tables have at least that many rows
//   - module attributes have identifier keys and finite numbers
Status verify(const Graph& graph);

}  // namespace ll::ir
