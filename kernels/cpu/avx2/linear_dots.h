// Products of a panel of up to 16 weight rows with 1, 2 or 4 tokens: what the linear kernels are made of.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/type.h"

namespace ll::avx2 {

// out[16 * t + r] = sum over i of w[r, i] * x[t, i], r < rows, t < the function's tokens. out is 32-byte aligned.
//   w  float formats: dense rows; block formats: a panel of kX16, always 16 rows
//   x  rows x_row_bytes apart: f32 for float formats, q8a for block formats
// Each output's operations and their order are the same whatever the tokens and rows.
using DotFn = void (*)(const std::byte* w, int64_t rows, int64_t k, const std::byte* x, int64_t x_row_bytes,
                       float* out);
struct Dots {
  DType dtype;
  DotFn one, two, four;  // tokens
};

// Null when the dtype is none of theirs.
const Dots* float_dots(DType dtype);        // f32, f16, bf16
const Dots* plain_x16_dots(DType dtype);    // formats of 32 with one or two factors
const Dots* grouped_x16_dots(DType dtype);  // formats of 256 with scales of groups

}  // namespace ll::avx2
