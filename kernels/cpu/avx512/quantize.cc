// Activations to q8a, eight groups of 32 at a time; in slabs where a call wants them (kernels/quant/q8a_slabs.h).
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "kernels/cpu/avx2/avx2.h"
#include "kernels/cpu/avx512/avx512.h"
#include "kernels/quant/q8a.h"
#include "kernels/quant/q8a_slabs.h"

namespace ll::avx512 {
namespace {

// The largest magnitudes of eight groups of 32 floats, one a lane. As integers, so that NaN is above infinity.
__m256i largest_of_groups(const float* x) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m256i of[8];
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) {
    const __m512i a = _mm512_loadu_si512(x + 32 * g), b = _mm512_loadu_si512(x + 32 * g + 16);
    const __m512i both = _mm512_max_epi32(_mm512_and_si512(a, magnitude), _mm512_and_si512(b, magnitude));
    of[g] = _mm256_max_epi32(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64(both, 1));
  }
  // What two registers hold of two groups becomes one that holds both: lanes, then pairs, then halves.
  for (int g = 0; g < 8; g += 2) {
    of[g] = _mm256_max_epi32(_mm256_unpacklo_epi32(of[g], of[g + 1]), _mm256_unpackhi_epi32(of[g], of[g + 1]));
  }
  for (int g = 0; g < 8; g += 4) {
    of[g] = _mm256_max_epi32(_mm256_unpacklo_epi64(of[g], of[g + 2]), _mm256_unpackhi_epi64(of[g], of[g + 2]));
  }
  return _mm256_max_epi32(_mm256_permute2x128_si256(of[0], of[4], 0x20), _mm256_permute2x128_si256(of[0], of[4], 0x31));
}

// In each lane the largest of all.
__m256i largest_lane(__m256i x) {
  x = _mm256_max_epi32(x, _mm256_permute2x128_si256(x, x, 1));
  x = _mm256_max_epi32(x, _mm256_shuffle_epi32(x, 0x4e));
  return _mm256_max_epi32(x, _mm256_shuffle_epi32(x, 0xb1));
}

// 256 finite values to codes[256], scales[8] and sums[16]; others: false.
bool quantize_256(DType dtype, const float* x, std::byte* codes, std::byte* scales, std::byte* sums) {
  __m256i bits = largest_of_groups(x);
  if (dtype == DType::kQ8A256) bits = largest_lane(bits);
  const __m256 largest = _mm256_castsi256_ps(bits), by = _mm256_set1_ps(127);
  const __m256 infinity = _mm256_set1_ps(std::numeric_limits<float>::infinity());
  if (_mm256_cmp_ps_mask(largest, infinity, _CMP_LT_OQ) != 0xff) return false;
  const __mmask8 some = _mm256_cmp_ps_mask(largest, _mm256_set1_ps(kQ8aSmallest), _CMP_GE_OQ);
  alignas(32) float inverse[8];  // 0: all codes are 0
  _mm256_store_ps(inverse, _mm256_maskz_div_ps(some, by, largest));
  _mm256_storeu_ps(reinterpret_cast<float*>(scales), _mm256_maskz_div_ps(some, largest, by));

  // Dword 4 a + b to place 4 b + a.
  const __m512i turned = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  __m512i sums_of_16 = _mm512_setzero_si512();
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // 64 of them
    __m512i code[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m512 by_group = _mm512_set1_ps(inverse[2 * i + j / 2]);
      code[j] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 64 * i + 16 * j), by_group));
    }
    const __m512i packed =
        _mm512_packs_epi16(_mm512_packs_epi32(code[0], code[1]), _mm512_packs_epi32(code[2], code[3]));
    const __m512i in_order = _mm512_permutexvar_epi32(turned, packed);
    _mm512_storeu_si512(codes + 64 * i, in_order);
    __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), in_order);
    sum = _mm512_add_epi32(sum, _mm512_shuffle_epi32(sum, _MM_PERM_CDAB));
    sum = _mm512_add_epi32(sum, _mm512_shuffle_epi32(sum, _MM_PERM_BADC));
    sums_of_16 = _mm512_mask_mov_epi32(sums_of_16, static_cast<__mmask16>(0x1111 << i), sum);
  }
  const __m256i halves = _mm512_cvtepi32_epi16(_mm512_permutexvar_epi32(turned, sums_of_16));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums), halves);
  return true;
}

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
  const int64_t size = y.last();
  if (call.slabs && t < slab_tokens(y.dim(0), size)) {
    for (int64_t i = 0; i < size; i += kSlabScale) write_slab<1>(x + i, 0, t % kSlabTokens, i, size, slab_of(y, t));
    return;
  }
  std::byte* const row = y.row<std::byte>(t);
  std::byte *const scales = row + size, *const sums = scales + size / kQ8aGroup * 4;
  for (int64_t i = 0; i < size; i += 256) {
    if (size - i >= 256 && quantize_256(y.dtype, x + i, row + i, scales + i / kQ8aGroup * 4, sums + i / 16 * 2))
      continue;
    avx2::quantize_part(y.dtype, x + i, i, std::min<int64_t>(256, size - i), size, row);
  }
}

}  // namespace

void quantize(const KernelCall& call) {
  constexpr int kRows = 16;  // whose 512 values the L1 cache holds
  const TensorView &x = call.in[0], &y = call.out[0];
  const int64_t k = y.last(), in_slabs = call.slabs ? slab_tokens(y.dim(0), k) : 0;
  if (in_slabs == 0) return avx2::quantize_with(call, quantize_row);
  const Range range = split(y.dim(0), kSlabTokens, call.thread, call.threads);
  int64_t t = range.begin;
  for (; t < std::min(range.end, in_slabs); t += kRows) {
    for (int64_t i = 0; i < k; i += kSlabScale) {
      write_slab<kRows>(x.row<float>(t) + i, x.row_bytes / 4, t % kSlabTokens, i, k, slab_of(y, t));
    }
  }
  for (; t < range.end; ++t) quantize_row(call, t, x.row<float>(t));
  _mm_sfence();
}
void norm_quantize(const KernelCall& call) {
  avx2::norm_quantize_with(call, quantize_row);
  if (call.slabs && has_slabs(call.out[0].dim(0))) _mm_sfence();
}

}  // namespace ll::avx512
