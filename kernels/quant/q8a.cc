#include "kernels/quant/q8a.h"

#include <bit>
#include <cstring>
#include <limits>

namespace ll {
namespace {

// Rounds |v| < 2^22 to nearest even: the sum has no bits below 1.
float round_even(float v) { return (v + 0x1.8p23f) - 0x1.8p23f; }

}  // namespace

void q8a_quantize_row(const float* x, int64_t k, std::byte* row) {
  auto* codes = reinterpret_cast<int8_t*>(row);
  auto* scales = reinterpret_cast<float*>(row + k);
  auto* sums = reinterpret_cast<int16_t*>(row + k + k / kQ8aBlock * 4);
  for (int64_t b = 0; b < k / kQ8aBlock; ++b) {
    const float* v = x + b * kQ8aBlock;
    // Compared as integers, so that infinities and NaN are the largest.
    uint32_t largest = 0;
    for (int64_t i = 0; i < kQ8aBlock; ++i) {
      const uint32_t magnitude = std::bit_cast<uint32_t>(v[i]) & 0x7fffffffu;
      largest = magnitude > largest ? magnitude : largest;
    }
    const float max = std::bit_cast<float>(largest);
    const bool finite = largest < 0x7f800000u;
    if (!finite || max < kQ8aSmallest) {
      scales[b] = finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
      std::memset(codes + b * kQ8aBlock, 0, kQ8aBlock);
      sums[2 * b] = sums[2 * b + 1] = 0;
      continue;
    }
    scales[b] = max / 127.0f;
    const float inverse = 127.0f / max;
    for (int64_t half = 0; half < 2; ++half) {
      int sum = 0;
      for (int64_t i = 16 * half; i < 16 * half + 16; ++i) {
        const int code = static_cast<int>(round_even(v[i] * inverse));
        codes[b * kQ8aBlock + i] = static_cast<int8_t>(code);
        sum += code;
      }
      sums[2 * b + half] = static_cast<int16_t>(sum);
    }
  }
}

void q8a_dequantize_row(const std::byte* row, int64_t k, float* x) {
  const Q8aRow r = q8a_row(row, k);
  for (int64_t i = 0; i < k; ++i) x[i] = r.scales[i / kQ8aBlock] * static_cast<float>(r.codes[i]);
}

}  // namespace ll
