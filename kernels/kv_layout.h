// Paged KV cache: memory order of one layer's cache, shared by every kernel that writes or reads it and by the memory
// plan.
//
// TensorType [pages, 2 * kv_heads, page_size, head_dim], dtype f32, f16 or i8. Within a page the keys of all heads come
// first, then the values: head h's keys are plane h, its values plane kv_heads + h. A plane holds page_size rows of
// head_dim elements. i8 ("q8"): a row is head_dim signed bytes followed by ceil(head_dim / 32) f32 scales, one per 32
// elements, padded to 4 bytes; value = scale * byte, scale = max|v| / 127.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/type.h"

namespace ll {

inline constexpr int64_t kKvPageSize = 32;       // tokens a page
inline constexpr int64_t kKvGroup = 32;          // i8: elements a scale covers
inline constexpr float kKvSmallest = 0x1p-100f;  // i8: far below any key, far above where 127 / largest overflows

// i8: byte offset of a row's scales.
constexpr int64_t kv_scales_offset(int64_t head_dim) { return (head_dim + 3) / 4 * 4; }

// Bytes of one row (one token, one head, key or value).
constexpr int64_t kv_row_bytes(DType dtype, int64_t head_dim) {
  switch (dtype) {
    case DType::kF32:
      return 4 * head_dim;
    case DType::kF16:
      return 2 * head_dim;
    case DType::kI8:
      return kv_scales_offset(head_dim) + 4 * ((head_dim + kKvGroup - 1) / kKvGroup);
    default:
      return 0;
  }
}

// Bytes of one page of one layer, all planes.
constexpr int64_t kv_page_bytes(DType dtype, int64_t planes, int64_t head_dim) {
  return planes * kKvPageSize * kv_row_bytes(dtype, head_dim);
}

// Byte offset of the row of `head` (0 .. 2 * kv_heads - 1, values after keys) for slot = page * page_size + place.
constexpr int64_t kv_row_offset(int64_t row_bytes, int64_t planes, int64_t slot, int64_t head) {
  return ((slot / kKvPageSize * planes + head) * kKvPageSize + slot % kKvPageSize) * row_bytes;
}

// One row of head_dim values to and from the cache: the scalar definition of the three formats.
void kv_store_row(DType dtype, const float* values, int64_t head_dim, std::byte* row);
void kv_load_row(DType dtype, const std::byte* row, int64_t head_dim, float* values);

}  // namespace ll
