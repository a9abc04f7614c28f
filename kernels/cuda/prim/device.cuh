// Qualifiers, indices and shared memory, under nvcc, NVRTC and, without __CUDACC__, any C++ compiler: that is how the
// emulator and editors read a kernel.
#pragma once

#include "prim/args.h"

#if defined(__CUDACC__)

// Array of the block: SHARED(float, partial, 32). One declaration an array, so that the emulator sees an access past
// its end. Aligned to 16 bytes; contents undefined.
#define SHARED(Type, name, count) __shared__ __align__(16) Type name[count]

#define DEVICE __device__ __forceinline__

namespace ll::cuda {
extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];
DEVICE void* dynamic_shared() { return dynamic_shared_memory; }
}  // namespace ll::cuda

#else

#include "prim/emulated.h"

#define LLCUDA_EMULATOR 1

namespace ll::cuda::emulated {
// Set by the emulator when it has loaded the instance.
extern "C" {
__attribute__((visibility("default"))) inline const Runtime* ll_emulator = nullptr;
}
}  // namespace ll::cuda::emulated

#define __device__
#define __global__ __attribute__((visibility("default"), used))
#define __launch_bounds__(...)
#define __forceinline__ inline
#define DEVICE inline
#define threadIdx (::ll::cuda::emulated::ll_emulator->thread)
#define blockIdx (::ll::cuda::emulated::ll_emulator->block)
#define blockDim (::ll::cuda::emulated::ll_emulator->block_dim)
#define gridDim (::ll::cuda::emulated::ll_emulator->grid_dim)
#define SHARED(Type, name, count) \
  static char name##_site;        \
  Type(&name)[count] =            \
      *static_cast<Type(*)[count]>(::ll::cuda::emulated::ll_emulator->shared(&name##_site, sizeof(Type[count])))

namespace ll::cuda {
DEVICE void* dynamic_shared() { return emulated::ll_emulator->shared(nullptr, 0); }
}  // namespace ll::cuda

#endif

namespace ll::cuda {

// NVRTC has no <cstdint>.
using i8 = signed char;
using u8 = unsigned char;
using i16 = short;
using u16 = unsigned short;
using i32 = int;
using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;

// What one lane loads or stores at once.
struct alignas(8) U32x2 {
  u32 x, y;
};
struct alignas(16) U32x4 {
  u32 x, y, z, w;
};
struct alignas(8) F32x2 {
  float x, y;
};
struct alignas(16) F32x4 {
  float x, y, z, w;
};

inline constexpr int kWarp = 32;
inline constexpr u32 kAllLanes = 0xffffffffu;

DEVICE int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
DEVICE int warp() { return static_cast<int>(threadIdx.x) / kWarp; }

template <class To, class From>
DEVICE constexpr To bits(From from) {
  return __builtin_bit_cast(To, from);
}

// A float constant of an instance, which the prologue writes as its bits.
DEVICE constexpr float float_constant(i64 constant) { return bits<float>(static_cast<u32>(constant)); }

// The same value, which the compiler believes to be another: it computes again what depends on it instead of keeping
// that in registers.
DEVICE int recomputed(int value) {
#if defined(__CUDACC__)
  asm volatile("" : "+r"(value));
#endif
  return value;
}

}  // namespace ll::cuda
