// What the block formats have in common: a block is codes of 1 to 8 bits, scales of groups of codes, and one or two f16
// factors. One row a format says how they make values; only `read` and `write` know where a format keeps them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/type.h"

namespace ll::blocks {

inline constexpr int kMaxElements = 256, kMaxGroups = 16;

// The fields of one block, as stored (unsigned bits).
struct Fields {
  alignas(32) uint8_t codes[kMaxElements];
  uint8_t scales[kMaxGroups];
  uint8_t mins[kMaxGroups];
  uint16_t d, m;  // f16
};

// How kX16 packs the scales of 16 rows (kernels/quant/layouts.h).
enum class ScalePacking : uint8_t { kNone, kQ2K, kQ3K, kQ4K, kQ6K, kIQ4XS };

// value[k] = (d * scale) * value_of_code - offset, with scale and min those of k's group of `group` elements and
//   value_of_code   code - zero, or kIq4Values[code] when `table`; q8_0: the code as int8
//   scale           scales[g] - scale_zero (q6_K: scales[g] as int8), or 1 without groups
//   offset          m * mins[g]; -m without groups; 0 without mins
// Each operation rounds to f32, in this order.
struct BlockFormat {
  DType dtype;
  int elements, bytes;
  int low_bits, high_bits;  // of a code; kX16 keeps the high bits apart
  int zero;
  bool table;
  int group;  // elements with one scale; 0: no scales
  int scale_max, scale_zero;
  bool has_min;
  ScalePacking packing;
  void (*read)(const std::byte* block, Fields& fields);
  void (*write)(const Fields& fields, std::byte* block);
};
// Null for dtypes that are not block formats.
const BlockFormat* find(DType dtype);

// One block, format.elements values.
void dequantize_fields(const BlockFormat& format, const Fields& fields, float* values);
void dequantize(const BlockFormat& format, const std::byte* blocks, int64_t k, float* y);
void quantize(const BlockFormat& format, const float* x, int64_t k, std::byte* blocks);

template <DType kDtype>
void dequantize_blocks(const std::byte* blocks, int64_t k, float* y) {
  dequantize(*find(kDtype), blocks, k, y);
}
template <DType kDtype>
void quantize_blocks(const float* x, int64_t k, std::byte* blocks) {
  quantize(*find(kDtype), x, k, blocks);
}

// Values of the 4-bit codes of iq4_nl and iq4_xs.
inline constexpr std::array<int8_t, 16> kIq4Values = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                      1,    13,   25,  38,  53,  69,  89,  113};

}  // namespace ll::blocks
