// Scalar kernels: the definition of correct, with the check and cost of their catalog rows. Every faster level is
// compared with these. Sums run in double, in index order; each output element is rounded to f32 once.
#pragma once

#include "kernels/kernel.h"

namespace ll::ref {

// y[t,d] = a[t,d] + b[t,d]; y[t,d] = a[t,d] * b[t,d]
Status check_elementwise(const LaunchSpec& spec);
Cost cost_elementwise(const LaunchSpec& spec);
void add(const KernelCall& call);
void mul(const KernelCall& call);

// y[t,d] = act(x[t,d]), act named by the attribute: kernels/activation.h
Status check_activation(const LaunchSpec& spec);
Cost cost_activation(const LaunchSpec& spec);
void activation(const KernelCall& call);

// y[t,d] = x[t,d] / sqrt(mean over d of x[t,d]^2 + eps) * w[d]
Status check_rms_norm(const LaunchSpec& spec);
Cost cost_rms_norm(const LaunchSpec& spec);
void rms_norm(const KernelCall& call);

// q8a rows of x: kernels/quant/q8a.h
Status check_quantize(const LaunchSpec& spec);
Cost cost_quantize(const LaunchSpec& spec);
void quantize(const KernelCall& call);

// rope_kv_write of norm_merged_linear (kernels/ref/linear.h): x, norm, three weights, kv, positions, slots, inv_freq,
// no biases or three -> q, kv.
Status check_norm_qkv_rope_kv_write(const LaunchSpec& spec);
uint64_t scratch_norm_qkv_rope_kv_write(const LaunchSpec& spec);
Cost cost_norm_qkv_rope_kv_write(const LaunchSpec& spec);
void norm_qkv_rope_kv_write(const KernelCall& call);

// quantize(rms_norm(x, w)), to the bit at every level.
Status check_norm_quantize(const LaunchSpec& spec);
uint64_t scratch_norm_quantize(const LaunchSpec& spec);
Cost cost_norm_quantize(const LaunchSpec& spec);
void norm_quantize(const KernelCall& call);

// Rotates pairs of each head: kernels/rope.h
Status check_rope(const LaunchSpec& spec);
uint64_t scratch_rope(const LaunchSpec& spec);
Cost cost_rope(const LaunchSpec& spec);
void rope(const KernelCall& call);

// Keys and values of T tokens into the cache, each row at its slot: kernels/kv_layout.h. Output 0 is the memory of
// input 0.
Status check_kv_write(const LaunchSpec& spec);
Cost cost_kv_write(const LaunchSpec& spec);
void kv_write(const KernelCall& call);

// rope of q and k, and kv_write of k and v, for rows [q | k | v], to the bit at every level. Output 1 is the memory of
// input 0.
Status check_rope_kv_write(const LaunchSpec& spec);
uint64_t scratch_rope_kv_write(const LaunchSpec& spec);
Cost cost_rope_kv_write(const LaunchSpec& spec);
void rope_kv_write(const KernelCall& call);

// Softmax attention over the paged cache: kernels/attention.h
Status check_attention(const LaunchSpec& spec);
uint64_t scratch_attention(const LaunchSpec& spec);
Cost cost_attention(const LaunchSpec& spec);
void attention(const KernelCall& call);

// y[r,d] = x[rows[r],d]
Status check_gather_rows(const LaunchSpec& spec);
Cost cost_gather_rows(const LaunchSpec& spec);
void gather_rows(const KernelCall& call);

// The most likely tokens of each row of logits and what the row weighs: kernels/shortlist.h
Status check_shortlist(const LaunchSpec& spec);
Cost cost_shortlist(const LaunchSpec& spec);
void shortlist(const KernelCall& call);

}  // namespace ll::ref
