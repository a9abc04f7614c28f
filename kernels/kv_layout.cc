#include "kernels/kv_layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/quant/half.h"

namespace ll {
namespace {

// std::max would drop a NaN; this keeps it.
float largest_magnitude(const float* values, int64_t size) {
  float largest = 0;
  for (int64_t i = 0; i < size; ++i) {
    const float magnitude = std::fabs(values[i]);
    if (magnitude > largest || std::isnan(magnitude)) largest = magnitude;
    if (std::isnan(largest)) break;
  }
  return largest;
}

void store_group(const float* values, int64_t size, int8_t* bytes, float* scale) {
  const float largest = largest_magnitude(values, size);
  if (!std::isfinite(largest) || largest < kKvSmallest) {
    *scale = std::isfinite(largest) ? 0.0f : std::numeric_limits<float>::quiet_NaN();
    std::memset(bytes, 0, static_cast<size_t>(size));
    return;
  }
  *scale = largest / 127;
  const float inverse = 127 / largest;
  for (int64_t i = 0; i < size; ++i) bytes[i] = static_cast<int8_t>(std::nearbyint(values[i] * inverse));
}

}  // namespace

void kv_store_row(DType dtype, const float* values, int64_t head_dim, std::byte* row) {
  if (dtype == DType::kF32) {
    std::memcpy(row, values, static_cast<size_t>(4 * head_dim));
  } else if (dtype == DType::kF16) {
    auto* half = reinterpret_cast<uint16_t*>(row);
    for (int64_t i = 0; i < head_dim; ++i) half[i] = f32_to_f16(values[i]);
  } else {
    auto* bytes = reinterpret_cast<int8_t*>(row);
    auto* scales = reinterpret_cast<float*>(row + kv_scales_offset(head_dim));
    for (int64_t i = 0; i < head_dim; i += kKvGroup) {
      store_group(values + i, std::min(kKvGroup, head_dim - i), bytes + i, scales + i / kKvGroup);
    }
    for (int64_t i = head_dim; i < kv_scales_offset(head_dim); ++i) bytes[i] = 0;
  }
}

void kv_load_row(DType dtype, const std::byte* row, int64_t head_dim, float* values) {
  if (dtype == DType::kF32) {
    std::memcpy(values, row, static_cast<size_t>(4 * head_dim));
  } else if (dtype == DType::kF16) {
    const auto* half = reinterpret_cast<const uint16_t*>(row);
    for (int64_t i = 0; i < head_dim; ++i) values[i] = f16_to_f32(half[i]);
  } else {
    const auto* bytes = reinterpret_cast<const int8_t*>(row);
    const auto* scales = reinterpret_cast<const float*>(row + kv_scales_offset(head_dim));
    for (int64_t i = 0; i < head_dim; ++i) values[i] = scales[i / kKvGroup] * bytes[i];
  }
}

}  // namespace ll
