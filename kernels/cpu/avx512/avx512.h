// AVX-512 kernels (F, BW, VL, VNNI). Contracts: kernels/ref/ref.h. Called only where has_isa(Isa::kAvx512).
#pragma once

#include "kernels/kernel.h"

namespace ll::avx512 {

void attention(const KernelCall& call);
void quantize(const KernelCall& call);
void norm_quantize(const KernelCall& call);

}  // namespace ll::avx512
