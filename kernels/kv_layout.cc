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

void kv_store(DType dtype, const float* values, int64_t head_dim, KvPart part, std::byte* plane, int64_t place) {
  std::byte* const row = plane + place * kv_row_bytes(dtype, head_dim);
  if (dtype == DType::kF32) {
    std::memcpy(row, values, static_cast<size_t>(4 * head_dim));
  } else if (dtype == DType::kF16) {
    auto* half = reinterpret_cast<uint16_t*>(row);
    for (int64_t i = 0; i < head_dim; ++i) half[i] = f32_to_f16(values[i]);
  } else {
    for (int64_t d = 0; d < kv_scales_offset(head_dim); d += kKvGroup) {
      int8_t codes[kKvGroup] = {};
      float scale;
      store_group(values + d, std::min(kKvGroup, head_dim - d), codes, &scale);
      std::memcpy(plane + kv_scale_offset(head_dim, place, d / kKvGroup), &scale, 4);
      for (int64_t i = 0; i < std::min(kKvGroup, kv_scales_offset(head_dim) - d); ++i) {
        plane[kv_code_offset(part, head_dim, place, d + i)] = static_cast<std::byte>(codes[i]);
      }
    }
  }
}

void kv_load(DType dtype, const std::byte* plane, KvPart part, int64_t place, int64_t head_dim, float* values) {
  const std::byte* const row = plane + place * kv_row_bytes(dtype, head_dim);
  if (dtype == DType::kF32) {
    std::memcpy(values, row, static_cast<size_t>(4 * head_dim));
  } else if (dtype == DType::kF16) {
    const auto* half = reinterpret_cast<const uint16_t*>(row);
    for (int64_t i = 0; i < head_dim; ++i) values[i] = f16_to_f32(half[i]);
  } else {
    for (int64_t d = 0; d < head_dim; ++d) {
      float scale;
      std::memcpy(&scale, plane + kv_scale_offset(head_dim, place, d / kKvGroup), 4);
      values[d] = scale * static_cast<float>(static_cast<int8_t>(plane[kv_code_offset(part, head_dim, place, d)]));
    }
  }
}

}  // namespace ll
