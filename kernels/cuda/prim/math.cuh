// Arithmetic whose bits are the same on every device and in the emulator. Sources are compiled without contraction
// (--fmad=false; kernels/cuda/prologue.h), so that a * b + c is two roundings everywhere; fma() is one. Division and
// sqrtf are IEEE. Subnormals are kept.
#pragma once

#include "prim/device.cuh"

namespace ll::cuda {

#if defined(__CUDACC__)

DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEVICE double fma(double a, double b, double c) { return __fma_rn(a, b, c); }
DEVICE float square_root(float x) { return __fsqrt_rn(x); }
DEVICE int round_to_int(float x) { return __float2int_rn(x); }
DEVICE u32 multiply_high(u32 a, u32 b) { return __umulhi(a, b); }
// The byte of { b, a } (b the upper four) that each nibble of `selector` names, lowest first; bit 3 of a nibble: its
// sign eight times (which __byte_perm would mask away).
DEVICE u32 permute_bytes(u32 a, u32 b, u32 selector) {
  u32 d;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(selector));
  return d;
}
// (a & mask) | b as one instruction.
DEVICE u32 and_or(u32 a, u32 mask, u32 b) {
  u32 d;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(d) : "r"(a), "r"(mask), "r"(b));
  return d;
}
DEVICE int leading_zeros(u32 x) { return __clz(static_cast<int>(x)); }
DEVICE int count_ones(u32 x) { return __popc(x); }
DEVICE int lowest_one(u32 x) { return __ffs(static_cast<int>(x)) - 1; }

#else

DEVICE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
DEVICE float square_root(float x) { return __builtin_sqrtf(x); }
// Nearest even. As the device: NaN is 0, what lies beyond is the nearest int.
DEVICE int round_to_int(float x) {
  if (x != x) return 0;
  if (x >= 0x1p31f) return 0x7fffffff;
  if (x <= -0x1p31f) return -0x7fffffff - 1;
  return static_cast<int>(__builtin_rintf(x));
}
DEVICE u32 multiply_high(u32 a, u32 b) { return static_cast<u32>((u64{a} * b) >> 32); }
DEVICE u32 permute_bytes(u32 a, u32 b, u32 selector) {
  const u64 both = u64{b} << 32 | a;
  u32 d = 0;
  for (int i = 0; i < 4; ++i) {
    const u32 nibble = selector >> (4 * i) & 15u;
    u32 byte = static_cast<u32>(both >> (8 * (nibble & 7u))) & 0xffu;
    if ((nibble & 8u) != 0) byte = (byte & 0x80u) != 0 ? 0xffu : 0u;
    d |= byte << (8 * i);
  }
  return d;
}
DEVICE u32 and_or(u32 a, u32 mask, u32 b) { return (a & mask) | b; }
DEVICE int leading_zeros(u32 x) { return x == 0 ? 32 : __builtin_clz(x); }
DEVICE int count_ones(u32 x) { return __builtin_popcount(x); }
DEVICE int lowest_one(u32 x) { return __builtin_ffs(static_cast<int>(x)) - 1; }

#endif

DEVICE int minimum(int a, int b) { return a < b ? a : b; }
DEVICE int maximum(int a, int b) { return a > b ? a : b; }
// The other number where one is NaN.
DEVICE float maximum(float a, float b) { return a > b || b != b ? a : b; }
DEVICE float minimum(float a, float b) { return a < b || b != b ? a : b; }
DEVICE float magnitude(float x) { return bits<float>(bits<u32>(x) & 0x7fffffffu); }
DEVICE bool is_nan(float x) { return x != x; }

// 2^x within 2 ulp for x in [-126, 128), of larger ones nothing useful; 0 below; NaN stays.
// x = n + f, |f| <= 1/2: a polynomial for 2^f (relative error 4e-9 before rounding), then n into the exponent.
DEVICE float exp2(float x) {
  const float clamped = x < -126.0f ? -126.0f : x;
  const float shifted = clamped + 0x1.8p23f;
  const float f = clamped - (shifted - 0x1.8p23f);
  float p = 0x1.418bbep-13f;
  p = fma(p, f, 0x1.5f225ap-10f);
  p = fma(p, f, 0x1.3b2dc0p-7f);
  p = fma(p, f, 0x1.c6af1ep-5f);
  p = fma(p, f, 0x1.ebfbdcp-3f);
  p = fma(p, f, 0x1.62e430p-1f);
  p = fma(p, f, 1.0f);
  const float y = bits<float>(bits<u32>(p) + (bits<u32>(shifted) << 23));
  const float flushed = x < -126.0f ? 0.0f : y;
  return x != x ? x : flushed;
}

// e^x within 3 ulp down to 2^-126 and 0 below: x = n ln(2) + r, ln(2) in two parts.
DEVICE float exp(float x) {
  if (x > 89.0f) return bits<float>(0x7f800000u);
  if (x < -87.0f) return 0.0f;
  const float shifted = fma(x, 1.44269504f, 0x1.8p23f), n = shifted - 0x1.8p23f;
  float r = fma(n, -0x1.62e400p-1f, x);
  r = fma(n, -0x1.7f7d1cp-20f, r);
  float p = 0x1.6a68e4p-10f;
  p = fma(p, r, 0x1.1251b4p-7f);
  p = fma(p, r, 0x1.5558a0p-5f);
  p = fma(p, r, 0x1.555440p-3f);
  p = fma(p, r, 0x1.fffffcp-2f);
  p = fma(p, r, 1.0f);
  p = fma(p, r, 1.0f);
  // In two steps: 2^128 is no float, though its product with p may be below infinity.
  const int whole = static_cast<int>(n), half = whole / 2;
  return p * bits<float>(static_cast<u32>(half + 127) << 23) * bits<float>(static_cast<u32>(whole - half + 127) << 23);
}

// sine and cosine of |angle| < 2^26 rounded once from an error of 2^-45: reduced by pi/2 in two parts, then Taylor
// polynomials on [-pi/4, pi/4], all in double.
DEVICE void sine_cosine(float angle, float& sine, float& cosine) {
  const double x = angle;
  const double shifted = fma(x, 0x1.45f306dc9c883p-1, 0x1.8p52), n = shifted - 0x1.8p52;
  double r = fma(n, -0x1.921fb54442d18p0, x);
  r = fma(n, -0x1.1a62633145c07p-54, r);
  const double z = r * r;
  double s = -0x1.ae64567f544e4p-26;
  s = fma(s, z, 0x1.71de3a556c734p-19);
  s = fma(s, z, -0x1.a01a01a01a01ap-13);
  s = fma(s, z, 0x1.1111111111111p-7);
  s = fma(s, z, -0x1.5555555555555p-3);
  s = fma(s * z, r, r);
  double c = 0x1.1eed8eff8d898p-29;
  c = fma(c, z, -0x1.27e4fb7789f5cp-22);
  c = fma(c, z, 0x1.a01a01a01a01ap-16);
  c = fma(c, z, -0x1.6c16c16c16c17p-10);
  c = fma(c, z, 0x1.5555555555555p-5);
  c = fma(c, z, -0.5);
  c = fma(c, z, 1.0);
  const u32 quadrant = static_cast<u32>(bits<u64>(shifted));
  const float a = static_cast<float>((quadrant & 1u) != 0 ? c : s),
              b = static_cast<float>((quadrant & 1u) != 0 ? s : c);
  sine = (quadrant & 2u) != 0 ? -a : a;
  cosine = ((quadrant + 1u) & 2u) != 0 ? -b : b;
}

// 1 / x within 2 ulp for x in [2^-100, 2^100]; NaN stays. Newton's iteration from an error of 12 %: unlike a division
// it has no slow path, whose call would keep registers from everything around it.
DEVICE float reciprocal(float x) {
  float y = bits<float>(0x7ef311c7u - bits<u32>(x));
#pragma unroll
  for (int i = 0; i < 4; ++i) y = fma(y, fma(-x, y, 1.0f), y);
  return y;
}

// 1 / sqrt(x), two IEEE roundings.
DEVICE float reciprocal_root(float x) { return 1.0f / square_root(x); }

}  // namespace ll::cuda
