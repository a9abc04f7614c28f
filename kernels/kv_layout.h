// Paged KV cache: memory order of one layer's cache, shared by every kernel that writes or reads it and by the memory
// plan.
//
// TensorType [pages, 2 * kv_heads, page_size, head_dim], dtype f32, f16 or i8. Within a page the keys of all heads come
// first, then the values: head h's keys are plane h, its values plane kv_heads + h. A plane of f32 or f16 holds
// page_size rows of head_dim elements.
//
// i8 ("q8"): element = scale * signed byte, with one f32 scale = max|v| / 127 for 32 elements of a row, the last ones
// of a row fewer. Bytes of a row are padded with zeros to a multiple of 4. GPUs hold rows: their bytes, then their
// scales. CPUs hold planes by column, for products whose lanes are keys, or elements of values: each 4 bytes that meet
// in a product, elements of a key or positions of values, lie side by side (kv_code_offset), and behind all bytes the
// scales [groups, page_size]. A page has as many bytes in both; no cache moves from one to the other.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/type.h"

namespace ll {

inline constexpr int64_t kKvPageSize = 32;       // tokens a page
inline constexpr int64_t kKvGroup = 32;          // i8: elements a scale covers
inline constexpr float kKvSmallest = 0x1p-100f;  // i8: far below any key, far above where 127 / largest overflows

// i8: bytes of a row before its scales.
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

enum class KvPart { kKeys, kValues };

// Byte offset of the plane that holds the keys or values of `head` at `slot` = page * page_size + place.
constexpr int64_t kv_plane_offset(int64_t row_bytes, int64_t planes, int64_t slot, KvPart part, int64_t head) {
  return (slot / kKvPageSize * planes + (part == KvPart::kKeys ? 0 : planes / 2) + head) * kKvPageSize * row_bytes;
}

// In caches of rows: byte offset of the row of `head` (0 .. 2 * kv_heads - 1, values after keys) for slot = page *
// page_size + place.
constexpr int64_t kv_row_offset(int64_t row_bytes, int64_t planes, int64_t slot, int64_t head) {
  return ((slot / kKvPageSize * planes + head) * kKvPageSize + slot % kKvPageSize) * row_bytes;
}

// i8 on CPUs, in a plane: byte offset of element d of the row at `place` ...
constexpr int64_t kv_code_offset(KvPart part, int64_t head_dim, int64_t place, int64_t d) {
  return part == KvPart::kKeys ? (d / 4 * kKvPageSize + place) * 4 + d % 4
                               : (place / 4 * kv_scales_offset(head_dim) + d) * 4 + place % 4;
}
// ... and of its group's scale.
constexpr int64_t kv_scale_offset(int64_t head_dim, int64_t place, int64_t group) {
  return kKvPageSize * kv_scales_offset(head_dim) + 4 * (group * kKvPageSize + place);
}

// head_dim values to and from the row at `place` of a plane, as CPUs hold it: the scalar definition of the formats.
void kv_store(DType dtype, const float* values, int64_t head_dim, KvPart part, std::byte* plane, int64_t place);
void kv_load(DType dtype, const std::byte* plane, KvPart part, int64_t place, int64_t head_dim, float* values);

}  // namespace ll
