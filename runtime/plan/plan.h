// An opened plan: plain structs that have passed every check of validate.cc. Byte layout of the file:
// docs/plan-format.md.
//
// The engine allocates one arena (Plan::arena_bytes), one KV pool (Plan::kv_pool_bytes), the step inputs and the logits
// f32[max_rows, vocab], loads the weights (runtime/plan/weights.h), and runs a program's launches in order. For each
// operand it makes a TensorView: data by Operand::space, dims with T, R, S replaced by the sizes of this step,
// row_bytes as given.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernel.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/result.h"

namespace ll {

// Where an operand's memory is. Values are written in plans: append only.
enum class Space : uint8_t {
  kWeight = 0,    // Plan::tensors[index], 64-byte aligned, read-only
  kConstant = 1,  // the same table
  kArena = 2,     // arena + offset
  kInput = 3,     // step_inputs()[index]
  kKv = 4,        // KV pool + Plan::kv_caches[index].offset
  kOutput = 5,    // index 0: the logits f32[R, vocab]; 1: their shortlists f32[R, kShortlistWords]
};
const char* space_name(Space space);                     // "weight", ...
const char* output_name(uint32_t index);                 // "logits", "shortlist"
inline constexpr uint32_t kLogits = 0, kShortlists = 1;  // indices of Space::kOutput

struct Operand {
  Space space = Space::kArena;
  uint32_t index = 0;
  uint64_t offset = 0;  // bytes, added to the start of what space and index name
  int64_t row_bytes =
      0;  // distance between rows, never 0. Rank 1: size of an element. KV cache: size of a row (kv_row_bytes)
  TensorType type;  // symbolic dims hold the program's largest sizes
};

// Distance between rows when there is nothing between them; the rules of Operand::row_bytes. Known dtypes and shapes
// only.
int64_t dense_row_bytes(const TensorType& type);

struct Launch {
  const Kernel* kernel = nullptr;  // never null
  std::string_view op;             // name of the IR value it computes, may be empty
  std::vector<Operand> inputs, outputs;
  std::vector<Attr> attrs;
  Cost cost;  // at the program's largest sizes
};

// Runs any step of at most max_tokens tokens, max_sequences sequences and max_rows logit rows.
struct Program {
  std::string_view name;
  uint32_t max_tokens = 0, max_sequences = 0, max_rows = 0;
  uint64_t arena_bytes = 0;
  uint64_t scratch_bytes = 0;   // largest that a launch asks for, for each thread
  bool has_shortlists = false;  // a launch writes output kShortlists
  std::vector<Launch> launches;
};

// A compiled kernel of a GPU target. Its entry point takes one ll::cuda::Args by value (kernels/cuda/prim/args.h).
struct GpuKernel {
  std::string_view function;        // ends with a zero byte
  std::span<const std::byte> code;  // cubin
  std::string_view ptx;             // of the same kernel; empty: none
  uint32_t threads = 0;             // of a block
  uint32_t registers = 0, shared_bytes = 0, local_bytes = 0;
  uint64_t code_offset = 0, code_bytes = 0, ptx_offset = 0, ptx_bytes = 0;  // in the section of GPU code
};

// One kernel of a launch.
struct GpuNode {
  uint32_t kernel = 0;  // GpuTarget::kernels
  std::array<uint32_t, 3> grid{1, 1, 1};
  uint32_t dynamic_shared = 0;
  uint64_t workspace = 0, workspace_zeroed = 0;  // bytes; the first workspace_zeroed are 0 before and after
  bool operator==(const GpuNode&) const = default;
};

// How an architecture runs the launches of the GPU programs.
struct GpuTarget {
  std::string_view name;  // "sm_75"
  uint32_t sm = 0, isa = 0;
  uint32_t driver = 0;  // least version, as cuDriverGetVersion counts: 12000 = 12.0
  std::vector<GpuKernel> kernels;
  std::vector<std::vector<std::vector<GpuNode>>> programs;   // [GPU program][launch]: nodes in order
  uint64_t workspace_bytes = 0, workspace_zeroed_bytes = 0;  // the largest of all nodes
};

// What a plan can run on.
enum class Backend : uint8_t { kCpu, kGpu };

// A weight or constant.
struct PlanTensor {
  std::string_view name;
  TensorType type;      // as kernels see it
  uint64_t bytes = 0;   // in memory, in the layout of `type`
  int32_t source = -1;  // -1: `data` is set. Else Plan::sources[source] holds it, in rows, as source_dtype
  uint64_t source_offset = 0, source_bytes = 0;
  DType source_dtype = DType::kF32;
  const std::byte* data = nullptr;  // in the mapped plan; null for a tensor of a source file
};

// A file that --weights reference names: a bare file name, looked up beside the plan or in a folder the user gives.
struct PlanSource {
  std::string_view name;
  uint64_t size = 0, hash_low = 0, hash_high = 0;  // XXH3-128 of all bytes
};

// One layer's KV cache: [pages, 2 * kv_heads, page_size, head_dim] in the KV pool.
struct KvCache {
  TensorType type;
  uint64_t offset = 0, bytes = 0;
};

struct ModelInfo {
  std::string_view architecture, name;
  uint32_t vocab_size = 0;
  uint32_t context_length = 0;
  int32_t bos_token = -1;  // -1: none
  std::vector<int32_t> eos_tokens;
  bool add_bos = false;
};

// One section as the table lists it, for inspect.
struct SectionInfo {
  std::string_view type;
  uint64_t offset = 0, bytes = 0, hash_low = 0, hash_high = 0;
};

// All string_views and data pointers point into memory that the plan owns.
struct Plan {
  std::string path;
  std::string_view producer, target;
  ModelInfo model;
  bool reference_kernels = false;  // run every kernel at Isa::kScalar
  uint32_t max_batch = 0;          // sequences a step may hold; each program's max_sequences is at most this
  uint32_t pages = 0, page_size = 0, pages_per_sequence = 0;
  uint64_t kv_pool_bytes = 0;
  uint64_t kv_bytes_per_token = 0;              // of all layers
  uint64_t arena_bytes = 0, scratch_bytes = 0;  // the largest of all programs
  uint32_t max_rows = 0;                        // the largest of all programs
  std::vector<KvCache> kv_caches;
  std::vector<PlanTensor> tensors;
  std::vector<PlanSource> sources;
  std::vector<Program> programs;        // ascending in max_tokens; sequences and rows never descend
  Backend backend = Backend::kCpu;      // what `programs` are for
  std::vector<Program> other_programs;  // of the other backend; empty: the plan has none
  std::vector<GpuTarget> gpu_targets;   // ascending by sm
  std::span<const std::byte> gpu_code;  // section that GpuKernel::code_offset counts in
  // For reading weights past the page tables: the open plan file and where its weights section starts. -1: none.
  int file = -1;
  uint64_t weights_offset = 0;
  std::span<const std::byte> tokenizer;  // runtime/text/tokenizer_spec.h; empty: none
  std::string_view chat_template;        // Jinja source; empty: none
  std::string_view graph;                // .llir text of the graph, for explain; empty: none
  std::vector<SectionInfo> sections;

  // The smallest program that holds such a step; null when none does.
  const Program* program_for(uint32_t tokens, uint32_t sequences, uint32_t rows) const;
  bool has(Backend backend) const;
  // Which tensors `programs` use: a plan for several backends holds others too.
  std::vector<bool> tensors_in_use() const;
};

struct OpenOptions {
  bool verify_weights = false;  // read all weights and compare their checksums (llrt verify)
};

// A plan that passed validation. open_plan alone makes one.
class ValidatedPlan {
 public:
  ValidatedPlan(ValidatedPlan&&) noexcept;
  ValidatedPlan& operator=(ValidatedPlan&&) noexcept;
  ~ValidatedPlan();
  const Plan& operator*() const;
  const Plan* operator->() const { return &**this; }

  // Makes Plan::programs those of `backend`, which the plan has. An opened plan begins with the CPU's when it has them.
  void select(Backend backend);

 private:
  struct Storage;  // the plan, its private copies of the sections, the mapped weights
  explicit ValidatedPlan(std::unique_ptr<Storage> storage);
  std::unique_ptr<Storage> storage_;
  friend class PlanOpener;
};

// Opens the file once, copies header, section table and all sections but the weights into private memory, verifies
// those copies, and maps the weights read-only. Damage is kBadData; a newer format, an unknown required feature or an
// unknown kernel is kUnsupported; both name the section, launch or operand, what was found and what was expected.
Result<ValidatedPlan> open_plan(const std::string& path, const OpenOptions& options = {});

}  // namespace ll
