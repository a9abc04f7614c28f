// Tensor core words of sm_75, each reached by a whole warp together. With g = lane / 4 and t = lane % 4:
//
//   mma_m16n8k8_f16   d[16,8] = a[16,8] b[8,8] + d     a0: row g, columns 2t, 2t+1; a1: row g + 8
//                                                      b:  rows 2t, 2t+1 of column g
//                                                      d0, d1: row g, columns 2t, 2t+1; d2, d3: row g + 8
//   mma_m8n8k16_*     d[8,8] = a[8,16] b[16,8] + d     a: row g, columns 4t .. 4t+3; b: rows 4t .. 4t+3 of column g
//                                                      d0, d1: row g, columns 2t, 2t+1
//   load_matrix_xN    N matrices of 8 rows of 16 bytes from shared memory: lane i gives the address of row i % 8 of
//                     matrix i / 8 (of lanes beyond 8 N an aligned address that is not read) and gets, of each, bytes
//                     4t .. 4t+3 of row g. _transposed: 16-bit elements 2t and 2t+1 of column g.
//
// Integer words give the same bits everywhere (sums modulo 2^32). The f16 one does where all products and partial sums
// are exact in f32; else the devices add the eight products with truncation of their own, and the emulator rounds the
// exact sum once: they differ by at most 8 units in the last place of the largest term.
#pragma once

#include "prim/convert.cuh"
#include "prim/warp.cuh"

namespace ll::cuda {

#if defined(__CUDACC__)

DEVICE void mma_m16n8k8_f16(float (&d)[4], u32 a0, u32 a1, u32 b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(b));
}
DEVICE void mma_m8n8k16_ss(int (&d)[2], u32 a, u32 b) {
  asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
      : "+r"(d[0]), "+r"(d[1])
      : "r"(a), "r"(b));
}
DEVICE void mma_m8n8k16_us(int (&d)[2], u32 a, u32 b) {
  asm("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
      : "+r"(d[0]), "+r"(d[1])
      : "r"(a), "r"(b));
}
// d = a b + c
DEVICE void mma_m8n8k16_ss(int (&d)[2], u32 a, u32 b, const int (&c)[2]) {
  asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%4, %5};"
      : "=r"(d[0]), "=r"(d[1])
      : "r"(a), "r"(b), "r"(c[0]), "r"(c[1]));
}
DEVICE void mma_m8n8k16_us(int (&d)[2], u32 a, u32 b, const int (&c)[2]) {
  asm("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0, %1}, {%2}, {%3}, {%4, %5};"
      : "=r"(d[0]), "=r"(d[1])
      : "r"(a), "r"(b), "r"(c[0]), "r"(c[1]));
}

namespace device {
DEVICE u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }
}  // namespace device

DEVICE void load_matrix_x1(u32 (&d)[1], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
               : "=r"(d[0])
               : "r"(device::shared_address(row))
               : "memory");
}
DEVICE void load_matrix_x2(u32 (&d)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(d[0]), "=r"(d[1])
               : "r"(device::shared_address(row))
               : "memory");
}
DEVICE void load_matrix_x4(u32 (&d)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(device::shared_address(row))
               : "memory");
}
DEVICE void load_matrix_x2_transposed(u32 (&d)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(d[0]), "=r"(d[1])
               : "r"(device::shared_address(row))
               : "memory");
}
DEVICE void load_matrix_x4_transposed(u32 (&d)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(device::shared_address(row))
               : "memory");
}

#else

namespace emulated {

struct Half16 {
  u32 a0, a1, b;
  float d[4];
};
struct Four {
  float d[4];
};
inline void mma_f16_all(const Half16* in, Four* out) {
  float a[16][8], b[8][8];
  for (int i = 0; i < kWarp; ++i) {
    const int g = i / 4, t = i % 4;
    a[g][2 * t] = low_f16(in[i].a0), a[g][2 * t + 1] = high_f16(in[i].a0);
    a[g + 8][2 * t] = low_f16(in[i].a1), a[g + 8][2 * t + 1] = high_f16(in[i].a1);
    b[2 * t][g] = low_f16(in[i].b), b[2 * t + 1][g] = high_f16(in[i].b);
  }
  for (int i = 0; i < kWarp; ++i) {
    for (int e = 0; e < 4; ++e) {
      const int row = i / 4 + e / 2 * 8, column = i % 4 * 2 + e % 2;
      double sum = in[i].d[e];
      for (int k = 0; k < 8; ++k) sum += static_cast<double>(a[row][k]) * b[k][column];
      out[i].d[e] = static_cast<float>(sum);
    }
  }
}

struct Int8 {
  u32 a, b;
  int d[2];
};
struct Two {
  int d[2];
};
template <class A>
inline void mma_i8_all(const Int8* in, Two* out) {
  for (int i = 0; i < kWarp; ++i) {
    for (int e = 0; e < 2; ++e) {
      const int row = i / 4, column = i % 4 * 2 + e;
      u32 sum = static_cast<u32>(in[i].d[e]);
      for (int k = 0; k < 16; ++k) {
        const int left = static_cast<A>(in[4 * row + k / 4].a >> (k % 4 * 8) & 0xffu);
        const int right = static_cast<i8>(in[4 * column + k / 4].b >> (k % 4 * 8) & 0xffu);
        sum += static_cast<u32>(left * right);
      }
      out[i].d[e] = static_cast<int>(sum);
    }
  }
}

struct Row {
  const void* address;
};
template <int kCount>
struct Registers {
  u32 d[kCount];
};
template <int kCount, bool kTransposed>
inline void load_matrix_all(const Row* in, Registers<kCount>* out) {
  for (int i = 0; i < kWarp; ++i) {
    if (bits<u64>(in[i].address) % 16 != 0) ll_emulator->fail("load_matrix: an address is no multiple of 16");
  }
  for (int m = 0; m < kCount; ++m) {
    for (int i = 0; i < kWarp; ++i) {
      const auto element = [&](int row, int column) {
        return u32{static_cast<const u16*>(in[8 * m + row].address)[column]};
      };
      const int g = i / 4, t = i % 4;
      out[i].d[m] = kTransposed ? element(2 * t, g) | element(2 * t + 1, g) << 16
                                : element(g, 2 * t) | element(g, 2 * t + 1) << 16;
    }
  }
}
template <int kCount, bool kTransposed>
inline void load_matrix(u32 (&d)[kCount], const void* row) {
  const auto r = meet<Row, Registers<kCount>, load_matrix_all<kCount, kTransposed> >("load_matrix", {row});
  for (int i = 0; i < kCount; ++i) d[i] = r.d[i];
}

}  // namespace emulated

DEVICE void mma_m16n8k8_f16(float (&d)[4], u32 a0, u32 a1, u32 b) {
  const auto r = emulated::meet<emulated::Half16, emulated::Four, emulated::mma_f16_all>(
      "mma_m16n8k8_f16", {a0, a1, b, {d[0], d[1], d[2], d[3]}});
  for (int i = 0; i < 4; ++i) d[i] = r.d[i];
}
DEVICE void mma_m8n8k16_ss(int (&d)[2], u32 a, u32 b) {
  const auto r =
      emulated::meet<emulated::Int8, emulated::Two, emulated::mma_i8_all<i8> >("mma_m8n8k16_ss", {a, b, {d[0], d[1]}});
  d[0] = r.d[0], d[1] = r.d[1];
}
DEVICE void mma_m8n8k16_us(int (&d)[2], u32 a, u32 b) {
  const auto r =
      emulated::meet<emulated::Int8, emulated::Two, emulated::mma_i8_all<u8> >("mma_m8n8k16_us", {a, b, {d[0], d[1]}});
  d[0] = r.d[0], d[1] = r.d[1];
}
DEVICE void mma_m8n8k16_ss(int (&d)[2], u32 a, u32 b, const int (&c)[2]) {
  d[0] = c[0], d[1] = c[1];
  mma_m8n8k16_ss(d, a, b);
}
DEVICE void mma_m8n8k16_us(int (&d)[2], u32 a, u32 b, const int (&c)[2]) {
  d[0] = c[0], d[1] = c[1];
  mma_m8n8k16_us(d, a, b);
}
DEVICE void load_matrix_x1(u32 (&d)[1], const void* row) { emulated::load_matrix<1, false>(d, row); }
DEVICE void load_matrix_x2(u32 (&d)[2], const void* row) { emulated::load_matrix<2, false>(d, row); }
DEVICE void load_matrix_x4(u32 (&d)[4], const void* row) { emulated::load_matrix<4, false>(d, row); }
DEVICE void load_matrix_x2_transposed(u32 (&d)[2], const void* row) { emulated::load_matrix<2, true>(d, row); }
DEVICE void load_matrix_x4_transposed(u32 (&d)[4], const void* row) { emulated::load_matrix<4, true>(d, row); }

#endif

}  // namespace ll::cuda
