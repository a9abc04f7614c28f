// Rows of the paged KV cache (kernels/kv_layout.h): where they lie and how a warp writes one.
#pragma once

#include "prim/convert.cuh"
#include "prim/math.cuh"
#include "prim/memory.cuh"
#include "prim/warp.cuh"

namespace ll::cuda {

enum KvType : int { kKvF32, kKvF16, kKvI8 };

// Byte offset of the row of `plane` (keys of all heads, then values) at `slot`. C: kPageSize, kPlanes, kKvRowBytes.
template <class C>
DEVICE i64 kv_offset(int slot, int plane) {
  return ((i64{slot / C::kPageSize} * C::kPlanes + plane) * C::kPageSize + slot % C::kPageSize) * C::kKvRowBytes;
}

// Writes kHeadDim values, the whole warp together; value(d) gives value d. C: kKvType, kHeadDim, kScalesOffset.
template <class C, class Value>
DEVICE void store_kv_row(u8* row, const Value& value) {
  if constexpr (C::kKvType == kKvI8) {
#pragma unroll
    for (int start = 0; start < C::kHeadDim; start += kWarp) {
      const int d = start + lane();
      const bool inside = d < C::kHeadDim;
      const float v = inside ? value(d) : 0.0f;
      const u32 largest = warp_max(bits<u32>(v) & 0x7fffffffu);
      const bool finite = largest < 0x7f800000u;
      const bool zero = !finite || bits<float>(largest) < 0x1p-100f;
      const float inverse = zero ? 0.0f : 127.0f / bits<float>(largest);
      const int code = zero || !inside ? 0 : round_to_int(v * inverse);
      if (d < C::kScalesOffset) row[d] = static_cast<u8>(code);
      if (lane() == 0) {
        *reinterpret_cast<float*>(row + C::kScalesOffset + start / kWarp * 4) =
            zero ? bits<float>(finite ? 0u : 0x7fc00000u) : bits<float>(largest) / 127.0f;
      }
    }
  } else if constexpr (C::kKvType == kKvF16 && C::kHeadDim % 2 == 0) {
    for (int d = 2 * lane(); d < C::kHeadDim; d += 2 * kWarp) {
      reinterpret_cast<u32*>(row)[d / 2] = pack_f16(value(d), value(d + 1));
    }
  } else {
    for (int d = lane(); d < C::kHeadDim; d += kWarp) {
      if constexpr (C::kKvType == kKvF16) {
        reinterpret_cast<u16*>(row)[d] = f16_from_f32(value(d));
      } else {
        reinterpret_cast<float*>(row)[d] = value(d);
      }
    }
  }
}

}  // namespace ll::cuda
