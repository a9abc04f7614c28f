#include "compiler/passes/pipeline.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "compiler/passes/passes.h"
#include "ir/text.h"
#include "ir/verifier.h"

namespace ll {

// The table of contents.
std::span<const Pass> passes() {
  using enum PassStage;
  static constexpr Pass kPasses[] = {
      {"infer_types", "first: every later pass reads types, and caches take the type that was asked for", infer_types},
      {"fold", "before fusion: patterns then see each value once and no dead reader", fold},
      {"merge_qkv", "before the residual and gate fusions can take the products apart; makes slices for fuse_rope_kv",
       merge_qkv},
      {"fuse_gate_up", "before quantize_activations, which gives the fused product one quantized x", fuse_gate_up},
      {"fuse_residual", "after fuse_gate_up: a product that is gated is not an addend", fuse_residual},
      {"fuse_rope_kv", "after merge_qkv, whose slices it needs", fuse_rope_kv},
      {"quantize_activations", "after the last fusion of products: one quantize for each x", quantize_activations,
       kGraph, true},
      {"fuse_norm_quantize", "after quantize_activations, which makes its roots", fuse_norm_quantize, kGraph, true},
      {"choose_layouts", "last for the graph: who reads a weight, and how, is settled", choose_layouts},
      {"bind_sizes", "first for a bucket: kernels check, and memory needs, largest sizes", bind_sizes, kBucket},
      {"fuse_activations", "after bind_sizes and choose_layouts: it is for one row and for weights as GPUs read them",
       fuse_activations, kBucket, true},
      {"select_kernels", "before plan_memory, which asks the kernel what it can do in place", select_kernels, kBucket},
      {"schedule", "before plan_memory: lifetimes follow from the order", schedule, kBucket},
      {"plan_memory", "last: nothing may move afterwards", plan_memory, kBucket},
  };
  return kPasses;
}

const Pass* find_pass(std::string_view name) {
  for (const Pass& p : passes()) {
    if (p.name == name) return &p;
  }
  return nullptr;
}

namespace {

void dump(const PassOptions& options, std::string_view text) {
  if (options.dump) {
    options.dump(text);
  } else {
    std::fwrite(text.data(), 1, text.size(), stderr);
  }
}

// A pass, the list's order restored (a rewrite may have put an op before its operands), the rules of a graph proven.
Status run_and_verify(const Pass& pass, ir::Graph& graph, PassContext& context) {
  TRY(pass.run(graph, context));
  Status valid = graph.restore_order();
  if (valid) valid = ir::verify(graph);
  if (valid) return {};
  return error(Code::kInternal, "left an invalid graph: {}", valid.error().message);
}

// Passes are deterministic, so the graph before a pass is had again from the graph at the start; no copy is kept for
// each.
std::string reproducer(ir::Graph start, std::span<const Pass* const> before, const Pass& broken,
                       const PassOptions& options) {
  PassEntry entry;
  PassContext context{options, entry};
  for (const Pass* p : before) {
    if (!run_and_verify(*p, start, context)) break;
  }
  const StepSizes& s = options.sizes;
  std::string command = fmt::format("llcc opt FILE.llir --passes {}", broken.name);
  if (options.reference_kernels) command += " --reference-kernels";
  for (const auto& [flag, value] : {std::pair{"tokens", s.tokens},
                                    {"rows", s.rows},
                                    {"sequences", s.sequences},
                                    {"pages-per-sequence", s.pages_per_sequence},
                                    {"pages", s.pages}}) {
    if (value != 0) command += fmt::format(" --{} {}", flag, value);
  }
  return fmt::format("// reproduce with: {}\n{}", command, ir::print(start));
}

}  // namespace

Status run_passes(ir::Graph& graph, std::span<const Pass* const> list, const PassOptions& options, PassReport* report) {
  const ir::Graph start = graph;
  std::vector<const Pass*> done;
  for (const Pass* pass : list) {
    if (options.disabled.contains(pass->name)) continue;
    PassEntry entry;
    entry.name = pass->name;
    entry.ops_before = graph.size();
    PassContext context{options, entry};
    const auto begin = std::chrono::steady_clock::now();
    const Status status = run_and_verify(*pass, graph, context);
    entry.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    entry.ops_after = graph.size();
    if (!status) {
      if (status.error().code != Code::kInternal) return status;
      dump(options, reproducer(start, done, *pass, options));
      return error(Code::kInternal, "pass {} {}", pass->name, status.error().message);
    }
    done.push_back(pass);
    if (options.print_after_all || options.print_after.contains(pass->name)) {
      dump(options, fmt::format("// after {}\n{}", pass->name, ir::print(graph)));
    }
    if (report != nullptr) report->passes.push_back(std::move(entry));
  }
  return {};
}

namespace {

std::vector<const Pass*> stage_passes(PassStage stage, bool reference_kernels) {
  std::vector<const Pass*> list;
  for (const Pass& p : passes()) {
    if (p.stage == stage && !(p.integer_kernels && reference_kernels)) list.push_back(&p);
  }
  return list;
}

}  // namespace

Status run_pipeline(ir::Graph& graph, const PassOptions& options, PassReport* report) {
  return run_passes(graph, stage_passes(PassStage::kGraph, options.reference_kernels), options, report);
}

Result<ir::Graph> specialize(const ir::Graph& graph, const StepSizes& sizes, const PassOptions& options,
                             PassReport* report) {
  ir::Graph copy = graph;
  PassOptions with_sizes = options;
  with_sizes.sizes = sizes;
  TRY(run_passes(copy, stage_passes(PassStage::kBucket, options.reference_kernels), with_sizes, report));
  return copy;
}

}  // namespace ll
