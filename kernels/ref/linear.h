// The linear family: what its four forms have in common, their checks and their scalar kernels. W is [N, K] of any
// weight type and layout (x f32), or quantized in kX16 (x q8a256 for blocks of 256, q8a or q8a256 for blocks of 32) or,
// on a GPU, kTile8 (x q8a).
//   linear         x[T,K], w, [bias[N]]               y[t,n] = sum over k of w[n,k] * x[t,k] + bias[n]
//   merged_linear  x, w1 .. wn, [bias1 .. biasn]       y[t] = linear 1 | linear 2 | ..., attribute parts = n
//   gated_linear   x, w_gate, w_up, [bias, bias]       y = act(linear gate) * linear up, attribute act
//   linear_add     x, w, residual[T,N], [bias]         y = linear + residual; y may be the residual's memory
// Where a kernel's name says so, x is f32 and the kernel quantizes it itself, the same bits as `quantize` or
// `norm_quantize` before it:
//   norm_linear, norm_merged_linear, norm_gated_linear   x, norm[K], then as above; attribute eps
//   norm_gated_linear_quantize                           the same, and y is q8a, as `quantize` makes it
//   quantize_linear, quantize_linear_add                 x, then as above
// At every level a fused form gives the bits of the kernels it stands for (linear, activation, mul, add).
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/kernel.h"
#include "kernels/quant/q8a_slabs.h"

namespace ll {

enum class LinearForm : uint8_t { kLinear, kMerged, kGated, kAdd };

inline constexpr int64_t kMaxParts = 16;  // of merged_linear

// One thread's scratch at a SIMD level: a panel's outputs for a chunk of tokens (two for kGated), panels of weights
// made ready (two of f32 rows, or some k of eight unpacked for tiles), and quantized tokens arranged for tiles. Each
// part is a multiple of 64 bytes.
inline constexpr int64_t kLinearChunk = 256;                 // tokens that meet a panel while both are in the cache
inline constexpr int64_t kTilePanels = 8, kTileTokens = 32;  // that meet each other
// Level amx rounds weights anew from so many tokens of a launch on, unless it is deterministic. Weights are shorter
// then: more panels meet.
inline constexpr int64_t kRequantizedTokens = 64, kRequantizedPanels = 16;
inline constexpr int64_t kTilePart = 2048;  // k of them unpacked at once
constexpr int64_t linear_panel_bytes(int64_t k) {
  const int64_t unpacked = std::min((k + 511) / 512 * 512, kTilePart);  // fewer than 512 take as much as 512
  return std::max(2 * 4 * 16 * k, kTilePanels * 40 * unpacked);
}
// kTileTokens tokens: a byte for each k and at most 17 floats for each 256, and as much as a tile's last row of sums
// reads beyond them.
constexpr int64_t linear_tile_bytes(int64_t k) { return kTileTokens * (256 + 68) * ((k + 255) / 256) + 64; }
// From those to the next ones, where weights are rounded anew: quantization may have written them there, in slabs.
constexpr int64_t linear_slab_bytes(int64_t k) { return k % 256 == 0 ? slab_bytes(k) : linear_tile_bytes(k); }
// As many tokens are arranged at once: a multiple of kTileTokens, 512 or what 6 MB hold.
constexpr int64_t linear_tile_chunk(int64_t k) {
  return std::clamp<int64_t>((int64_t{6} << 20) / linear_tile_bytes(k), 1, 16) * kTileTokens;
}
// With their sums: of all where they wait for the next part of k, else of kTileTokens and the next ones.
constexpr int64_t linear_arranged_bytes(int64_t tokens, int64_t k) {
  const int64_t count = (std::min(tokens, linear_tile_chunk(k)) / 16 + 1) / 2;  // of kTileTokens
  return count * linear_tile_bytes(k) +
         (k > kTilePart ? count : std::min<int64_t>(2, count)) * 4 * kTileTokens * kRequantizedPanels * 16;
}
// Tokens that are not in tiles, up to kLinearChunk at once, in steps (kernels/cpu/x16_step.h): a bound of each one's
// bytes of 32 k.
inline constexpr int64_t kStepSubBytes = 44;
constexpr int64_t linear_step_bytes(int64_t tokens, int64_t k) {
  return (std::min(tokens, kLinearChunk) * k / 32 * kStepSubBytes + 63) / 64 * 64;
}
// `steps`: 2 where two weights may want steps of their own at the same time, else 1.
constexpr int64_t linear_scratch_bytes(int64_t tokens, int64_t k, bool q8, int64_t steps) {
  const int64_t fixed = 2 * 4 * 16 * kLinearChunk + linear_panel_bytes(k);
  if (!q8) return fixed;
  // Behind those in tiles there are up to 15 others.
  return fixed +
         std::max(steps * linear_step_bytes(tokens, k),
                  linear_arranged_bytes(tokens, k) + steps * linear_step_bytes(std::min<int64_t>(tokens, 15), k));
}
// Behind that, where bf16 weights meet f32 tokens: a chunk of tokens that the level rounds to bf16, rows of a multiple
// of 32. The chunk is a multiple of 64 tokens, of 4 MB or less where that is more than 64.
constexpr int64_t linear_bf16_row_bytes(int64_t k) { return (k + 31) / 32 * 64; }
constexpr int64_t linear_bf16_chunk(int64_t k) {
  return std::clamp<int64_t>((int64_t{4} << 20) / linear_bf16_row_bytes(k) / 64 * 64, 64, kLinearChunk);
}
constexpr int64_t linear_bf16_bytes(int64_t tokens, int64_t k) {
  return std::min(tokens, linear_bf16_chunk(k)) * linear_bf16_row_bytes(k) + 64;  // 64: stores of whole registers
}

// Where a launch that passed its check has its operands.
struct LinearRoles {
  size_t weights;   // inputs 1 .. weights
  size_t bias;      // first of `weights` biases; 0: none
  size_t residual;  // 0: none
};
LinearRoles linear_roles(LinearForm form, size_t inputs, const Attrs& attrs);

namespace ref {

// The parts of a scratch begin at multiples of 64 bytes.
constexpr int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Tokens that share one dequantized weight row.
inline constexpr int64_t kTokenBlock = 16;

// `q8` tells linear_q8 from linear, and so on.
Status check_linear(const LaunchSpec& spec, LinearForm form, bool q8);
uint64_t scratch_linear(const LaunchSpec& spec);  // enough for every level
Cost cost_linear(const LaunchSpec& spec, LinearForm form);
void linear(const KernelCall& call, LinearForm form);

// Of kernels that quantize x: `norm` where they norm it first, `to_q8a` where they quantize y.
Status check_quantizing(const LaunchSpec& spec, LinearForm form, bool norm, bool to_q8a);
uint64_t scratch_quantizing(const LaunchSpec& spec);
Cost cost_quantizing(const LaunchSpec& spec, LinearForm form, bool norm);
void quantizing(const KernelCall& call, LinearForm form, bool norm);

// y[t,d] = table[tokens[t],d], table [V,D] of any weight type and layout.
Status check_embed(const LaunchSpec& spec);
Cost cost_embed(const LaunchSpec& spec);
void embed(const KernelCall& call);

}  // namespace ref

// The SIMD levels (kernels/cpu/).
namespace avx2 {
void linear(const KernelCall& call, LinearForm form);
}
namespace avxvnni {
void linear(const KernelCall& call, LinearForm form);
}
namespace avx512 {
void linear(const KernelCall& call, LinearForm form);
}
namespace amx {
void linear(const KernelCall& call, LinearForm form);
void float_linear(const KernelCall& call, LinearForm form);  // f32 tokens; those that meet bf16 weights become bf16
}  // namespace amx
}  // namespace ll
