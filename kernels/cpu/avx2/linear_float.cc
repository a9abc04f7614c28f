// f32, f16 and bf16 rows times f32 activations. An output is one register of eight sums, FMA in ascending k, the rest
// of a row padded with zeros, then sum_lanes; several rows and tokens run side by side to hide the latency.
#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/avx2/linear_dots.h"
#include "kernels/cpu/avx2/vector.h"

namespace ll::avx2 {
namespace {

struct F32 {
  static constexpr int kBytes = 4;
  static __m256 load(const std::byte* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
};
struct F16 {
  static constexpr int kBytes = 2;
  static __m256 load(const std::byte* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
};
struct BF16 {
  static constexpr int kBytes = 2;
  static __m256 load(const std::byte* p) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
};

template <class F, int kRows, int kTokens>
void dot_block(const std::byte* w, int64_t k, const DotTokens& tokens, float* out) {
  const std::byte* x = tokens.rows;
  const int64_t x_row_bytes = tokens.row_bytes;
  const int64_t row = k * F::kBytes, whole = k & ~int64_t{7};
  __m256 sum[kRows][kTokens];
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTokens; ++t) sum[r][t] = _mm256_setzero_ps();
  }
  const auto add = [&](const std::byte* const(&wp)[kRows], const __m256(&xs)[kTokens]) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m256 wv = F::load(wp[r]);
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) sum[r][t] = _mm256_fmadd_ps(wv, xs[t], sum[r][t]);
    }
  };
  const std::byte* wp[kRows];
  __m256 xs[kTokens];
  for (int64_t i = 0; i < whole; i += 8) {
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) xs[t] = F32::load(x + t * x_row_bytes + 4 * i);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) wp[r] = w + r * row + F::kBytes * i;
    add(wp, xs);
  }
  if (whole < k) {
    alignas(32) std::byte rest[kRows][8 * F::kBytes] = {};
    for (int t = 0; t < kTokens; ++t) {
      xs[t] = load_part(reinterpret_cast<const float*>(x + t * x_row_bytes) + whole, k - whole);
    }
    for (int r = 0; r < kRows; ++r) {
      std::memcpy(rest[r], w + r * row + F::kBytes * whole, static_cast<size_t>((k - whole) * F::kBytes));
      wp[r] = rest[r];
    }
    add(wp, xs);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTokens; ++t) out[16 * t + r] = sum_lanes(sum[r][t]);
  }
}

template <class F, int kTokens>
void dot_rows(const std::byte* w, int64_t rows, int64_t k, const DotTokens& x, float* out) {
  constexpr int kRows = 8 / kTokens;
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows) {
    dot_block<F, kRows, kTokens>(w + r * k * F::kBytes, k, x, out + r);
  }
  for (; r < rows; ++r) dot_block<F, 1, kTokens>(w + r * k * F::kBytes, k, x, out + r);
}

template <class F>
constexpr Dots dots_of(DType dtype) {
  return {dtype, dots_of_tokens<4>([]<int kTokens> { return &dot_rows<F, kTokens>; })};
}
constexpr Dots kDots[] = {dots_of<F32>(DType::kF32), dots_of<F16>(DType::kF16), dots_of<BF16>(DType::kBF16)};

}  // namespace

const Dots* float_dots(DType dtype) {
  for (const Dots& d : kDots) {
    if (d.dtype == dtype) return &d;
  }
  return nullptr;
}

}  // namespace ll::avx2
