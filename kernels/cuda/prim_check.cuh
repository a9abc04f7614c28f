// Every word of prim/ over random inputs, for comparison of a device with the emulator bit for bit: row r of the output
// is the result that kernels/cuda/prim_check.cc names in line r.
//
//   in: u32 [blocks * kThreads, 8] random bits      out: u32 [kResults, blocks * kThreads]
//   workspace: 16 bytes for each thread, zeroed
#pragma once

#include "prim/activate.cuh"
#include "prim/block.cuh"
#include "prim/convert.cuh"
#include "prim/dot.cuh"
#include "prim/math.cuh"
#include "prim/memory.cuh"
#include "prim/mma.cuh"

namespace ll::cuda {

// A finite number of either sign, 2^low to 2^(low + 32).
DEVICE float finite_float(u32 random, int low) {
  return bits<float>((random & 0x807fffffu) | (static_cast<u32>(127 + low) + (random >> 23 & 31u)) << 23);
}
// Two finite halves, 2^-10 to 2^6.
DEVICE u32 finite_halves(u32 random) {
  return (random & 0x83ff83ffu) | ((random >> 10 & 0x000f000fu) + 0x00050005u) << 10;
}
// Two small whole numbers, -8 to 7: their products and sums are exact.
DEVICE u32 whole_halves(u32 random) {
  return pack_f16(static_cast<float>(static_cast<int>(random & 15u) - 8),
                  static_cast<float>(static_cast<int>(random >> 4 & 15u) - 8));
}
// In (-reach, reach).
DEVICE float within(u32 random, float reach) { return static_cast<float>(static_cast<int>(random)) * 0x1p-31f * reach; }

// C: kThreads, kResults.
template <class C>
__device__ void prim_check(const Args& args) {
  const u32 thread = blockIdx.x * C::kThreads + threadIdx.x, threads = gridDim.x * C::kThreads;
  const U32x4* in = static_cast<const U32x4*>(args.in[0]) + 2 * thread;
  const U32x4 r = load_once(in), q = load_constant(in + 1);
  const U32x2 pair = load_once(reinterpret_cast<const U32x2*>(in));
  u32* out = static_cast<u32*>(args.out[0]) + thread;
  const auto put = [&](u32 value) {
    *out = value;
    out += threads;
  };
  const auto put_float = [&](float value) { put(bits<u32>(value)); };
  const float a = finite_float(r.x, -16), b = finite_float(r.y, -16), c = finite_float(r.z, -16);
  const float tiny = finite_float(r.w, -140);  // f16 and f32 subnormals too

  put(pair.x ^ pair.y ^ load_once(reinterpret_cast<const u32*>(in)) ^ load_constant(reinterpret_cast<const u32*>(in)));
  put_float(fma(a, b, c));
  put_float(a * b + c);
  put_float(square_root(magnitude(a)));
  put_float(a / b);
  put_float(reciprocal(magnitude(a)));
  put_float(reciprocal_root(magnitude(b)));
  put_float(exp2(within(r.x, 140.0f) - 12.0f));
  put_float(exp(within(r.y, 95.0f)));
  float sine, cosine;
  sine_cosine(within(r.z, 0x1p22f), sine, cosine);
  put_float(sine);
  put_float(cosine);
  put_float(activate<kSilu>(within(r.x, 30.0f)));
  put_float(activate<kGelu>(within(r.y, 30.0f)));
  put_float(activate<kGeluTanh>(within(r.z, 30.0f)));
  put_float(activate<kRelu>(a));
  put(static_cast<u32>(round_to_int(within(r.x, 1000.0f))));
  put(static_cast<u32>(round_to_int(static_cast<float>(static_cast<int>(r.y & 255u) - 128) * 0.5f)));  // ties
  put(static_cast<u32>(round_to_int(finite_float(r.z, 20))));
  put(multiply_high(r.x, r.y));
  put(permute_bytes(r.x, r.y, r.z));
  put(and_or(r.x, r.y, r.z));
  put(static_cast<u32>(leading_zeros(r.x >> (r.y & 31u))));
  put(static_cast<u32>(count_ones(r.x)));
  put(static_cast<u32>(lowest_one(r.x << (r.y & 31u))));

  put(u32{f16_from_f32(within(r.x, 70000.0f))});
  put(u32{f16_from_f32(finite_float(r.w, -30))});
  put(u32{f16_from_f32(tiny)});
  put_float(f32_from_f16(static_cast<u16>(r.x & 0xfbffu)));
  put_float(f32_from_bf16(static_cast<u16>(r.x & 0xff7fu)));
  put(multiply_f16x2(finite_halves(r.x), finite_halves(r.y)));
  put(add_f16x2(finite_halves(r.x), finite_halves(r.y)));
  put(fma_f16x2(finite_halves(r.x), finite_halves(r.y), finite_halves(r.z)));

  put(static_cast<u32>(dp4a_ss(r.x, r.y, static_cast<int>(r.z))));
  put(static_cast<u32>(dp4a_us(r.x, r.y, static_cast<int>(r.z))));
  put(static_cast<u32>(dp4a_uu(r.x, r.y, static_cast<int>(r.z))));

  put(shuffle(r.x, static_cast<int>(r.y & 31u)));
  put(shuffle_xor(r.x, 9));
  put(shuffle_up(r.x, 3));
  put(shuffle_down(r.x, 5));
  put(ballot((r.x & 1u) != 0));
  put_float(warp_sum(a));
  put(static_cast<u32>(warp_sum<8>(static_cast<int>(r.x >> 8))));
  put(warp_max(r.x));
  put_float(warp_max<4>(a));
  put_float(block_sum<C::kThreads>(a));
  put_float(block_max<C::kThreads>(a));
  put(static_cast<u32>(sync_block_count((r.x & 1u) != 0)));

  float f[4] = {static_cast<float>(r.x & 63u), static_cast<float>(r.y & 63u), -static_cast<float>(r.z & 63u), 0.0f};
  mma_m16n8k8_f16(f, whole_halves(q.x), whole_halves(q.y), whole_halves(q.z));
  for (int i = 0; i < 4; ++i) put_float(f[i]);
  int d[2] = {static_cast<int>(r.x), static_cast<int>(r.y)};
  mma_m8n8k16_ss(d, q.x, q.y);
  put(static_cast<u32>(d[0])), put(static_cast<u32>(d[1]));
  mma_m8n8k16_us(d, q.z, q.w);
  put(static_cast<u32>(d[0])), put(static_cast<u32>(d[1]));

  SHARED(U32x4, tile, C::kThreads);
  tile[threadIdx.x] = q;
  sync_block();
  // Rows in an order of their own, so that an address given by the wrong lane shows.
  const U32x4* rows = tile + warp() * kWarp;
  u32 m1[1], m2[2], m4[4];
  load_matrix_x4(m4, rows + (lane() * 5 + 3) % kWarp);
  for (int i = 0; i < 4; ++i) put(m4[i]);
  load_matrix_x4_transposed(m4, rows + (lane() * 11 + 1) % kWarp);
  for (int i = 0; i < 4; ++i) put(m4[i]);
  load_matrix_x2(m2, rows + (lane() * 7 + 2) % kWarp);
  put(m2[0]), put(m2[1]);
  load_matrix_x2_transposed(m2, rows + (lane() * 3 + 4) % kWarp);
  put(m2[0]), put(m2[1]);
  load_matrix_x1(m1, rows + (lane() * 13 + 5) % kWarp);
  put(m1[0]);

  u32* own = static_cast<u32*>(args.workspace) + 4 * thread;
  const u32 before = atomic_add(own, r.x);
  put(before ^ atomic_max(own, r.y) ^ atomic_or(own, r.z));
  put(atomic_compare(own, (r.x > r.y ? r.x : r.y) | r.z, r.w));
  put(atomic_exchange(own, 0));
  const u64 high = u64{r.x} << 32 | r.y;
  atomic_max(reinterpret_cast<u64*>(own + 2), high);
  put(static_cast<u32>(atomic_max(reinterpret_cast<u64*>(own + 2), u64{0}) >> 32));
  store_release(own + 2, 0);
  store_release(own + 3, load_acquire(own + 2));
  put(bits<u32>(load_fresh(reinterpret_cast<const float*>(own + 3))));
}

}  // namespace ll::cuda
