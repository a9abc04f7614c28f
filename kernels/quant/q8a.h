// q8a: activations quantized to 8 bits for the integer kernels (DType::kQ8A), made by `quantize` and `norm_quantize`.
//
// A row of k values (k a multiple of 32) is three dense arrays, 40 bytes for each 32 values, 4-byte aligned:
//   int8   codes[k]       value = scale * code, code in -127 .. 127
//   float  scales[k/32]   one for 32 values
//   int16  sums[k/16]     sum of 16 codes: folds a weight format's minimum or offset into one product
//
// For 32 values x with m = max |x|:
//   m not finite    scale = NaN, codes 0: the outputs show that something went wrong
//   m < 2^-100      scale = 0, codes 0
//   otherwise       scale = m / 127, code = round_to_nearest_even(x * (127 / m)), each operation rounded to f32
// Every implementation gives these bits.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ll {

inline constexpr int64_t kQ8aBlock = 32;
inline constexpr float kQ8aSmallest = 0x1p-100f;

constexpr int64_t q8a_row_bytes(int64_t k) { return k / kQ8aBlock * 40; }

// The three arrays of one row.
struct Q8aRow {
  const int8_t* codes;
  const float* scales;
  const int16_t* sums;
};
// Internal linkage: included by files compiled for different instruction sets.
[[maybe_unused]] static inline Q8aRow q8a_row(const std::byte* row, int64_t k) {
  return {reinterpret_cast<const int8_t*>(row), reinterpret_cast<const float*>(row + k),
          reinterpret_cast<const int16_t*>(row + k + k / kQ8aBlock * 4)};
}

void q8a_quantize_row(const float* x, int64_t k, std::byte* row);
void q8a_dequantize_row(const std::byte* row, int64_t k, float* x);

}  // namespace ll
