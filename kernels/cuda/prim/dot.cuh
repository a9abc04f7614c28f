// Four 8-bit products and a sum in one instruction: c + sum over i of a[i] * b[i], byte i of each word, modulo 2^32.
// The letters say which operand is signed.
#pragma once

#include "prim/device.cuh"

namespace ll::cuda {

#if defined(__CUDACC__)

DEVICE int dp4a_ss(u32 a, u32 b, int c) {
  int d;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
DEVICE int dp4a_us(u32 a, u32 b, int c) {
  int d;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
DEVICE int dp4a_uu(u32 a, u32 b, int c) {
  int d;
  asm("dp4a.u32.u32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

#else

namespace emulated {
template <class A, class B>
inline int dp4a(u32 a, u32 b, int c) {
  u32 sum = static_cast<u32>(c);
  for (int i = 0; i < 32; i += 8) {
    sum += static_cast<u32>(int{static_cast<A>(a >> i & 0xffu)} * int{static_cast<B>(b >> i & 0xffu)});
  }
  return static_cast<int>(sum);
}
}  // namespace emulated

DEVICE int dp4a_ss(u32 a, u32 b, int c) { return emulated::dp4a<i8, i8>(a, b, c); }
DEVICE int dp4a_us(u32 a, u32 b, int c) { return emulated::dp4a<u8, i8>(a, b, c); }
DEVICE int dp4a_uu(u32 a, u32 b, int c) { return emulated::dp4a<u8, u8>(a, b, c); }

#endif

}  // namespace ll::cuda
