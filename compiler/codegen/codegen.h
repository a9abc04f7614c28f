// From the optimised graph to the programs of a plan.
#pragma once

#include <cstdint>
#include <vector>

#include "compiler/frontend/model_spec.h"
#include "compiler/passes/pipeline.h"
#include "compiler/plan/draft.h"
#include "ir/graph.h"
#include "runtime/base/result.h"

namespace ll {

// The programs of a plan, ascending: 1, 2, 4, ... 512 tokens, up to the first that holds every token a step can have
// (max_batch whole contexts). Sequences are bounded by max_batch, logit rows by 64. Pages are those of the plan.
std::vector<StepSizes> buckets(const Plan& plan);

// What the plan is made for.
struct PlanShape {
  uint32_t context_length = 0;
  uint32_t max_batch = 0;
};

// KV pages that hold a sequence of that many tokens.
uint32_t pages_for(uint32_t context_length);

// From max_batch, pages_per_sequence and the types of the caches: pages, sizes and places in the KV pool. kUnsupported
// when the pool would be too large to number.
Status size_kv_pool(Plan& plan);

// Starts a draft: facts about the model, limits, and a KV pool for the caches of `graph`, which has passed the
// pipeline. kBadData when the graph does not return logits of the model's vocabulary, kUnsupported when the pool would
// be too large.
Result<PlanDraft> begin_plan(const ir::Graph& graph, const ModelSpec& spec, const PlanShape& shape);

// Appends one program. `graph` is specialised for `sizes`: symbols bounded, kernels chosen, arena offsets given
// (attributes kernel, offset, row_bytes). Weights are looked up in `spec` by name and entered in the plan's table in
// the order the graph names them. A GPU's programs end with the shortlists of the logits (kernels/shortlist.h), unless
// the vocabulary is too large for them.
Status add_program(const ir::Graph& graph, const StepSizes& sizes, const ModelSpec& spec, Backend backend,
                   PlanDraft& draft);

}  // namespace ll
