// What makes outputs of sums, on sixteen floats: the operations of kernels/cpu/avx2/linear.cc, activate.h and exp.h, so
// the same bits. Include only from levels with AVX-512, once a file; everything has internal linkage.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/avx2/linear_dots.h"

namespace ll {
namespace {

// A change here or in exp.h belongs in both: fused and separate kernels share bits, which tests compare.
inline __m512 exp_of(__m512 x) {
  const __m512 low = _mm512_set1_ps(-87.3f);
  const __m512 clamped = _mm512_min_ps(_mm512_set1_ps(88.0f), _mm512_max_ps(low, x));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(clamped, _mm512_set1_ps(0x1.715476p+0f)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e4p-1f), clamped);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
  __m512 q = _mm512_set1_ps(0x1.6d113cp-10f);
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.120ba2p-7f));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.55551ap-5f));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.5554dcp-3f));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0.5f));
  const __m512 p = _mm512_add_ps(_mm512_set1_ps(1.0f), _mm512_fmadd_ps(_mm512_mul_ps(r, r), q, r));
  const __m512i power = _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23);
  // Not less, so that NaN stays.
  return _mm512_maskz_mul_ps(_mm512_cmp_ps_mask(x, low, _CMP_NLT_UQ), p, _mm512_castsi512_ps(power));
}

// Finish of kernels/cpu/avx2/linear_dots.h.
void gated_silu(const PanelSums& gate, const PanelSums& up, int64_t panels, int64_t tokens, const PanelOutputs& out) {
  const bool streamed = out.streams(16);
  const __m512 one = _mm512_set1_ps(1.0f);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t n = 0; n < panels; ++n) {
      const __m512 x = _mm512_load_ps(gate.row(n, t));
      const __m512 power = exp_of(_mm512_sub_ps(_mm512_setzero_ps(), x));
      const __m512 value = _mm512_mul_ps(_mm512_div_ps(x, _mm512_add_ps(one, power)), _mm512_load_ps(up.row(n, t)));
      float* to = out.data + t * out.stride + 16 * n;
      if (streamed) {
        _mm512_stream_ps(to, value);
      } else {
        _mm512_storeu_ps(to, value);
      }
    }
  }
}

template <bool kBias, bool kResidual, bool kStreamed>
void write_panels(const PanelSums& sums, int64_t panels, int64_t tokens, const float* bias, const float* residual,
                  int64_t residual_stride, const PanelOutputs& out) {
  for (int64_t t = 0; t < tokens; ++t) {
    const float* const from = sums.row(0, t);
    float* const to = out.data + t * out.stride;
#pragma GCC unroll 4
    for (int64_t n = 0; n < panels; ++n) {
      __m512 value = _mm512_load_ps(from + n * sums.distance);
      if constexpr (kBias) value = _mm512_add_ps(value, _mm512_loadu_ps(bias + 16 * n));
      if constexpr (kResidual) value = _mm512_add_ps(value, _mm512_loadu_ps(residual + t * residual_stride + 16 * n));
      if constexpr (kStreamed) {
        _mm512_stream_ps(to + 16 * n, value);
      } else {
        _mm512_storeu_ps(to + 16 * n, value);
      }
    }
  }
}

void write(const PanelSums& sums, int64_t panels, int64_t tokens, const float* bias, const float* residual,
           int64_t residual_stride, const PanelOutputs& out) {
  write_as(bias != nullptr, residual != nullptr, out.streams(16), [&]<bool kBias, bool kResidual, bool kStreamed>() {
    write_panels<kBias, kResidual, kStreamed>(sums, panels, tokens, bias, residual, residual_stride, out);
  });
}

constexpr Finish kFinish = {write, gated_silu};

}  // namespace
}  // namespace ll
