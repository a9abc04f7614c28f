// Rotary position embedding, shared by every level.
//
// The first rot = 2 * len(inv_freq) elements of a head are rotated, the others copied. Pair i, at position p:
//   angle = float(p) * inv_freq[i]                         one f32 product
//   c = float(cos(angle)) * mscale, s = float(sin(angle)) * mscale   cos and sin in double, each step rounded to f32
//   y0 = x0 c - x1 s, y1 = x1 c + x0 s
// style "half" (Hugging Face, NeoX): x0 = element i, x1 = element i + rot/2; "interleaved" (GGUF llama): elements 2i
// and 2i + 1. Scaling schemes are folded into inv_freq and mscale before they come here.
#pragma once

#include <cstdint>

#include "kernels/kernel.h"

namespace ll {

// c[i] and s[i] of `pairs` pairs at one position.
void rope_factors(int32_t position, const float* inv_freq, int64_t pairs, double mscale, float* c, float* s);

// Bytes of one thread's factors for this many pairs: c then s, each padded to 64 bytes.
constexpr int64_t rope_factor_bytes(int64_t pairs) { return 2 * ((4 * pairs + 63) / 64 * 64); }
constexpr int64_t rope_factor_stride(int64_t pairs) { return rope_factor_bytes(pairs) / 8; }  // in floats

}  // namespace ll
