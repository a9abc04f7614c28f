// Activations to q8a, in slabs where a call wants them (kernels/quant/q8a_slabs.h); else AVX-512's.
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "kernels/cpu/amx/amx.h"
#include "kernels/cpu/avx2/avx2.h"
#include "kernels/cpu/avx512/avx512.h"
#include "kernels/quant/q8a_slabs.h"

namespace ll::amx {
namespace {

// What `count` values, a multiple of 64, are multiplied with to become codes, 0 if these are all 0; their scale.
float inverse_scale(const float* x, int64_t count, float& scale) {
  // As integers, so that NaN is above infinity.
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i most[4] = {};
  for (int64_t i = 0; i < count; i += 64) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      most[j] = _mm512_max_epi32(most[j], _mm512_and_si512(_mm512_loadu_si512(x + i + 16 * j), magnitude));
    }
  }
  const __m512i all = _mm512_max_epi32(_mm512_max_epi32(most[0], most[1]), _mm512_max_epi32(most[2], most[3]));
  const auto largest = std::bit_cast<float>(_mm512_reduce_max_epi32(all));
  scale = 0;
  if (!(largest < std::numeric_limits<float>::infinity())) {
    scale = std::numeric_limits<float>::quiet_NaN();
    return 0;
  }
  if (largest < kQ8aSmallest) return 0;
  scale = largest / 127;
  return 127 / largest;
}

// 64 of them, past the caches: products of all threads read them, and lines that another core changed come slower than
// those from memory.
void write_codes(const float* x, float inverse, std::byte* to) {
  // Dword 4 a + b to place 4 b + a.
  const __m512i turned = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __mmask16 some = inverse != 0 ? 0xffff : 0;
  __m512i code[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    code[j] = _mm512_maskz_cvtps_epi32(some, _mm512_mul_ps(_mm512_loadu_ps(x + 16 * j), _mm512_set1_ps(inverse)));
  }
  const __m512i packed = _mm512_packs_epi16(_mm512_packs_epi32(code[0], code[1]), _mm512_packs_epi32(code[2], code[3]));
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), _mm512_permutexvar_epi32(turned, packed));
}

// Values [first, first + kSlabScale) of kRows tokens from t on of a slab, or as many as k has: x are token t's, those
// of the next one `distance` behind them. Lines side by side are written one after the other.
template <int kRows>
void write_slab(const float* x, int64_t distance, int64_t t, int64_t first, int64_t k, std::byte* slab) {
  const int64_t count = std::min(kSlabScale, k - first);
  float inverse[kRows];
  for (int i = 0; i < kRows; ++i) {
    inverse[i] = inverse_scale(x + i * distance, count, *reinterpret_cast<float*>(slab + slab_scale(t + i, first, k)));
  }
  for (int64_t j = 0; j < count; j += 64) {
    for (int i = 0; i < kRows; ++i) {
      write_codes(x + i * distance + j, inverse[i], slab + slab_codes(t + i, first + j));
    }
  }
}

std::byte* slab_of(const TensorView& y, int64_t t) { return y.row<std::byte>(t / kSlabTokens * kSlabTokens); }

void quantize_row(const KernelCall& call, int64_t t, const float* x) {
  const TensorView& y = call.out[0];
  const int64_t k = y.last();
  if (!call.slabs || t >= slab_tokens(y.dim(0), k)) return avx512::quantize_row(call, t, x);
  for (int64_t i = 0; i < k; i += kSlabScale) write_slab<1>(x + i, 0, t % kSlabTokens, i, k, slab_of(y, t));
}

}  // namespace

void quantize(const KernelCall& call) {
  constexpr int kRows = 16;  // whose 512 values the L1 cache holds
  const TensorView &x = call.in[0], &y = call.out[0];
  const int64_t k = y.last(), in_slabs = call.slabs ? slab_tokens(y.dim(0), k) : 0;
  if (in_slabs == 0) return avx512::quantize(call);
  const Range range = split(y.dim(0), kSlabTokens, call.thread, call.threads);
  int64_t t = range.begin;
  for (; t < std::min(range.end, in_slabs); t += kRows) {
    for (int64_t i = 0; i < k; i += kSlabScale) {
      write_slab<kRows>(x.row<float>(t) + i, x.row_bytes / 4, t % kSlabTokens, i, k, slab_of(y, t));
    }
  }
  for (; t < range.end; ++t) avx512::quantize_row(call, t, x.row<float>(t));
  _mm_sfence();
}
void norm_quantize(const KernelCall& call) {
  avx2::norm_quantize_with(call, quantize_row);
  if (call.slabs && has_slabs(call.out[0].dim(0))) _mm_sfence();
}

}  // namespace ll::amx
