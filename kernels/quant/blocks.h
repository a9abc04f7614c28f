// Scalar code of the block formats, referred to by the table in formats.cc. Each pair has the contract of
// Format::dequantize and Format::quantize.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace ll::blocks {

#define LL_BLOCK_FORMAT(name)                                           \
  void dequantize_##name(const std::byte* blocks, int64_t k, float* y); \
  void quantize_##name(const float* x, int64_t k, std::byte* blocks)

LL_BLOCK_FORMAT(q4_0);
LL_BLOCK_FORMAT(q4_1);
LL_BLOCK_FORMAT(q5_0);
LL_BLOCK_FORMAT(q5_1);
LL_BLOCK_FORMAT(q8_0);
LL_BLOCK_FORMAT(q2_K);
LL_BLOCK_FORMAT(q3_K);
LL_BLOCK_FORMAT(q4_K);
LL_BLOCK_FORMAT(q5_K);
LL_BLOCK_FORMAT(q6_K);
LL_BLOCK_FORMAT(iq4_nl);
LL_BLOCK_FORMAT(iq4_xs);
#undef LL_BLOCK_FORMAT

// Values of the 4-bit codes of iq4_nl and iq4_xs.
inline constexpr std::array<int8_t, 16> kIq4Values = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                      1,    13,   25,  38,  53,  69,  89,  113};

}  // namespace ll::blocks
