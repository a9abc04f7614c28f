// The linear family: what its four forms have in common, their checks and their scalar kernels. W is [N, K] of any
// weight type and layout (x f32), or quantized in kX16 or, on a GPU, kTile8 (x q8a).
//   linear         x[T,K], w, [bias[N]]               y[t,n] = sum over k of w[n,k] * x[t,k] + bias[n]
//   merged_linear  x, w1 .. wn, [bias1 .. biasn]       y[t] = linear 1 | linear 2 | ..., attribute parts = n
//   gated_linear   x, w_gate, w_up, [bias, bias]       y = act(linear gate) * linear up, attribute act
//   linear_add     x, w, residual[T,N], [bias]         y = linear + residual; y may be the residual's memory
// At every level a fused form gives the bits of the kernels it stands for (linear, activation, mul, add).
#pragma once

#include <cstdint>

#include "kernels/kernel.h"

namespace ll {

enum class LinearForm : uint8_t { kLinear, kMerged, kGated, kAdd };

inline constexpr int64_t kMaxParts = 16;  // of merged_linear

// Where a launch that passed its check has its operands.
struct LinearRoles {
  size_t weights;   // inputs 1 .. weights
  size_t bias;      // first of `weights` biases; 0: none
  size_t residual;  // 0: none
};
LinearRoles linear_roles(LinearForm form, size_t inputs, const Attrs& attrs);

namespace ref {

// Tokens that share one dequantized weight row.
inline constexpr int64_t kTokenBlock = 16;

// `q8` tells linear_q8 from linear, and so on.
Status check_linear(const LaunchSpec& spec, LinearForm form, bool q8);
uint64_t scratch_linear(const LaunchSpec& spec);  // enough for every level
Cost cost_linear(const LaunchSpec& spec, LinearForm form);
void linear(const KernelCall& call, LinearForm form);

// y[t,d] = table[tokens[t],d], table [V,D] of any weight type and layout.
Status check_embed(const LaunchSpec& spec);
Cost cost_embed(const LaunchSpec& spec);
void embed(const KernelCall& call);

}  // namespace ref

namespace avx2 {

void linear(const KernelCall& call, LinearForm form);

}  // namespace avx2
}  // namespace ll
