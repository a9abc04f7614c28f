#include <cmath>
#include <limits>

#include "kernels/cpu/avx2/avx2.h"
#include "kernels/cpu/avx2/vector.h"
#include "kernels/quant/q8a.h"

namespace ll::avx2 {
namespace {

// Of `count` values, a multiple of 32; NaN is above infinity.
float largest_of(const float* x, int64_t count) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i largest[4] = {};
  for (int64_t k = 0; k < count; k += kQ8aGroup) {
    for (int i = 0; i < 4; ++i) {
      const __m256i v = _mm256_castps_si256(_mm256_loadu_ps(x + k + 8 * i));
      largest[i] = _mm256_max_epi32(largest[i], _mm256_and_si256(v, magnitude));
    }
  }
  __m256 of_all[4];
  for (int i = 0; i < 4; ++i) of_all[i] = _mm256_castsi256_ps(largest[i]);
  return largest_magnitude(of_all);
}

// Sums squares in 4 x 8 lanes of f32, then (0+1)+(2+3), then the lanes: at most size / 32 + 6 roundings deep.
void norm_row(const float* x, const float* w, int64_t size, double eps, float* y) {
  __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
  int64_t d = 0;
  for (; d + 32 <= size; d += 32) {
    for (int i = 0; i < 4; ++i) {
      const __m256 v = _mm256_loadu_ps(x + d + 8 * i);
      sum[i] = _mm256_fmadd_ps(v, v, sum[i]);
    }
  }
  for (; d < size; d += 8) {
    const __m256 v = load_part(x + d, size - d);
    sum[0] = _mm256_fmadd_ps(v, v, sum[0]);
  }
  const float squares = sum_lanes(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
  const double mean = static_cast<double>(squares) / static_cast<double>(size);
  const __m256 factor = _mm256_set1_ps(static_cast<float>(1 / std::sqrt(mean + eps)));
  for (d = 0; d + 8 <= size; d += 8) {
    const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + d), factor);
    _mm256_storeu_ps(y + d, _mm256_mul_ps(scaled, _mm256_loadu_ps(w + d)));
  }
  if (d < size) {
    const __m256 scaled = _mm256_mul_ps(load_part(x + d, size - d), factor);
    store_part(y + d, size - d, _mm256_mul_ps(scaled, load_part(w + d, size - d)));
  }
}

}  // namespace

void quantize_part(DType dtype, const float* x, int64_t first, int64_t count, int64_t size, std::byte* row) {
  std::byte* const codes = row + first;
  auto* scales = reinterpret_cast<float*>(row + size) + first / kQ8aGroup;
  auto* sums = reinterpret_cast<int16_t*>(row + size + size / kQ8aGroup * 4) + first / 16;
  const int64_t block = q8a_block(dtype);
  for (int64_t begin = 0; begin < count; begin += block) {
    const float largest = largest_of(x + begin, block);
    float scale = 0, inverse = 0;  // 0: all codes are 0
    if (!(largest < std::numeric_limits<float>::infinity())) {
      scale = std::numeric_limits<float>::quiet_NaN();
    } else if (largest >= kQ8aSmallest) {
      scale = largest / 127, inverse = 127 / largest;
    }
    for (int64_t k = begin; k < begin + block; k += kQ8aGroup) {
      __m256i code[4] = {};
      if (inverse != 0) {
        for (int i = 0; i < 4; ++i) {
          code[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + k + 8 * i), _mm256_set1_ps(inverse)));
        }
      }
      const int64_t group = k / kQ8aGroup;
      scales[group] = scale;
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + k), pack_codes(code));
      const __m256i pairs = _mm256_hadd_epi32(_mm256_add_epi32(code[0], code[1]), _mm256_add_epi32(code[2], code[3]));
      const __m256i fours = _mm256_hadd_epi32(pairs, pairs);
      const __m128i both = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
      sums[2 * group] = static_cast<int16_t>(_mm_cvtsi128_si32(both));
      sums[2 * group + 1] = static_cast<int16_t>(_mm_extract_epi32(both, 1));
    }
  }
}

static void quantize_row(const KernelCall& call, int64_t t, const float* x) {
  const TensorView& y = call.out[0];
  quantize_part(y.dtype, x, 0, y.last(), y.last(), y.row<std::byte>(t));
}

void rms_norm(const KernelCall& call) {
  const TensorView &x = call.in[0], &y = call.out[0];
  const float* w = reinterpret_cast<const float*>(call.in[1].data);
  const double eps = call.attrs.f64("eps");
  const Range rows = split(x.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) norm_row(x.row<float>(t), w, x.last(), eps, y.row<float>(t));
}

void quantize_with(const KernelCall& call, QuantizeRowFn quantize_row) {
  const TensorView& x = call.in[0];
  const Range rows = split(x.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) quantize_row(call, t, x.row<float>(t));
}

void norm_quantize_with(const KernelCall& call, QuantizeRowFn quantize_row) {
  const TensorView& x = call.in[0];
  const float* w = reinterpret_cast<const float*>(call.in[1].data);
  const double eps = call.attrs.f64("eps");
  float* normed = reinterpret_cast<float*>(call.scratch.data());
  const Range rows = split(x.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    norm_row(x.row<float>(t), w, x.last(), eps, normed);
    quantize_row(call, t, normed);
  }
}

void quantize(const KernelCall& call) { quantize_with(call, quantize_row); }
void norm_quantize(const KernelCall& call) { norm_quantize_with(call, quantize_row); }

}  // namespace ll::avx2
