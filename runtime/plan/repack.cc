#include "runtime/plan/repack.h"

#include <algorithm>
#include <cstring>

#include "kernels/quant/formats.h"
#include "kernels/quant/layouts.h"
#include "kernels/quant/tile8.h"

namespace ll {

int64_t weight_rows(const TensorType& type) { return type.rank == 1 ? 1 : type.dim(0).value; }

int64_t repack_grain(const TensorType& type) {
  switch (type.layout) {
    case Layout::kX16:
      return kPanelRows;
    case Layout::kTile8:
      return kTile8Rows;
    case Layout::kRows:
      break;
  }
  return 1;
}

int64_t repacked_bytes(const TensorType& type, int64_t rows) {
  const int64_t k = type.last().value;
  if (type.layout == Layout::kX16) return (rows + kPanelRows - 1) / kPanelRows * x16_panel_bytes(type.dtype, k);
  if (type.layout == Layout::kTile8) {
    return (rows + kTile8Rows - 1) / kTile8Rows * tile8_row_tile_bytes(type.dtype, k);
  }
  return rows * row_bytes(type.dtype, k);
}

void repack_rows(const TensorType& type, DType source_dtype, const std::byte* source, int64_t rows, std::byte* out) {
  const int64_t k = type.last().value, source_row = row_bytes(source_dtype, k);
  if (type.layout == Layout::kX16) {
    const int64_t panel_bytes = x16_panel_bytes(type.dtype, k);
    for (int64_t r = 0; r < rows; r += kPanelRows) {
      repack_rows_to_x16(type.dtype, source + r * source_row, std::min(kPanelRows, rows - r), k, out);
      out += panel_bytes;
    }
  } else if (type.layout == Layout::kTile8) {
    for (int64_t r = 0; r < rows; r += kTile8Rows) {
      repack_rows_to_tile8(type.dtype, source + r * source_row, std::min(kTile8Rows, rows - r), k, out);
      out += tile8_row_tile_bytes(type.dtype, k);
    }
  } else if (source_dtype == type.dtype) {
    std::memcpy(out, source, static_cast<size_t>(rows * source_row));
  } else {
    const Format* format = find_format(source_dtype);
    for (int64_t r = 0; r < rows; ++r) {
      format->dequantize(source + r * source_row, k, reinterpret_cast<float*>(out) + r * k);
    }
  }
}

}  // namespace ll
