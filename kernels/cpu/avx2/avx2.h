// AVX2 + FMA + F16C kernels. Contracts: kernels/ref/ref.h. Called only after best_isa() said so.
// Functions shared between these files have internal linkage: no code compiled for AVX2 may be linked into other
// levels.
#pragma once

#include "kernels/kernel.h"

namespace ll::avx2 {

void activation(const KernelCall& call);
void rms_norm(const KernelCall& call);
void quantize(const KernelCall& call);
void norm_quantize(const KernelCall& call);
void rope(const KernelCall& call);
void kv_write(const KernelCall& call);
void rope_kv_write(const KernelCall& call);
void attention(const KernelCall& call);

// y[d] = x[d] / sqrt(mean(x^2) + eps) * w[d].
void norm_row(const float* x, const float* w, int64_t size, double eps, float* y);
// The bits of q8a_quantize_part (kernels/quant/q8a.h).
void quantize_part(DType dtype, const float* x, int64_t first, int64_t count, int64_t size, std::byte* row);

}  // namespace ll::avx2
