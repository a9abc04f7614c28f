// Element types, block formats and tensor types: the words that the graph, the plan and the kernels share.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ll {

// Element or block type of a tensor. One row of the table in kernels/quant/formats.cc each: name, block geometry,
// scalar code. The values are written in plans: append only, never renumber.
enum class DType : uint8_t {
  kF32 = 0,
  kF16 = 1,
  kBF16 = 2,
  kI32 = 3,
  kI8 = 4,
  kQ4_0 = 10,
  kQ4_1 = 11,
  kQ5_0 = 12,
  kQ5_1 = 13,
  kQ8_0 = 14,
  kQ2_K = 20,
  kQ3_K = 21,
  kQ4_K = 22,
  kQ5_K = 23,
  kQ6_K = 24,
  kIQ4_NL = 30,
  kIQ4_XS = 31,
  // Activations quantized for the integer kernels, a scale for 32 or for 256: kernels/quant/q8a.h.
  kQ8A = 60,
  kQ8A256 = 61,
};

// How the elements of a weight lie in memory. kRows is the file's own order: rows one after another, each a run of
// blocks. kX16 interleaves 16 rows for SIMD and tile kernels, kTile8 8 rows for GPUs: kernels/quant/layouts.h. Values
// are written in plans: append only. 1 was an order of 16 rows that is no longer made.
enum class Layout : uint8_t { kRows = 0, kTile8 = 2, kX16 = 3 };

// Size that is known only at run time. T tokens of this step, R rows whose logits are wanted, S sequences of this step.
enum class Symbol : uint8_t { kNone = 0, kT = 1, kR = 2, kS = 3 };

// One dimension: a number, or a symbol with the largest value it can take in a given program (0 while no bucket is
// chosen).
struct Dim {
  int64_t value = 0;
  Symbol symbol = Symbol::kNone;

  Dim() = default;
  Dim(int64_t v) : value(v) {}  // NOLINT(google-explicit-constructor)
  Dim(Symbol s, int64_t max) : value(max), symbol(s) {}
  // Two dimensions are the same when their symbols are, or, without symbols, their numbers.
  bool operator==(const Dim& o) const { return symbol == o.symbol && (symbol != Symbol::kNone || value == o.value); }
};

inline constexpr int kMaxRank = 4;

// Type of a tensor: element type, layout and shape, slowest dimension first.
// A KV cache of one layer is the rank-4 tensor [pages, 2 * kv_heads, page_size, head_dim]: kernels/kv_layout.h.
struct TensorType {
  DType dtype = DType::kF32;
  Layout layout = Layout::kRows;
  int rank = 0;
  std::array<Dim, kMaxRank> dims{};

  Dim dim(int i) const { return dims[static_cast<size_t>(i)]; }
  Dim last() const { return dims[static_cast<size_t>(rank - 1)]; }
  bool operator==(const TensorType&) const = default;
};

}  // namespace ll
