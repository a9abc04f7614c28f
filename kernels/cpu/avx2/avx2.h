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

}  // namespace ll::avx2
