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

// The kernels with a level's way to quantize x to row t of the output, the bits of q8a_quantize_row
// (kernels/quant/q8a.h) but in slabs.
using QuantizeRowFn = void (*)(const KernelCall& call, int64_t t, const float* x);
void quantize_with(const KernelCall& call, QuantizeRowFn quantize_row);
void norm_quantize_with(const KernelCall& call, QuantizeRowFn quantize_row);
// Of such a row values [first, first + count), whole blocks, which are those at x.
void quantize_part(DType dtype, const float* x, int64_t first, int64_t count, int64_t size, std::byte* row);

}  // namespace ll::avx2
