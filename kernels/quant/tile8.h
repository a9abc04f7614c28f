// kTile8: quantized weights [N, K] for GPUs. One copy serves GEMV (dp4a), small batches and prefill (int8 mma m8n8k16,
// weights as the 8-row operand). N is padded to a multiple of 8, K to one of 256, with zeros (codes, scales and factors
// all 0).
//
// The tensor is tile[N/8][K/256], dense. A tile holds 8 rows of 256 weights: a low plane of codes, a high plane where
// codes have more than 4 (q3_K: 2) bits, scales, factors. It is a multiple of 16 bytes; r = 0..7 is the row.
//
// The codes of a tile are 64 words a row, word (g, h, c) holding 4 codes, one a byte. g = 0..7 counts groups of 32,
// c = 0..3 is the column of the mma operand that takes it, h = 0..1 the first and the second mma:
//   k % 256 = 32 g + 8 c + 4 h + byte    formats with one scale or more elements than 32 to a scale
//             32 g + 16 h + 4 c + byte   formats with a scale for 16 elements: q2_K, q3_K, q6_K
//
// A plane of b bits a code is two halves, groups 0-3 and 4-7 (u = g / 4, f = g % 4), of 128 b bytes. In each, lane (c,
// r) owns 4 b consecutive bytes; a warp that loads them in the order 8 c + r reads dense memory:
//   b = 8   byte 1024 u + 512 (f / 2) + 16 (8 c + r) + 8 (f % 2) + 4 h     the word (q8_0)
//   b = 4        512 u + 16 (8 c + r) + 8 (f / 2) + 4 h                    bits 4 (f % 2) .. of each byte
//   b = 2        256 u + 8 (8 c + r) + 4 h                                 bits 2 f ..
//   b = 1        128 u + 4 (8 c + r)                                       bit 2 f + h
// so that for b = 4 the words of an even group and the next one share their bytes: & 0x0f0f0f0f gives the codes of the
// first, & 0xf0f0f0f0 those of the second times 16.
//
// clang-format off
//   format         low high  scales of row r                                  factors of row r  bytes  of the file
//   q4_0, iq4_nl     4    -  -                                                d[8 groups]        1152         1152
//   q4_1             4    -  -                                                (d, m)[8 groups]   1280         1280
//   q5_0             4    1  -                                                d[8 groups]        1408         1408
//   q5_1             4    1  -                                                (d, m)[8 groups]   1536         1536
//   q8_0             8    -  -                                                d[8 groups]        2176         2176
//   q2_K             2    -  16 bytes scale | min << 4                        (d, dmin)           672          672
//   q3_K             2    1  16 int8 (scale - 32)                             d                   912          880
//   q4_K             4    -  s[0-3], m[0-3], s[4-7], m[4-7], a byte each      (d, dmin)          1184         1152
//   q5_K             4    1  as q4_K                                          (d, dmin)          1440         1408
//   q6_K             4    2  16 int8                                          d                  1680         1680
//   iq4_xs           4    -  8 int8 (scale - 32)                              d                  1104         1088
// clang-format on
//
// All rows' scales follow each other, then all rows' factors (f16).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/type.h"

namespace ll {

inline constexpr int64_t kTile8Rows = 8, kTile8K = 256;

// Bytes of a tile; dtype is quantized.
int64_t tile8_bytes(DType dtype);
// Bytes of 8 rows: ceil(k / 256) tiles.
int64_t tile8_row_tile_bytes(DType dtype, int64_t k);

// Where the parts of a tile begin.
struct Tile8Parts {
  int low_bits, high_bits;
  int high, scales, factors;      // byte offsets; the low plane begins at 0
  int scale_bytes, factor_bytes;  // of one row
  int bytes;                      // of the tile
  bool halves;                    // a scale for 16 elements
};
Tile8Parts tile8_parts(DType dtype);

// 8 rows of tiles from n_rows (1..8) dense rows of blocks; writes all tile8_row_tile_bytes. dtype is quantized, k a
// multiple of its block.
void repack_rows_to_tile8(DType dtype, const std::byte* rows, int64_t n_rows, int64_t k, std::byte* tiles);
// Row r (0..7) of a row of tiles back to blocks as kRows has them.
void unpack_row_from_tile8(DType dtype, const std::byte* tiles, int64_t r, int64_t k, std::byte* blocks);
// The same as k floats (Format::dequantize).
void dequantize_row_from_tile8(DType dtype, const std::byte* tiles, int64_t r, int64_t k, float* values);

}  // namespace ll
