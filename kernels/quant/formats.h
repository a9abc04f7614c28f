// The one table of element types and block formats: name, geometry, scalar code. A new format is a new row.
//
// A block format packs block_elements consecutive values of a row into block_bytes bytes. Layouts of the blocks are
// those of ggml (github.com/ggml-org/ggml, src/ggml-common.h); the sources beside this header restate each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "kernels/type.h"

namespace ll {

// What a dtype may be used for.
enum class FormatKind : uint8_t {
  kFloat,      // f32, f16, bf16: weights and activations
  kQuantized,  // blocks with scales: weights; has a kX16 layout (kernels/quant/layouts.h)
  kInteger,    // i32, i8: indices and KV bytes, never a weight
  kActivation  // q8a: made at run time (kernels/quant/q8a.h)
};

// One row of the table.
struct Format {
  DType dtype;
  std::string_view name;  // as llama.cpp spells it: "q4_K", "f16", "iq4_nl"
  int ggml_id;            // type id in GGUF files, or -1
  int block_elements;     // 1 for plain elements
  int block_bytes;
  FormatKind kind;
  // Blocks of one row -> k values, exact: the f32 operations are those of ggml in its order. k is a multiple of
  // block_elements. Any bytes are valid blocks. Null for integers and q8a.
  void (*dequantize)(const std::byte* blocks, int64_t k, float* values);
  // k finite values -> blocks: deterministic, a good rounding but no search with importance weights. Null as above.
  void (*quantize)(const float* values, int64_t k, std::byte* blocks);
};

std::span<const Format> formats();
const Format* find_format(DType dtype);  // null when no row has it (a hostile number)
const Format* find_format(std::string_view name);
const Format* find_format_of_ggml(uint32_t ggml_id);
std::string_view dtype_name(DType dtype);  // "q4_K"; "unknown" for a number without a row

// Name and geometry of every ggml type id, those above included, for looking into files. Ids that ggml has retired are
// absent.
struct GgmlType {
  uint32_t id;
  std::string_view name;
  int block_elements, block_bytes;
};
std::span<const GgmlType> ggml_types();
const GgmlType* find_ggml_type(uint32_t id);

// True for types that a weight of `linear` or `embed` may have.
bool is_weight_dtype(DType dtype);
bool is_quantized_dtype(DType dtype);

// Bytes of k consecutive elements of one row; k must be a non-negative multiple of the block and the dtype known.
int64_t row_bytes(DType dtype, int64_t k);
// The same for numbers from input: nullopt when the dtype is unknown, k negative or no multiple of the block, or on
// overflow.
std::optional<int64_t> checked_row_bytes(DType dtype, int64_t k);

}  // namespace ll
