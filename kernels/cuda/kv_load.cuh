// Reads neighbouring elements of a KV row (kernels/kv_layout.h) as f16, what tensor cores take: f16 as it is, f32 and
// i8 rounded (i8: its scale to f16, then the product).
#pragma once

#include "kv_store.cuh"

namespace ll::cuda {

// kCount (2, 4, 8) elements as they lie in the cache, so that a load need not wait for its conversion.
template <class C, int kCount>
struct KvPiece {
  u32 w[C::kKvType == kKvI8 ? (kCount + 3) / 4 : kCount / 2];
  float scale;  // i8
};

// Elements `first` .. of a row, first a multiple of kCount; zeros unless `inside`. C: kKvType, kKvRowBytes,
// kScalesOffset.
template <class C, int kCount>
DEVICE KvPiece<C, kCount> load_kv(const u8* row, int first, bool inside) {
  KvPiece<C, kCount> p{};
  if (!inside) return p;
  if constexpr (C::kKvType == kKvF16) {
    const u8* at = row + 2 * first;
    if constexpr (kCount == 8) {
      const U32x4 v = load_once(reinterpret_cast<const U32x4*>(at));
      p.w[0] = v.x, p.w[1] = v.y, p.w[2] = v.z, p.w[3] = v.w;
    } else if constexpr (kCount == 4) {
      const U32x2 v = load_once(reinterpret_cast<const U32x2*>(at));
      p.w[0] = v.x, p.w[1] = v.y;
    } else {
      p.w[0] = load_once(reinterpret_cast<const u32*>(at));
    }
  } else if constexpr (C::kKvType == kKvI8) {
    const u8* at = row + first;
    if constexpr (kCount == 8 && C::kKvRowBytes % 8 == 0) {
      const U32x2 v = load_once(reinterpret_cast<const U32x2*>(at));
      p.w[0] = v.x, p.w[1] = v.y;
    } else if constexpr (kCount >= 4) {
#pragma unroll
      for (int i = 0; i < kCount / 4; ++i) p.w[i] = load_once(reinterpret_cast<const u32*>(at) + i);
    } else {
      p.w[0] = *reinterpret_cast<const u16*>(at);
    }
    p.scale = bits<float>(load_once(reinterpret_cast<const u32*>(row + C::kScalesOffset) + first / 32));
  } else {
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      const U32x2 v = load_once(reinterpret_cast<const U32x2*>(row + 4 * first) + i);
      p.w[i] = pack_f16(bits<float>(v.x), bits<float>(v.y));
    }
  }
  return p;
}

// The elements as f16, two a word.
template <class C, int kCount>
DEVICE void unpack_kv(const KvPiece<C, kCount>& p, u32 (&f16)[kCount / 2]) {
  if constexpr (C::kKvType == kKvI8) {
    const u32 scale = pack_f16(p.scale, p.scale);
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      // Bytes with 128 added, as the low bits of the f16 1024 .. 1279; then 1152 off: exact.
      const u32 biased = permute_bytes(p.w[i / 2] ^ 0x80808080u, 0x64646464u, i % 2 == 0 ? 0x4140u : 0x4342u);
      f16[i] = multiply_f16x2(add_f16x2(biased, 0xe480e480u), scale);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) f16[i] = p.w[i];
  }
}

}  // namespace ll::cuda
