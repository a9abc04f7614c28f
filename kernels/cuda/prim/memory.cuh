// Loads, stores and atomics of device memory. Vector words need addresses that are a multiple of their size.
#pragma once

#include "prim/device.cuh"

namespace ll::cuda {

#if defined(__CUDACC__)

// Read once and by this block alone (weights, KV of a decode step): leaves no line in L1.
DEVICE U32x4 load_once(const U32x4* p) {
  U32x4 v;
  asm("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
      : "l"(p));
  return v;
}
DEVICE U32x2 load_once(const U32x2* p) {
  U32x2 v;
  asm("ld.global.nc.L1::no_allocate.L2::128B.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p));
  return v;
}
DEVICE u32 load_once(const u32* p) {
  u32 v;
  asm("ld.global.nc.L1::no_allocate.L2::128B.u32 %0, [%1];" : "=r"(v) : "l"(p));
  return v;
}
// Not written while the kernel runs.
DEVICE U32x4 load_constant(const U32x4* p) {
  U32x4 v;
  asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}
DEVICE U32x2 load_constant(const U32x2* p) {
  U32x2 v;
  asm("ld.global.nc.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p));
  return v;
}
DEVICE u32 load_constant(const u32* p) {
  u32 v;
  asm("ld.global.nc.u32 %0, [%1];" : "=r"(v) : "l"(p));
  return v;
}
// Written by another block of this kernel: past L1, which may hold what was there before.
DEVICE float load_fresh(const float* p) {
  float v;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(p) : "memory");
  return v;
}
// Brings the line of p into L2.
DEVICE void prefetch(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

// What this thread wrote before is seen, on the whole device, before what it writes after.
DEVICE void fence() { __threadfence(); }
DEVICE u32 load_acquire(const u32* p) {
  u32 v;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
DEVICE void store_release(u32* p, u32 v) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
DEVICE void sleep(u32 nanoseconds) { __nanosleep(nanoseconds); }

// Each returns what was there before.
DEVICE u32 atomic_add(u32* p, u32 v) { return atomicAdd(p, v); }
DEVICE int atomic_add(int* p, int v) { return atomicAdd(p, v); }
DEVICE u32 atomic_max(u32* p, u32 v) { return atomicMax(p, v); }
DEVICE u64 atomic_max(u64* p, u64 v) { return atomicMax(p, v); }
DEVICE u32 atomic_or(u32* p, u32 v) { return atomicOr(p, v); }
DEVICE u32 atomic_exchange(u32* p, u32 v) { return atomicExch(p, v); }
DEVICE u32 atomic_compare(u32* p, u32 expected, u32 v) { return atomicCAS(p, expected, v); }

#else

namespace emulated {
template <class T>
inline T load_vector(const T* p) {
  if (bits<u64>(p) % alignof(T) != 0) ll_emulator->fail("a vector load from an address that is not aligned");
  return *p;
}
}  // namespace emulated

DEVICE U32x4 load_once(const U32x4* p) { return emulated::load_vector(p); }
DEVICE U32x2 load_once(const U32x2* p) { return emulated::load_vector(p); }
DEVICE u32 load_once(const u32* p) { return emulated::load_vector(p); }
DEVICE U32x4 load_constant(const U32x4* p) { return emulated::load_vector(p); }
DEVICE U32x2 load_constant(const U32x2* p) { return emulated::load_vector(p); }
DEVICE u32 load_constant(const u32* p) { return emulated::load_vector(p); }
DEVICE float load_fresh(const float* p) { return *p; }
DEVICE void prefetch(const void*) {}

DEVICE void fence() {}
DEVICE u32 load_acquire(const u32* p) {
  emulated::ll_emulator->pause();
  return *static_cast<const volatile u32*>(p);
}
DEVICE void store_release(u32* p, u32 v) { *static_cast<volatile u32*>(p) = v; }
DEVICE void sleep(u32) { emulated::ll_emulator->pause(); }

namespace emulated {
template <class T>
inline T exchange(T* p, T v) {
  const T before = *static_cast<volatile T*>(p);
  *static_cast<volatile T*>(p) = v;
  return before;
}
}  // namespace emulated

// Where other blocks may come between, they may come before it.
DEVICE u32 atomic_add(u32* p, u32 v) {
  emulated::ll_emulator->pause();
  return emulated::exchange(p, *p + v);
}
DEVICE int atomic_add(int* p, int v) {
  emulated::ll_emulator->pause();
  return emulated::exchange(p, *p + v);
}
DEVICE u32 atomic_max(u32* p, u32 v) {
  emulated::ll_emulator->pause();
  return emulated::exchange(p, *p > v ? *p : v);
}
DEVICE u64 atomic_max(u64* p, u64 v) {
  emulated::ll_emulator->pause();
  return emulated::exchange(p, *p > v ? *p : v);
}
DEVICE u32 atomic_or(u32* p, u32 v) {
  emulated::ll_emulator->pause();
  return emulated::exchange(p, *p | v);
}
DEVICE u32 atomic_exchange(u32* p, u32 v) {
  emulated::ll_emulator->pause();
  return emulated::exchange(p, v);
}
DEVICE u32 atomic_compare(u32* p, u32 expected, u32 v) {
  emulated::ll_emulator->pause();
  const u32 before = *static_cast<volatile u32*>(p);
  if (before == expected) *static_cast<volatile u32*>(p) = v;
  return before;
}

#endif

DEVICE F32x4 load_constant(const F32x4* p) { return bits<F32x4>(load_constant(reinterpret_cast<const U32x4*>(p))); }

}  // namespace ll::cuda
