#include "kernels/activation.h"

#include "kernels/cpu/avx2/avx2.h"
#include "kernels/cpu/avx2/exp.h"
#include "kernels/cpu/avx2/vector.h"

namespace ll::avx2 {
namespace {

// x / (1 + e^-z): silu with z = x; gelu_tanh with z = 2 u, since (1 + tanh u) / 2 = 1 / (1 + e^-2u).
__m256 gate(__m256 x, __m256 z) {
  const __m256 one = _mm256_set1_ps(1.0f);
  return _mm256_div_ps(x, _mm256_add_ps(one, exp(_mm256_sub_ps(_mm256_setzero_ps(), z))));
}

__m256 activate(Activation act, __m256 x) {
  if (act == Activation::kSilu) return gate(x, x);
  if (act == Activation::kRelu) return _mm256_max_ps(x, _mm256_setzero_ps());
  const __m256 cubic = _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(0.044715f), _mm256_set1_ps(1.0f));
  return gate(x, _mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(2 * 0.79788456f), x), cubic));
}

}  // namespace

void activation(const KernelCall& call) {
  const TensorView &x = call.in[0], &y = call.out[0];
  const Activation act = *find_activation(call.attrs.text("act"));
  const Range rows = split(x.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    const float* xt = x.row<float>(t);
    float* yt = y.row<float>(t);
    for (int64_t d = 0; d < x.last(); d += 8) {
      if (act == Activation::kGelu) {  // erf has no vector form here, and no model of ours is slowed by it
        for (int64_t i = d; i < x.last() && i < d + 8; ++i) yt[i] = ll::activate(act, xt[i]);
      } else {
        store_part(yt + d, x.last() - d, activate(act, load_part(xt + d, x.last() - d)));
      }
    }
  }
}

}  // namespace ll::avx2
