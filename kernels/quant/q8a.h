// q8a: activations quantized to 8 bits for the integer kernels, made by `quantize` and `norm_quantize`.
//
// A row of k values (k a multiple of 32) is three dense arrays, 40 bytes for each 32 values, 4-byte aligned:
//   int8   codes[k]       value = scale * code, code in -127 .. 127
//   float  scales[k/32]   one for 32 values
//   int16  sums[k/16]     sum of 16 codes: folds a weight format's minimum or offset into one product
//
// Two types share it. DType::kQ8A makes a scale of each 32 values, its block. DType::kQ8A256 makes one of 256 (k a
// multiple of 256) and writes it eight times: what formats of 256 weights are multiplied with on CPUs, so that their
// sums over 256 are one integer.
//
// For a block x with m = max |x|:
//   m not finite    scale = NaN, codes 0: the outputs show that something went wrong
//   m < 2^-100      scale = 0, codes 0
//   otherwise       scale = m / 127, code = round_to_nearest_even(x * (127 / m)), each operation rounded to f32
// Every implementation gives these bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/type.h"

namespace ll {

inline constexpr int64_t kQ8aGroup = 32;  // values of one written scale
inline constexpr float kQ8aSmallest = 0x1p-100f;

constexpr bool is_q8a(DType dtype) { return dtype == DType::kQ8A || dtype == DType::kQ8A256; }
// Values that a scale is made of; of q8a types.
constexpr int64_t q8a_block(DType dtype) { return dtype == DType::kQ8A256 ? 256 : 32; }
// What quantized weights in kX16 are multiplied with: kQ8A256 where their blocks have 256 elements.
DType q8a_for_x16(DType weight);
constexpr int64_t q8a_row_bytes(int64_t k) { return k / kQ8aGroup * 40; }

// The three arrays of one row.
struct Q8aRow {
  const int8_t* codes;
  const float* scales;
  const int16_t* sums;
};
// Internal linkage: included by files compiled for different instruction sets.
[[maybe_unused]] static inline Q8aRow q8a_row(const std::byte* row, int64_t k) {
  return {reinterpret_cast<const int8_t*>(row), reinterpret_cast<const float*>(row + k),
          reinterpret_cast<const int16_t*>(row + k + k / kQ8aGroup * 4)};
}

// `dtype` is one of the two and k a multiple of its block.
void q8a_quantize_row(DType dtype, const float* x, int64_t k, std::byte* row);
void q8a_dequantize_row(const std::byte* row, int64_t k, float* x);

}  // namespace ll
