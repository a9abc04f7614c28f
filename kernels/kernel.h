// What a kernel is: the contract between the compiler (which chooses kernels), the plan (which names them) and the
// devices (which run them). Knows no model.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <variant>

#include "kernels/type.h"
#include "runtime/base/result.h"

namespace ll {

// Value of a kernel attribute (heads = 32, eps = 1e-5, act = "silu").
using AttrValue = std::variant<int64_t, double, std::string_view>;
struct Attr {
  std::string_view key;
  AttrValue value;
};

// Attributes of one launch. Missing keys and wrong types are errors in `check`; after that the getters cannot fail.
class Attrs {
 public:
  Attrs() = default;
  explicit Attrs(std::span<const Attr> attrs) : attrs_(attrs) {}
  const AttrValue* find(std::string_view key) const;
  int64_t i64(std::string_view key, int64_t missing = 0) const;
  double f64(std::string_view key, double missing = 0) const;  // an i64 value converts
  std::string_view text(std::string_view key, std::string_view missing = "") const;
  std::span<const Attr> all() const { return attrs_; }

 private:
  std::span<const Attr> attrs_;
};

// Instruction set levels of the CPU backend, in order of preference. kScalar is the reference: the definition of
// correct. Each level but the first has a level below whose instructions it includes (isa_below): kAvx512 is no
// superset of kAvxVnni.
enum class Isa : uint8_t { kScalar = 0, kAvx2 = 1, kAvxVnni = 2, kAvx512 = 3, kAmx = 4 };
inline constexpr int kIsaCount = 5;
const char* isa_name(Isa isa);  // "scalar", "avx2", "avx-vnni", "avx512-vnni", "amx"
Isa isa_below(Isa isa);         // kScalar for kScalar
// Whether this machine's CPUID and OS allow the level. The first question about kAmx asks the OS for the permission to
// use tiles, which holds for the process.
bool has_isa(Isa isa);
Isa best_isa();  // the last level that has_isa

// One operand at run time: a type whose dims hold the actual sizes of this step, and its memory.
// `row_bytes` is the distance between neighbours in dimension rank-2 (a slice of a wider tensor keeps the wider
// distance); all other dimensions are dense. Memory is 64-byte aligned except for slices, which are 4-byte aligned.
struct TensorView {
  std::byte* data = nullptr;
  int64_t row_bytes = 0;
  DType dtype = DType::kF32;
  Layout layout = Layout::kRows;
  int rank = 0;
  std::array<int64_t, kMaxRank> dims{};

  int64_t dim(int i) const { return dims[static_cast<size_t>(i)]; }
  int64_t last() const { return dims[static_cast<size_t>(rank - 1)]; }
  // Row i of a rank-2 tensor (or element i of a rank-1 tensor when row_bytes is the element size).
  template <class T>
  T* row(int64_t i) const {
    return reinterpret_cast<T*>(data + i * row_bytes);
  }
};

// One part of one launch. The kernel is called once for each `thread` in [0, threads) with the same operands, as a rule
// by that thread of the team, by another when it is late; it splits the work so that no result depends on `threads`.
// The next launch begins when all have returned.
struct KernelCall {
  std::span<const TensorView> in;
  std::span<const TensorView> out;
  Attrs attrs;
  int thread = 0;
  int threads = 1;
  std::span<std::byte> scratch;  // this call's own, 64-byte aligned, as large as Kernel::scratch asked for
  // Rows must not depend on how many others the call has. Else kernels may choose faster arithmetic for many.
  bool deterministic = false;
  // Levels kAvx512 and kAmx, for what has q8a rows: those of launches of many tokens are in slabs
  // (kernels/quant/q8a_slabs.h), for who writes and who reads them, weights are rounded anew, and kAmx's attention may
  // be less exact too. Not with `deterministic`.
  bool slabs = false;
  int pieces = 1;  // parts that a thread of the team runs as a rule, neighbours
};
using KernelFn = void (*)(const KernelCall&);

// This thread's part [begin, end) of `count` units, in multiples of `grain` units.
struct Range {
  int64_t begin, end;
};
Range split(int64_t count, int64_t grain, int thread, int threads);

// One launch as the compiler and the plan validator see it: types with symbolic dims at their largest values.
struct LaunchSpec {
  std::span<const TensorType> in;
  std::span<const TensorType> out;
  Attrs attrs;
};

// What one launch must move and compute, at the largest sizes of its program.
struct Cost {
  uint64_t bytes = 0;       // weights, activations and KV read and written once
  uint64_t operations = 0;  // multiplications and additions
};

// An input that holds indices, or whatever else the engine says of each row. Only the whole step input of this name may
// be wired to it (the plan validator refuses anything else), because `check` sees types and cannot prove contents.
struct IndexOperand {
  int in;
  std::string_view step_input;
};

// One row of the catalog.
struct Kernel {
  std::string_view name;               // stable: plans name kernels by it
  std::string_view op;                 // the IR op it computes; empty: none, code generation adds its launches
  std::array<KernelFn, kIsaCount> fn;  // by Isa; [0] is the reference and never null; null: that of the level below
  // Proves that a launch with these types and attributes is safe to run with any operand contents (except indices,
  // which the engine guarantees): counts, dtypes, layouts, shapes, attribute keys, types and ranges. Called on hostile
  // plans. The message says what was found and what was expected.
  Status (*check)(const LaunchSpec&);
  uint64_t (*scratch)(const LaunchSpec&);  // bytes each thread needs; null for none
  Cost (*cost)(const LaunchSpec&);
  int in_place = -1;  // input whose memory output 0 may share, or -1
  std::span<const IndexOperand> indices = {};
};

// All kernels, in a fixed order (kernels/catalog.cc). find_kernel returns null for an unknown name.
std::span<const Kernel> catalog();
const Kernel* find_kernel(std::string_view name);
// The function of `kernel` for a level: its own or that of the nearest level below (isa_below).
KernelFn kernel_fn(const Kernel& kernel, Isa isa);

// Inputs that the engine fills before each step, by the name the graph's `input` op gives. Indices are valid by
// construction: the engine proves tokens < vocabulary, slots and pages inside the pool, sequences < S.
//   tokens      i32 [T]     token ids
//   positions   i32 [T]     position of each token in its sequence, from 0
//   sequences   i32 [T]     row of block_table each token belongs to
//   slots       i32 [T]     where each token's key and value go: page * page_size + place in page
//   block_table i32 [S, P]  pages of each sequence in order; entries past its length are 0
//   rows        i32 [R]     tokens of this step whose logits are wanted, ascending
//   inverse_temperatures
//               f32 [R]     of rows whose shortlist is wanted (kernels/shortlist.h), 0 for others. Devices fill it from
//                           what is asked of the rows
struct StepInput {
  std::string_view name;
  int rank;
  Symbol symbol;  // of dimension 0
  DType dtype = DType::kI32;
};
std::span<const StepInput> step_inputs();

}  // namespace ll
