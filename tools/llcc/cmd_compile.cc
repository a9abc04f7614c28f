#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "compiler/driver.h"
#include "tools/llcc/commands.h"

namespace ll {
namespace {

struct CompileArguments {
  CompileOptions compile;
  std::vector<std::string> weights;
  std::vector<std::string> disabled;
  std::string emit;
  std::string kv_type;
  std::string gpu_memory;
  bool progress = false, quiet = false, print_tiles = false;
};

// "14.5GiB", "800MiB", "15000000000".
Result<uint64_t> parse_bytes(const std::string& text) {
  static const std::map<std::string, double> kUnits = {{"", 1},         {"KiB", 0x1p10}, {"MiB", 0x1p20},
                                                       {"GiB", 0x1p30}, {"MB", 1e6},     {"GB", 1e9}};
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  const auto unit = kUnits.find(end);
  if (end == text.c_str() || unit == kUnits.end() || !(number > 0 && number * unit->second < 0x1p60)) {
    return usage("--gpu-memory {}: expected a size such as 14.5GiB", text);
  }
  return static_cast<uint64_t>(number * unit->second);
}

// One line on a terminal that is written over and over; away from one, a line for each stage and quarter.
class ProgressLine {
 public:
  explicit ProgressLine(bool terminal) : terminal_(terminal) {}
  ~ProgressLine() {
    if (terminal_ && shown_) fmt::print(stderr, "\r\x1b[K");
  }

  void show(std::string_view stage, uint64_t done, uint64_t total) {
    int percent = total == 0 ? 0 : static_cast<int>(done * 100 / total);
    if (!terminal_) percent = percent / 25 * 25;
    if (stage == stage_ && percent == percent_) return;
    stage_ = stage;
    percent_ = percent;
    const std::string text = percent == 0 ? fmt::format("{} ...", stage) : fmt::format("{} {} %", stage, percent);
    if (terminal_) {
      fmt::print(stderr, "\r\x1b[K{}", text);
      std::fflush(stderr);
    } else {
      fmt::print(stderr, "{}\n", text);
    }
    shown_ = true;
  }

 private:
  const bool terminal_;
  bool shown_ = false;
  std::string stage_;
  int percent_ = -1;
};

Status run(CompileArguments o) {
  static const std::map<std::string, Emit> kEmits = {
      {"", Emit::kPlan}, {"ir", Emit::kIr}, {"program", Emit::kProgram}, {"cuda", Emit::kCuda}, {"ptx", Emit::kPtx}};
  static const std::map<std::string, DType> kKvTypes = {{"f32", DType::kF32}, {"f16", DType::kF16}, {"q8", DType::kI8}};
  for (const std::string& w : o.weights) {
    if (w == "embed" || w == "reference") {
      o.compile.embed_weights = w == "embed";
    } else if (o.compile.weights_model.empty()) {
      o.compile.weights_model = w;
    } else {
      return usage("--weights names two models: '{}' and '{}'", o.compile.weights_model, w);
    }
  }
  const auto emit = kEmits.find(o.emit);
  if (emit == kEmits.end()) return usage("--emit {}: expected ir, program, cuda or ptx", o.emit);
  o.compile.emit = emit->second;
  if (o.print_tiles) {
    if (!o.emit.empty()) return usage("--emit and --print-tiles print different things: choose one");
    o.compile.emit = Emit::kTiles;
  }
  if (!o.gpu_memory.empty()) {
    TRY_ASSIGN(o.compile.gpu_memory, parse_bytes(o.gpu_memory));
  }
  if (!o.kv_type.empty()) {
    const auto kv = kKvTypes.find(o.kv_type);
    if (kv == kKvTypes.end()) return usage("--kv-type {}: expected f32, f16 or q8", o.kv_type);
    o.compile.kv_type = kv->second;
  }
  o.compile.disabled_passes.insert(o.disabled.begin(), o.disabled.end());

  const bool terminal = isatty(STDERR_FILENO) != 0;
  std::unique_ptr<ProgressLine> line;
  Progress progress;
  if (!o.quiet && (o.progress || terminal)) {
    line = std::make_unique<ProgressLine>(terminal);
    progress = [&](std::string_view stage, uint64_t done, uint64_t total) { line->show(stage, done, total); };
  }
  const auto start = std::chrono::steady_clock::now();
  const Result<std::string> text = compile(o.compile, progress);
  line.reset();
  if (!text) return text.error();
  if (std::fwrite(text->data(), 1, text->size(), stdout) != text->size()) {
    return error(Code::kIo, "cannot write to stdout");
  }
  if (progress && o.compile.emit == Emit::kPlan) {
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    fmt::print(stderr, "wrote {} in {:.1f} s\n", o.compile.output, seconds.count());
  }
  return {};
}

}  // namespace

Command add_compile(CLI::App& app) {
  auto o = std::make_shared<CompileArguments>();
  o->compile.threads = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, 64U));
  app.add_option("MODEL", o->compile.input, "GGUF file, Hugging Face folder, or graph (.llir)")->required();
  app.add_option("-o,--output", o->compile.output, "plan to write (.llcp)");
  app.add_option("--target", o->compile.target,
                 "what the plan runs on, several separated by commas: cpu (native is the same), t4 (sm_75), sm_80, "
                 "sm_86, sm_89, sm_90");
  app.add_option("--isa", o->compile.isa, "keep GPU kernels to the instructions and limits of an older architecture");
  app.add_option("--nvrtc", o->compile.nvrtc, "libnvrtc.so that compiles GPU kernels (default: LLCC_NVRTC, or found)");
  app.add_option("--kernel-cache", o->compile.kernel_cache,
                 "folder of compiled kernels, off: none (default: llcuda/cubins in the user's cache folder)");
  app.add_flag("--ptx", o->compile.ptx, "PTX beside the code, for GPUs newer than the targets");
  app.add_option("--tuning", o->compile.tuning, "file of lines `key value` that override tile choices");
  app.add_option("--gpu-memory", o->gpu_memory, "refuse a plan that needs more GPU memory, such as 14.5GiB");
  app.add_flag("--print-tiles", o->print_tiles,
               "print the kernels and tiles of every launch instead of writing a plan");
  app.add_option("--kv-type", o->kv_type, "element type of the KV cache: f32, f16 or q8 (default f16)");
  app.add_option("--ctx-size", o->compile.context_length,
                 fmt::format("longest sequence in tokens (default: the model's, at most {})", kDefaultContext));
  app.add_option("--max-batch", o->compile.max_batch, "sequences that may run at once (default 8, with GPU targets 4)");
  app.add_option(
         "--weights", o->weights,
         "embed: in the plan (default); reference: the plan names the model's files; for a .llir graph also the "
         "model it takes its weights from")
      ->expected(1)
      ->take_all();
  app.add_option("-t,--threads", o->compile.threads, "threads that compile kernels and repack weights (default: all)")
      ->check(CLI::Range(1, 256))
      ->type_name("N");
  app.add_flag("--reference-kernels", o->compile.reference_kernels,
               "scalar kernels on f32 activations and KV: slow, the definition of correct");
  app.add_option("--emit", o->emit,
                 "print instead of writing a plan: ir (the graph, which compiles to the same plan), "
                 "program (the launches of every program), cuda or ptx (the GPU kernels)");
  app.add_option("--disable-pass", o->disabled, "leave out a pass (may be given several times)")
      ->expected(1)
      ->take_all();
  app.add_flag("--print-after-all", o->compile.print_after_all, "print the graph after every pass to stderr");
  app.add_flag("--progress", o->progress, "show progress on stderr even when it is no terminal");
  app.add_flag("-q,--quiet", o->quiet, "show no progress");
  return [o] { return run(*o); };
}

}  // namespace ll
