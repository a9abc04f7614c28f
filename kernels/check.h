// Words for Kernel::check. Each proves one fact about a launch or says what was found and what was expected; a check is
// a list of TRY lines. Together they must leave a kernel no way to leave its buffers, whatever plan named it.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "kernels/kernel.h"

namespace ll::check {

// Limits of one launch, far above any model and low enough that the byte size of a dense rank-2 tensor fits in 63 bits.
inline constexpr int64_t kMaxDim = int64_t{1} << 28;
inline constexpr int64_t kMaxHeadDim = 1024;
inline constexpr int64_t kMaxHeads = int64_t{1} << 16;
inline constexpr int64_t kMaxKvPages = int64_t{1} << 26;  // slots are i32
inline constexpr double kMaxEps = 1.0;                    // of norms; no model's is larger

// "f32[T<=8,256]", "q4_K:x16[4096,4096]".
std::string describe(const TensorType& type);
std::string describe(const Dim& dim);

// Exactly this many operands.
Status operands(const LaunchSpec& spec, size_t inputs, size_t outputs);

// Element type, kRows, rank, and dimensions that are numbers in [1, kMaxDim] or, in dimension 0 alone, a symbol with a
// largest value in [0, kMaxDim].
Status tensor(const TensorType& type, std::string_view name, DType dtype, int rank);

// Dimension `dim` of `type` is `expected`: the same symbol with the same largest value, or the same number.
Status dim(const TensorType& type, std::string_view name, int dim, const Dim& expected, std::string_view expected_name);

// Same element type and shape.
Status same(const TensorType& type, std::string_view name, const TensorType& expected, std::string_view expected_name);

// Attributes: present, of the right type (an integer serves as a number), in [low, high]; numbers are finite.
Result<int64_t> integer(const Attrs& attrs, std::string_view key, int64_t low, int64_t high);
Result<double> number(const Attrs& attrs, std::string_view key, double low, double high);
Result<std::string_view> word(const Attrs& attrs, std::string_view key,
                              std::initializer_list<std::string_view> allowed);

// The attributes heads, kv_heads, head_dim; kv_heads divides heads.
struct Heads {
  int64_t heads, kv_heads, head_dim;
};
Result<Heads> heads(const Attrs& attrs);

// A KV cache [pages, 2 * kv_heads, kKvPageSize, head_dim] of f32, f16 or i8.
Status kv_cache(const TensorType& type, std::string_view name, int64_t kv_heads, int64_t head_dim);

}  // namespace ll::check

namespace ll::cost {

// Product of sizes that are not negative, or the largest uint64_t.
uint64_t product(std::initializer_list<int64_t> factors);
// Bytes of a dense f32, i32 or q8a tensor at its largest size.
uint64_t bytes(const TensorType& type);
// Each input and output once.
uint64_t all_bytes(const LaunchSpec& spec);

}  // namespace ll::cost
