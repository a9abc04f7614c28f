// Memory order of weights [N, K]: kRows, the file's own, kX16, the order of the SIMD and tile kernels, and kTile8, that
// of GPUs (kernels/quant/tile8.h).
//
// kX16 is a permutation of the bits of kRows with N padded to a multiple of 16 by zero rows (all bytes 0): the same
// bytes a weight. The tensor is a sequence of panels of 16 rows, 16 * row_bytes(dtype, K) bytes each; r = 0..15 is the
// row.
//
//   panel     head[0] .. head[B-1], block[0] .. block[B-1]      B = K / block_elements
//   head[b]   what a block has one or two of: a product of the panel reads them ahead of their blocks, so that memory
//             is read in ascending order
//   block[b]  scales, sub[0] .. sub[block_elements/32 - 1]      a multiple of 64 bytes
//   sub[j]    the codes of k = 32j .. 32j+31 (one scale of q8a) of 16 rows, as units of 64 bytes
//   unit      a 4-byte lane for each row in order; byte i of a lane belongs to k % 4 == i. A unit is one 512-bit
//             register, two 256-bit ones (rows 0-7, 8-15) or a row of an int8 tile, to multiply with 4 broadcast codes
//
// Units of a sub-block; i = byte of the lane, k counts from the sub-block's start:
//   bit1   1 unit    bit g of byte i              k = 4g + i                              g = 0..7
//   bit2   2 units   unit h, bits 2g+1:2g         k = 16h + 4g + i                        g = 0..3
//   bit4   4 units   unit g, low nibble           k = 4g + i;  high nibble: k = 16 + 4g + i
//   bit8   8 units   unit g                       k = 4g + i
//
//   format         sub-block              bytes   scales of a block                  bytes   head
//   q4_0, iq4_nl   bit4                     256   -                                      0   d[16]
//   q4_1           bit4                     256   -                                      0   d[16], m[16]
//   q5_0           bit1 (5th bit), bit4     320   -                                      0   d[16]
//   q5_1           bit1 (5th bit), bit4     320   -                                      0   d[16], m[16]
//   q8_0           bit8                     512   -                                      0   d[16]
//   q2_K           bit2                     128   s[16][16]: scale | min << 4          256   d[16], dmin[16]
//   q3_K           bit1 (3rd bit), bit2     192   16 of 6 bits, split (below)          192   d[16]
//   q4_K           bit4                     256   8 scales, 8 mins of 6 bits, split    192   d[16], dmin[16]
//   q5_K           bit1 (5th bit), bit4     320   as q4_K                              192   d[16], dmin[16]
//   q6_K           bit2 (5th, 6th), bit4    384   s[16][16] int8                       256   d[16]
//   iq4_xs         bit4                     256   8 of 6 bits: l[4][16]                 64   d[16], h[2][16] bytes
//
// d, m and dmin are f16. In arrays of scales x[a][16] the last index is the row. The split ones are read as 32-byte
// vectors, two consecutive scales of 16 rows each:
//   q3_K    l[8][16]: scale j in the low nibble of l[j], scale j+8 in the high nibble; then h[4][16]: bits 2p+1:2p are
//   the
//           upper two bits of scale a+4p. (The third bit of a code is as ggml has it: 1 = no 4 to subtract.)
//   q4_K    n[8][16]: low nibble of scale j | low nibble of min j << 4; then h[4][16], a = 2 * (j / 4) + j % 2,
//           s = 4 * (j / 2 % 2): bits s+1:s are the upper two bits of scale j, bits s+3:s+2 those of min j.
//   iq4_xs  scale j in the low nibble of l[j], scale j+4 in the high nibble; h[a], bits 2p+1:2p: upper bits of scale
//   a+2p.
//
// With the tensor 64-byte aligned every load of 32 bytes is aligned; those of 64 bytes are too except that, when B is
// odd, the blocks of every other panel of a format whose head is 32 bytes start 32 bytes past a multiple of 64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/quant/formats.h"
#include "kernels/type.h"

namespace ll {

inline constexpr int64_t kPanelRows = 16;

std::string_view layout_name(Layout layout);  // "rows", "x16", "tile8"; "unknown"
std::optional<Layout> find_layout(std::string_view name);
// True when tensors of this dtype can have this layout: kRows all, kX16 and kTile8 the quantized ones.
bool has_layout(DType dtype, Layout layout);

// Bytes of a tensor [n_rows, k]; nullopt when the dtype is unknown or lacks the layout, k is negative or no multiple of
// the block, n_rows is negative, or on overflow.
std::optional<int64_t> tensor_bytes(DType dtype, Layout layout, int64_t n_rows, int64_t k);

// Bytes of a panel: 16 * row_bytes(dtype, k). Panel p starts at p times that.
int64_t x16_panel_bytes(DType dtype, int64_t k);
// One panel from n_rows (1..16) dense rows of blocks. Writes all x16_panel_bytes. dtype is quantized, k a multiple of
// its block.
void repack_rows_to_x16(DType dtype, const std::byte* rows, int64_t n_rows, int64_t k, std::byte* panel);
// Row r (0..15) of a panel back to blocks as kRows has them.
void unpack_row_from_x16(DType dtype, const std::byte* panel, int64_t r, int64_t k, std::byte* blocks);

// Row `row` of a weight [N, k] in any layout as k floats (Format::dequantize). dtype is a weight type that has the
// layout.
void dequantize_row(DType dtype, Layout layout, const std::byte* tensor, int64_t row, int64_t k, float* values);

}  // namespace ll
