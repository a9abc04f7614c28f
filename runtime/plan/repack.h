// Weights from their file's order to the order of the kernels. One code for the plan writer and for loading by
// reference.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/type.h"

namespace ll {

// Rows of a weight as the repacker counts them: a vector is one row.
int64_t weight_rows(const TensorType& type);

// Rows that repack_rows must take together: 16 for kX16 (a panel), 8 for kTile8, 1 for kRows.
int64_t repack_grain(const TensorType& type);

// Bytes that `rows` rows (a multiple of the grain, or up to the last row) take in the layout of `type`.
int64_t repacked_bytes(const TensorType& type, int64_t rows);

// Writes `rows` neighbouring rows of a weight to `out`, repacked_bytes(type, rows) bytes.
//   type          the weight as kernels see it
//   source_dtype  as the file has it, in kRows: type.dtype, or f16 or bf16 to become f32
//   source        the first of these rows in the file; its number is a multiple of the grain
void repack_rows(const TensorType& type, DType source_dtype, const std::byte* source, int64_t rows, std::byte* out);

}  // namespace ll
