// The ops table: which ops exist, what they take and what they give. One row an op (ir/ops.cc), one file an op or small
// family (ir/ops/). A new op is a row, a file, a reference kernel of the same name and its catalog row.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "ir/type.h"

namespace ll::ir {

// What an operand may be. Every role is checked before an op's own inference runs.
enum class Role : uint8_t {
  kActivation,  // f32 [T or R, n], computed in this step
  kFactor,      // left side of a product: f32 [T or R, k], or q8a or q8a256 when the weights are quantized
  kMatrix,      // `weight` [n, k] of any weight dtype and layout
  kVector,      // `weight` or `constant` f32 [n]
  kStepInput,   // the `input` of the operand's name
  kCache,       // KV cache
};
enum class Count : uint8_t {
  kOne,
  kOptional,
  kParts,          // as many as the attribute `parts` says
  kOptionalParts,  // that many, or none
};
struct OperandDef {
  std::string_view name;
  Role role;
  Count count = Count::kOne;
};

enum class AttrKind : uint8_t { kInteger, kNumber, kText, kNumbers, kIntegers };
// An attribute that the op must have. Integers lie in [min, max]; a text is one of `choices`, or anything when there
// are none.
struct AttrDef {
  std::string_view name;
  AttrKind kind;
  int64_t min = 0, max = kMaxDim;
  std::span<const std::string_view> choices = {};
};

// An op as inference sees it. Operand counts, roles and attributes are already proven.
struct OpSpec {
  const Graph& graph;
  const OpDef& def;
  std::span<const Value> operands;
  const Attributes& attrs;
  std::span<const TensorType> declared;  // types given for the results, or empty

  const TensorType& in(size_t i) const { return graph.type(operands[i]); }
  size_t count() const { return operands.size(); }
};

struct OpDef {
  std::string_view name;
  std::string_view summary;  // one line: operands -> result
  std::span<const OperandDef> operands;
  std::span<const AttrDef> attrs;
  int results;
  // Types of the results, or what is wrong with the operands' shapes: found and expected.
  Status (*infer)(const OpSpec&, std::vector<TensorType>& results);
  bool declares = false;  // the result type is given, not inferred (input, weight, kv_cache)
};

// All ops in a fixed order. find_op returns null for an unknown name.
std::span<const OpDef* const> ops();
const OpDef* find_op(std::string_view name);

// Attributes that passes add to any op:
//   kernel   text     catalog name of the kernel that computes it                      (select_kernels)
//   offset   integer  byte offset of result 0 in the arena; slices lie in what they are slices of, and the
//                     returned value and KV caches lie outside the arena: none has it  (plan_memory)
std::span<const AttrDef> reserved_attrs();

// Checks counts, roles and attributes of one op, then infers its result types. Every message starts with the op's name.
// An integer given for a kNumber attribute is converted.
Result<std::vector<TensorType>> infer(const Graph& graph, const OpDef& def, std::span<const Value> operands,
                                      Attributes& attrs, std::span<const TensorType> declared);

// Row of the table that operand i of n belongs to; null when there is none. `parts` is the attribute of that name.
const OperandDef* operand_def(const OpDef& def, size_t i, size_t n, int64_t parts);

// ---- For the files in ir/ops/.

// Values of `act` and of `style`.
inline constexpr std::string_view kActivations[] = {"silu", "gelu", "gelu_tanh", "relu"};
inline constexpr std::string_view kRopeStyles[] = {"half", "interleaved"};

// "linear: operand w (%w.0) is f32[8,4], expected [n,256] as x is f32[T,256]", with the expectation as given.
Error expected_text(const OpSpec& s, size_t operand, std::string_view text);
template <class... A>
Error expected(const OpSpec& s, size_t operand, fmt::format_string<A...> format, A&&... args) {
  return expected_text(s, operand, fmt::format(format, std::forward<A>(args)...));
}

// quantize and norm_quantize: q8a like operand 0, by the attribute `block` (kernels/quant/q8a.h).
Status infer_q8a(const OpSpec& s, std::vector<TensorType>& results);
// The product x w^T: shapes and, for q8a, that w is quantized. Operand indices of x and w.
Status check_product(const OpSpec& s, size_t x, size_t w);
// A bias or norm weight [n].
Status check_vector(const OpSpec& s, size_t operand, int64_t n);
// Same type as operand `like`.
Status check_like(const OpSpec& s, size_t operand, size_t like);

}  // namespace ll::ir
