// What SIMD kernels know of each block format in kX16 (kernels/quant/layouts.h) when they are compiled.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/quant/blocks.h"

namespace ll {

// value = factor * scale * (code - zero) - offset, as kernels/quant/blocks.h says.
struct X16Format {
  DType dtype;
  int elements;             // of a block
  int low_bits, high_bits;  // of a code: planes of a sub-block, the high one first
  // Codes are unsigned bytes here, so that they can be the unsigned side of a product: q8_0's int8 are read as
  // code + 128, and a `table` format's code looks up kIq4Values + 128. `zero` takes that back.
  int zero;
  bool table;
  int group;  // elements with one scale: 16 or 32; 0: none
  bool min;   // groups have minima (grouped) or blocks an addend (plain)
  blocks::ScalePacking packing;

  constexpr int subs() const { return elements / 32; }
  constexpr int groups_per_sub() const { return group == 16 ? 2 : 1; }
  // Of a grouped format: two neighbouring groups' minima are multiplied at once.
  constexpr int min_pairs() const { return group != 0 && min ? 128 / group : 0; }
  constexpr int sub_bytes() const { return 64 * (low_bits + high_bits); }
  constexpr int scale_bytes() const {
    switch (packing) {
      case blocks::ScalePacking::kNone:
        return 0;
      case blocks::ScalePacking::kQ2K:
      case blocks::ScalePacking::kQ6K:
        return 256;
      case blocks::ScalePacking::kQ3K:
      case blocks::ScalePacking::kQ4K:
        return 192;
      case blocks::ScalePacking::kIQ4XS:
        return 64;
    }
    return 0;
  }
  constexpr int block_bytes() const { return scale_bytes() + subs() * sub_bytes(); }
  constexpr int head_bytes() const { return min || packing == blocks::ScalePacking::kIQ4XS ? 64 : 32; }
  // Where block b of a panel of `blocks` is, and its head.
  const std::byte* block(const std::byte* panel, int64_t blocks, int64_t b) const {
    return panel + blocks * head_bytes() + b * block_bytes();
  }
  const std::byte* head(const std::byte* panel, int64_t b) const { return panel + b * head_bytes(); }
};

// clang-format off
//                                          elements low high zero table group min packing
inline constexpr X16Format kX16Q4_0  = {DType::kQ4_0,   32, 4, 0,   8, false,  0, false, blocks::ScalePacking::kNone};
inline constexpr X16Format kX16Q4_1  = {DType::kQ4_1,   32, 4, 0,   0, false,  0, true,  blocks::ScalePacking::kNone};
inline constexpr X16Format kX16Q5_0  = {DType::kQ5_0,   32, 4, 1,  16, false,  0, false, blocks::ScalePacking::kNone};
inline constexpr X16Format kX16Q5_1  = {DType::kQ5_1,   32, 4, 1,   0, false,  0, true,  blocks::ScalePacking::kNone};
inline constexpr X16Format kX16Q8_0  = {DType::kQ8_0,   32, 8, 0, 128, false,  0, false, blocks::ScalePacking::kNone};
inline constexpr X16Format kX16IQ4NL = {DType::kIQ4_NL, 32, 4, 0, 128, true,   0, false, blocks::ScalePacking::kNone};
inline constexpr X16Format kX16Q2K   = {DType::kQ2_K,  256, 2, 0,   0, false, 16, true,  blocks::ScalePacking::kQ2K};
inline constexpr X16Format kX16Q3K   = {DType::kQ3_K,  256, 2, 1,   4, false, 16, false, blocks::ScalePacking::kQ3K};
inline constexpr X16Format kX16Q4K   = {DType::kQ4_K,  256, 4, 0,   0, false, 32, true,  blocks::ScalePacking::kQ4K};
inline constexpr X16Format kX16Q5K   = {DType::kQ5_K,  256, 4, 1,   0, false, 32, true,  blocks::ScalePacking::kQ4K};
inline constexpr X16Format kX16Q6K   = {DType::kQ6_K,  256, 4, 2,  32, false, 16, false, blocks::ScalePacking::kQ6K};
inline constexpr X16Format kX16IQ4XS = {DType::kIQ4_XS,256, 4, 0, 128, true,  32, false, blocks::ScalePacking::kIQ4XS};
// clang-format on

}  // namespace ll
