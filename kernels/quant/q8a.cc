#include "kernels/quant/q8a.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "kernels/quant/formats.h"

namespace ll {
namespace {

// Rounds |v| < 2^22 to nearest even: the sum has no bits below 1.
float round_even(float v) { return (v + 0x1.8p23f) - 0x1.8p23f; }

}  // namespace

DType q8a_for_x16(DType weight) { return find_format(weight)->block_elements == 256 ? DType::kQ8A256 : DType::kQ8A; }

void q8a_quantize_row(DType dtype, const float* x, int64_t k, std::byte* row) {
  auto* codes = reinterpret_cast<int8_t*>(row);
  auto* scales = reinterpret_cast<float*>(row + k);
  auto* sums = reinterpret_cast<int16_t*>(row + k + k / kQ8aGroup * 4);
  const int64_t block = q8a_block(dtype);
  for (int64_t first = 0; first < k; first += block) {
    // Compared as integers, so that infinities and NaN are the largest.
    uint32_t largest = 0;
    for (int64_t i = first; i < first + block; ++i) {
      const uint32_t magnitude = std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu;
      largest = magnitude > largest ? magnitude : largest;
    }
    const float max = std::bit_cast<float>(largest);
    float scale = 0, inverse = 0;
    if (largest >= 0x7f800000u) {
      scale = std::numeric_limits<float>::quiet_NaN();
    } else if (max >= kQ8aSmallest) {
      scale = max / 127.0f, inverse = 127.0f / max;
    }
    std::fill_n(scales + first / kQ8aGroup, block / kQ8aGroup, scale);
    for (int64_t part = first; part < first + block; part += 16) {
      int sum = 0;
      for (int64_t i = part; i < part + 16; ++i) {
        const int code = inverse == 0 ? 0 : static_cast<int>(round_even(x[i] * inverse));
        codes[i] = static_cast<int8_t>(code);
        sum += code;
      }
      sums[part / 16] = static_cast<int16_t>(sum);
    }
  }
}

void q8a_dequantize_row(const std::byte* row, int64_t k, float* x) {
  const Q8aRow r = q8a_row(row, k);
  for (int64_t i = 0; i < k; ++i) x[i] = r.scales[i / kQ8aGroup] * static_cast<float>(r.codes[i]);
}

}  // namespace ll
