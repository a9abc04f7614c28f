// f16 and bf16 to and from f32. f16 travels as its 16 bits, two of them in a register (the lower one first). Rounding
// is to nearest even; a NaN becomes a NaN, of which bits may differ from device to emulator.
#pragma once

#include "prim/device.cuh"

namespace ll::cuda {

#if defined(__CUDACC__)

DEVICE float f32_from_f16(u16 h) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
}
DEVICE u16 f16_from_f32(float f) {
  u16 h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}
// Each half: a * b, a + b, a * b + c with one rounding.
DEVICE u32 multiply_f16x2(u32 a, u32 b) {
  u32 d;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}
DEVICE u32 add_f16x2(u32 a, u32 b) {
  u32 d;
  asm("add.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}
DEVICE u32 fma_f16x2(u32 a, u32 b, u32 c) {
  u32 d;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

#else

DEVICE float f32_from_f16(u16 h) {
  const u32 sign = static_cast<u32>(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
  if (magnitude >= 0x7c00u) return bits<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude < 0x400u) return bits<float>(sign | bits<u32>(static_cast<float>(magnitude) * 0x1p-24f));
  return bits<float>(sign | ((magnitude << 13) + 0x38000000u));
}

// From double, so that fma_f16x2 rounds once: an f16 product plus an f16 fits in 53 bits or is far from every tie.
DEVICE u16 f16_from_f64(double value) {
  const u64 all = bits<u64>(value), magnitude = all & 0x7fffffffffffffffull;
  const u32 sign = static_cast<u32>(all >> 48) & 0x8000u;
  if (magnitude > 0x7ff0000000000000ull) return 0x7fff;
  if (magnitude >= 0x40f0000000000000ull) return static_cast<u16>(sign | 0x7c00u);  // 65536 and above
  if (magnitude < 0x3f10000000000000ull) {                                          // below 2^-14: rounds at 2^-24
    const double sum = bits<double>(magnitude) + 0x1.8p28;
    return static_cast<u16>(sign | static_cast<u32>(bits<u64>(sum) - bits<u64>(0x1.8p28)));
  }
  const u64 rounded = magnitude - 0x3f00000000000000ull + 0x1ffffffffffull + (magnitude >> 42 & 1u);
  return static_cast<u16>(sign | static_cast<u32>(rounded >> 42));
}
DEVICE u16 f16_from_f32(float f) { return f16_from_f64(f); }

DEVICE u32 multiply_f16x2(u32 a, u32 b) {
  const auto one = [](u32 x, u32 y) {
    return u32{
        f16_from_f64(static_cast<double>(f32_from_f16(static_cast<u16>(x))) * f32_from_f16(static_cast<u16>(y)))};
  };
  return one(a & 0xffffu, b & 0xffffu) | one(a >> 16, b >> 16) << 16;
}
DEVICE u32 add_f16x2(u32 a, u32 b) {
  const auto one = [](u32 x, u32 y) {
    return u32{
        f16_from_f64(static_cast<double>(f32_from_f16(static_cast<u16>(x))) + f32_from_f16(static_cast<u16>(y)))};
  };
  return one(a & 0xffffu, b & 0xffffu) | one(a >> 16, b >> 16) << 16;
}
DEVICE u32 fma_f16x2(u32 a, u32 b, u32 c) {
  const auto one = [](u32 x, u32 y, u32 z) {
    const double product = static_cast<double>(f32_from_f16(static_cast<u16>(x))) * f32_from_f16(static_cast<u16>(y));
    return u32{f16_from_f64(product + f32_from_f16(static_cast<u16>(z)))};
  };
  return one(a & 0xffffu, b & 0xffffu, c & 0xffffu) | one(a >> 16, b >> 16, c >> 16) << 16;
}

#endif

DEVICE u32 pack_f16(float low, float high) { return u32{f16_from_f32(low)} | u32{f16_from_f32(high)} << 16; }
DEVICE float low_f16(u32 pair) { return f32_from_f16(static_cast<u16>(pair & 0xffffu)); }
DEVICE float high_f16(u32 pair) { return f32_from_f16(static_cast<u16>(pair >> 16)); }

DEVICE float f32_from_bf16(u16 h) { return bits<float>(u32{h} << 16); }

}  // namespace ll::cuda
