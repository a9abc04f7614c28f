// The pass pipeline: graph in, graph out. pipeline.cc is its table of contents.
//
// The driver runs run_pipeline once, then specialize once for each bucket of step sizes. Every pass leaves a graph that
// ir::verify accepts.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "ir/rewriter.h"
#include "runtime/base/result.h"

namespace ll {

// Largest sizes of one step program. 0: not known yet.
struct StepSizes {
  int64_t tokens = 0;              // T
  int64_t rows = 0;                // R
  int64_t sequences = 0;           // S
  int64_t pages_per_sequence = 0;  // P: columns of the block table
  int64_t pages = 0;               // KV pages of each layer
};

struct PassOptions {
  bool reference_kernels = false;                  // no quantized activations, no interleaved weights
  Layout weight_layout = Layout::kX16;             // of quantized weights: kX16 for CPUs, kTile8 for GPUs
  std::optional<DType> kv_dtype;                   // element type of every KV cache; absent: as the graph says
  StepSizes sizes;                                 // for the passes after bind_sizes
  std::set<std::string, std::less<>> disabled;     // passes not to run
  std::set<std::string, std::less<>> print_after;  // passes after which the graph is dumped
  bool print_after_all = false;
  // Receives dumps and crash reproducers. Absent: stderr.
  std::function<void(std::string_view)> dump;
};

// What one pass did.
struct PassEntry {
  std::string_view name;
  double seconds = 0;
  size_t ops_before = 0, ops_after = 0;
  ir::RewriteCounts rewrites;      // by pattern
  std::vector<std::string> notes;  // choices a reader of a report wants to see
};
struct PassReport {
  std::vector<PassEntry> passes;
};

struct PassContext {
  const PassOptions& options;
  PassEntry& entry;
};

enum class PassStage : uint8_t {
  kGraph,  // once a model
  kBucket  // once a bucket
};
struct Pass {
  std::string_view name;    // as in --passes and --disable-pass
  std::string_view reason;  // why it stands where it stands
  Status (*run)(ir::Graph&, PassContext&);
  PassStage stage = PassStage::kGraph;
  bool integer_kernels = false;  // prepares the integer kernels: not run with reference_kernels
};

// All passes in pipeline order. find_pass returns null for an unknown name.
std::span<const Pass> passes();
const Pass* find_pass(std::string_view name);

// Runs passes in the order given. Around each: its switch, a timer, a dump, the verifier. A pass's own refusal of the
// graph (no kernel for a type, say) comes back with its code. An invalid graph after a pass is a bug of ours: the graph
// before the pass and the command that reproduces it are dumped, and the error is kInternal.
Status run_passes(ir::Graph& graph, std::span<const Pass* const> list, const PassOptions& options,
                  PassReport* report = nullptr);

// The part that does not depend on the bucket: what front ends build -> fused ops, activations quantized, layouts
// chosen.
Status run_pipeline(ir::Graph& graph, const PassOptions& options, PassReport* report = nullptr);

// The bucket's part, on a copy: symbols bound, kernels chosen (attribute `kernel`), ops scheduled, memory planned
// (attribute `offset`, module attribute `arena_bytes`: compiler/passes/plan_memory.cc).
Result<ir::Graph> specialize(const ir::Graph& graph, const StepSizes& sizes, const PassOptions& options,
                             PassReport* report = nullptr);

}  // namespace ll
