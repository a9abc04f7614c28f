// AVX-512 kernels (F, BW, VL, VNNI). Contracts: kernels/ref/ref.h. Called only where has_isa(Isa::kAvx512).
#pragma once

#include "kernels/kernel.h"

namespace ll::avx512 {

void attention(const KernelCall& call);
void quantize(const KernelCall& call);
void norm_quantize(const KernelCall& call);

// The bits of q8a_quantize_part (kernels/quant/q8a.h).
void quantize_part(DType dtype, const float* x, int64_t first, int64_t count, int64_t size, std::byte* row);

}  // namespace ll::avx512
