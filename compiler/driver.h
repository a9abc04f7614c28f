// llcc compile as a function: a model, or a graph and the model it takes its weights from, becomes a plan.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "ir/graph.h"
#include "kernels/type.h"
#include "runtime/base/result.h"

namespace ll {

enum class Emit : uint8_t {
  kPlan,     // writes CompileOptions::output
  kIr,       // the graph as the front end made it; compiling that text gives the identical plan
  kProgram,  // the launch list of every program
  kCuda,     // the source text of every kernel instance of the first GPU target
  kPtx,      // its PTX
  kTiles     // which tile each launch of each GPU target got, and why
};

struct CompileOptions {
  std::string input;          // GGUF file, Hugging Face folder, or a graph (.llir)
  std::string weights_model;  // the model a .llir graph takes its weights, tokenizer and template from
  std::string output;         // Emit::kPlan alone
  Emit emit = Emit::kPlan;
  std::string target = "native";  // compiler/codegen/targets.h: names separated by commas
  std::string isa;                // "": that of each target
  std::string nvrtc;              // path of a libnvrtc.so; "": looked for
  std::string kernel_cache;       // folder of compiled kernels; "": the user's cache folder, "off": none
  std::string tuning;             // file of lines `key value` that override tile choices; "": none
  bool ptx = false;               // PTX beside the cubins, for architectures newer than the targets
  uint64_t gpu_memory = 0;        // bytes that weights, KV pool and working memory must fit; 0: not checked
  std::optional<DType>
      kv_type;  // f32, f16 or i8 (q8); absent: as a .llir graph says, f32 with reference_kernels, else f16
  uint32_t context_length = 0;        // 0: the model's, at most kDefaultContext
  std::optional<uint32_t> max_batch;  // sequences a step may hold; absent: 8, with GPU targets 4
  bool embed_weights = true;          // false: the plan names the model's files
  bool reference_kernels = false;     // scalar kernels on f32 activations: slow, the definition of correct
  int threads = 2;                    // that repack weights; the plan does not depend on it
  std::set<std::string, std::less<>> disabled_passes;
  bool print_after_all = false;  // graphs after each pass, to stderr
};

inline constexpr uint32_t kDefaultContext = 4096;

// What a compile is busy with: "reading the model", "weights" ... `total` is 0 for a stage that counts nothing.
using Progress = std::function<void(std::string_view stage, uint64_t done, uint64_t total)>;

// Returns the text that was asked for, empty for Emit::kPlan. The same model and options give the same bytes, wherever
// the model lies and whatever machine compiles. An output appears whole or not at all.
//   kUsage        options that contradict each other, an output that is one of the inputs
//   kUnsupported  another target, a model that this version cannot run, no NVRTC for a GPU target
//   kOutOfMemory  more than gpu_memory is needed: the message says what for and which knob to turn
Result<std::string> compile(const CompileOptions& options, const Progress& progress = {});

// A .llir file as a verified graph.
Result<ir::Graph> read_graph(const std::string& path);

}  // namespace ll
