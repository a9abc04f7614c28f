#include "compiler/driver.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include "compiler/codegen/codegen.h"
#include "compiler/codegen/gpu.h"
#include "compiler/codegen/gpu_fit.h"
#include "compiler/codegen/targets.h"
#include "compiler/codegen/tuning.h"
#include "compiler/frontend/arch/arch.h"
#include "compiler/frontend/model_spec.h"
#include "compiler/passes/pipeline.h"
#include "compiler/plan/explain.h"
#include "compiler/plan/writer.h"
#include "ir/text.h"
#include "ir/verifier.h"
#include "runtime/base/escape.h"
#include "runtime/base/mapped_file.h"
#include "runtime/plan/validate.h"
#include "runtime/text/tokenizer_spec.h"

namespace ll {
namespace {

bool is_graph(const std::string& path) { return path.ends_with(".llir"); }

bool same_file(const std::string& a, const std::string& b) {
  struct stat x {
  }, y{};
  return stat(a.c_str(), &x) == 0 && stat(b.c_str(), &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

Status check_options(const CompileOptions& o) {
  TRY_ASSIGN(const TargetList targets, parse_targets(o.target, o.isa));
  const bool gpu_text = o.emit == Emit::kCuda || o.emit == Emit::kPtx || o.emit == Emit::kTiles;
  if (targets.gpus.empty() && (gpu_text || o.ptx || o.gpu_memory != 0 || !o.tuning.empty())) {
    return usage(
        "--emit cuda, --emit ptx, --print-tiles, --ptx, --gpu-memory and --tuning are for GPU targets, not for {}",
        quote(o.target));
  }
  if (!targets.gpus.empty() && o.reference_kernels)
    return usage("--reference-kernels are the CPU's: not for a GPU target");
  if (o.emit == Emit::kPlan && o.output.empty()) return usage("no output: name the plan to write with -o PLAN.llcp");
  if (o.emit != Emit::kPlan && !o.output.empty()) return usage("--emit writes to stdout, it takes no -o");
  if (is_graph(o.input) && o.weights_model.empty()) {
    return usage("a graph has no weights of its own: name the model it belongs to with --weights MODEL");
  }
  if (!is_graph(o.input) && !o.weights_model.empty()) {
    return usage("--weights {}: expected embed or reference (only a .llir graph takes a model)",
                 quote(o.weights_model));
  }
  if (o.max_batch && (*o.max_batch < 1 || *o.max_batch > kMaxPlanTokens)) {
    return usage("--max-batch {}, expected 1 to {}", *o.max_batch, kMaxPlanTokens);
  }
  for (const std::string& name : o.disabled_passes) {
    if (find_pass(name) == nullptr) return usage("--disable-pass {}: there is no such pass", quote(name));
  }
  return {};
}

Status check_output(const CompileOptions& o, const ModelSpec& spec) {
  if (o.output.empty()) return {};
  bool input = same_file(o.output, o.input) || (!o.weights_model.empty() && same_file(o.output, o.weights_model));
  for (const SourceFile& f : spec.sources) input = input || same_file(o.output, f.path);
  if (input) return usage("the output {} is a file that the compile reads", quote(o.output));
  return {};
}

Result<uint32_t> context_of(const CompileOptions& o, const ModelSpec& spec) {
  const uint32_t model = spec.hyper.context_length;
  if (o.context_length == 0) return std::min(model, kDefaultContext);
  if (o.context_length > model) {
    return usage("--ctx-size {}, but the model was made for at most {} tokens", o.context_length, model);
  }
  return o.context_length;
}

PassOptions pass_options(const CompileOptions& o, Backend backend) {
  PassOptions p;
  if (backend == Backend::kGpu) p.weight_layout = Layout::kTile8;
  p.reference_kernels = o.reference_kernels;
  p.disabled = o.disabled_passes;
  p.print_after_all = o.print_after_all;
  if (o.kv_type) {
    p.kv_dtype = o.kv_type;
  } else if (o.reference_kernels) {
    p.kv_dtype = DType::kF32;
  }
  return p;
}

// Appends the programs of one backend.
Status add_programs(ir::Graph graph, const ModelSpec& spec, const CompileOptions& o, Backend backend,
                    const Progress& progress, std::optional<PlanDraft>& draft) {
  const PassOptions options = pass_options(o, backend);
  progress("optimising", 0, 0);
  TRY(run_pipeline(graph, options));
  if (!draft) {
    TRY_ASSIGN(const uint32_t context, context_of(o, spec));
    // A CPU takes pages of its KV pool when they are first written, a GPU takes the pool at once.
    const uint32_t batch = o.max_batch.value_or(backend == Backend::kGpu ? 4 : 8);
    TRY_ASSIGN(draft, begin_plan(graph, spec, {context, batch}));
    draft->graph = ir::print(graph);
  }
  const std::vector<StepSizes> list = buckets(draft->plan);
  for (size_t i = 0; i < list.size(); ++i) {
    progress("programs", i, list.size());
    TRY_ASSIGN(const ir::Graph step, specialize(graph, list[i], options));
    TRY(add_program(step, list[i], spec, backend, *draft));
  }
  progress("programs", list.size(), list.size());
  return {};
}

GpuOptions gpu_options(const CompileOptions& o, const TargetList& targets, const Progress& progress) {
  GpuOptions g;
  g.targets = targets.gpus;
  g.nvrtc = o.nvrtc;
  g.cache_folder = o.kernel_cache;
  g.ptx = o.ptx || o.emit == Emit::kPtx;
  g.threads = o.threads;
  g.progress = [&progress](size_t done, size_t total) { progress("kernels", done, total); };
  return g;
}

// A plan's own copy of everything the graph computes: all programs, none of the weights and no code.
Result<PlanDraft> make_draft(const ir::Graph& graph, const ModelSpec& spec, const CompileOptions& o,
                             const TargetList& targets, const Progress& progress) {
  std::optional<PlanDraft> draft;
  if (!targets.gpus.empty()) {
    TRY(add_programs(graph, spec, o, Backend::kGpu, progress, draft));
    draft->plan.backend = Backend::kGpu;
  }
  if (targets.cpu) {
    if (draft) draft->plan.other_programs = std::exchange(draft->plan.programs, {});
    TRY(add_programs(graph, spec, o, Backend::kCpu, progress, draft));
    draft->plan.backend = Backend::kCpu;
  }
  draft->plan.target = draft->intern(targets.name());
  draft->plan.reference_kernels = o.reference_kernels;
  draft->chat_template = spec.chat_template;
  if (spec.tokenizer != nullptr) draft->tokenizer = serialize_tokenizer(*spec.tokenizer);
  return *std::move(draft);
}

}  // namespace

Result<ir::Graph> read_graph(const std::string& path) {
  TRY_ASSIGN(const MappedFile file, MappedFile::open(path));
  const auto bytes = file.bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  TRY_ASSIGN(ir::Graph graph, ir::parse(text, path));
  if (Status s = ir::verify(graph); !s) return std::move(s).error().in(path);
  return graph;
}

Result<std::string> compile(const CompileOptions& o, const Progress& given) {
  const Progress progress = given ? given : [](std::string_view, uint64_t, uint64_t) {};
  TRY(check_options(o));
  progress("reading the model", 0, 0);
  TRY_ASSIGN(const ModelSpec spec, load_model(is_graph(o.input) ? o.weights_model : o.input));
  TRY(check_output(o, spec));
  auto graph = is_graph(o.input)
                   ? read_graph(o.input)
                   : build_graph(spec, o.kv_type.value_or(o.reference_kernels ? DType::kF32 : DType::kF16));
  if (!graph) return std::move(graph).error();
  if (o.emit == Emit::kIr) return ir::print(*graph);
  TRY_ASSIGN(const TargetList targets, parse_targets(o.target, o.isa));
  TRY_ASSIGN(PlanDraft draft, make_draft(*graph, spec, o, targets, progress));
  if (o.emit == Emit::kProgram) return program_text(draft.plan);
  if (!targets.gpus.empty()) {
    GpuOptions gpu = gpu_options(o, targets, progress);
    TRY_ASSIGN(gpu.tuning, read_tuning(o.tuning));
    if (o.emit == Emit::kTiles) return tiles_text(draft.plan, gpu);
    if (o.emit == Emit::kCuda || o.emit == Emit::kPtx) return kernels_text(draft.plan, gpu, o.emit == Emit::kPtx);
    if (o.gpu_memory != 0) {
      TRY(lay_out_tensors(draft, o.embed_weights));
      TRY(check_gpu_memory(draft, gpu.targets, gpu.tuning, o.gpu_memory));
    }
    TRY(add_gpu_code(draft, gpu));
  }
  WriteOptions write;
  write.embed = o.embed_weights;
  write.threads = o.threads;
  write.progress = [&](uint64_t done, uint64_t total) { progress("weights", done, total); };
  TRY(write_plan(draft, o.output, write));
  return std::string();
}

}  // namespace ll
