// Where each format keeps the fields of a block. Offsets are those of the structs in ggml/src/ggml-common.h.
#include "kernels/quant/blocks.h"

#include <cstring>

#include "kernels/quant/half.h"

namespace ll::blocks {
namespace {

uint8_t u8(const std::byte* p, int i) { return static_cast<uint8_t>(p[i]); }
void put(std::byte* p, int i, int value) { p[i] = static_cast<std::byte>(value); }
uint8_t low8(int value) { return static_cast<uint8_t>(value); }

void read_f16(const std::byte* p, uint16_t& h) { std::memcpy(&h, p, 2); }
void write_f16(uint16_t h, std::byte* p) { std::memcpy(p, &h, 2); }

// 16 bytes of 32 nibbles: byte i holds code i (low) and code i + 16 (high).
void read_nibbles16(const std::byte* p, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = u8(p, i) & 15;
    codes[i + 16] = u8(p, i) >> 4;
  }
}
void write_nibbles16(const uint8_t* codes, std::byte* p) {
  for (int i = 0; i < 16; ++i) put(p, i, (codes[i] & 15) | (codes[i + 16] & 15) << 4);
}

// 128 bytes of 256 nibbles: in each 32 bytes, byte i holds code i (low) and code i + 32 (high) of 64.
void read_nibbles32(const std::byte* p, uint8_t* codes) {
  for (int c = 0; c < 4; ++c) {
    for (int i = 0; i < 32; ++i) {
      codes[64 * c + i] = u8(p, 32 * c + i) & 15;
      codes[64 * c + 32 + i] = u8(p, 32 * c + i) >> 4;
    }
  }
}
void write_nibbles32(const uint8_t* codes, std::byte* p) {
  for (int c = 0; c < 4; ++c) {
    for (int i = 0; i < 32; ++i) put(p, 32 * c + i, (codes[64 * c + i] & 15) | (codes[64 * c + 32 + i] & 15) << 4);
  }
}

// 64 bytes of 256 pairs of bits: in each 32 bytes, bits 2j+1:2j of byte i belong to code 32j + i of 128. Ors into
// codes.
void read_pairs(const std::byte* p, int shift, uint8_t* codes) {
  for (int n = 0; n < 2; ++n) {
    for (int j = 0; j < 4; ++j) {
      uint8_t* c = codes + 128 * n + 32 * j;
      for (int i = 0; i < 32; ++i) c[i] = low8(c[i] | (u8(p, 32 * n + i) >> 2 * j & 3) << shift);
    }
  }
}
void write_pairs(const uint8_t* codes, int shift, std::byte* p) {
  for (int n = 0; n < 2; ++n) {
    for (int i = 0; i < 32; ++i) {
      int byte = 0;
      for (int j = 0; j < 4; ++j) byte |= (codes[128 * n + 32 * j + i] >> shift & 3) << 2 * j;
      put(p, 32 * n + i, byte);
    }
  }
}

// 32 bytes of 256 bits: bit j of byte i belongs to code 32j + i. Ors into codes.
void read_bits(const std::byte* p, int shift, uint8_t* codes) {
  for (int j = 0; j < 8; ++j) {
    for (int i = 0; i < 32; ++i) codes[32 * j + i] = low8(codes[32 * j + i] | (u8(p, i) >> j & 1) << shift);
  }
}
void write_bits(const uint8_t* codes, int shift, std::byte* p) {
  for (int i = 0; i < 32; ++i) {
    int byte = 0;
    for (int j = 0; j < 8; ++j) byte |= (codes[32 * j + i] >> shift & 1) << j;
    put(p, i, byte);
  }
}

// 4 bytes: bit i is the fifth bit of code i.
void read_fifth(const std::byte* p, uint8_t* codes) {
  for (int i = 0; i < 32; ++i) codes[i] = low8(codes[i] | (u8(p, i / 8) >> i % 8 & 1) << 4);
}
void write_fifth(const uint8_t* codes, std::byte* p) {
  for (int b = 0; b < 4; ++b) {
    int byte = 0;
    for (int i = 0; i < 8; ++i) byte |= (codes[8 * b + i] >> 4 & 1) << i;
    put(p, b, byte);
  }
}

// 12 bytes of 8 scales and 8 mins of 6 bits (q4_K, q5_K).
void read_scales12(const std::byte* p, Fields& f) {
  for (int j = 0; j < 4; ++j) {
    f.scales[j] = u8(p, j) & 63;
    f.mins[j] = u8(p, j + 4) & 63;
    f.scales[j + 4] = low8((u8(p, j + 8) & 15) | u8(p, j) >> 6 << 4);
    f.mins[j + 4] = low8(u8(p, j + 8) >> 4 | u8(p, j + 4) >> 6 << 4);
  }
}
void write_scales12(const Fields& f, std::byte* p) {
  for (int j = 0; j < 4; ++j) {
    put(p, j, (f.scales[j] & 63) | f.scales[j + 4] >> 4 << 6);
    put(p, j + 4, (f.mins[j] & 63) | f.mins[j + 4] >> 4 << 6);
    put(p, j + 8, (f.scales[j + 4] & 15) | (f.mins[j + 4] & 15) << 4);
  }
}

// q4_0, iq4_nl: d, nibbles.
void read_q4_0(const std::byte* b, Fields& f) {
  read_f16(b, f.d);
  read_nibbles16(b + 2, f.codes);
}
void write_q4_0(const Fields& f, std::byte* b) {
  write_f16(f.d, b);
  write_nibbles16(f.codes, b + 2);
}

// q4_1: d, m, nibbles.
void read_q4_1(const std::byte* b, Fields& f) {
  read_f16(b, f.d);
  read_f16(b + 2, f.m);
  read_nibbles16(b + 4, f.codes);
}
void write_q4_1(const Fields& f, std::byte* b) {
  write_f16(f.d, b);
  write_f16(f.m, b + 2);
  write_nibbles16(f.codes, b + 4);
}

// q5_0: d, fifth bits, nibbles.
void read_q5_0(const std::byte* b, Fields& f) {
  read_f16(b, f.d);
  read_nibbles16(b + 6, f.codes);
  read_fifth(b + 2, f.codes);
}
void write_q5_0(const Fields& f, std::byte* b) {
  write_f16(f.d, b);
  write_fifth(f.codes, b + 2);
  write_nibbles16(f.codes, b + 6);
}

// q5_1: d, m, fifth bits, nibbles.
void read_q5_1(const std::byte* b, Fields& f) {
  read_f16(b, f.d);
  read_f16(b + 2, f.m);
  read_nibbles16(b + 8, f.codes);
  read_fifth(b + 4, f.codes);
}
void write_q5_1(const Fields& f, std::byte* b) {
  write_f16(f.d, b);
  write_f16(f.m, b + 2);
  write_fifth(f.codes, b + 4);
  write_nibbles16(f.codes, b + 8);
}

// q8_0: d, bytes.
void read_q8_0(const std::byte* b, Fields& f) {
  read_f16(b, f.d);
  std::memcpy(f.codes, b + 2, 32);
}
void write_q8_0(const Fields& f, std::byte* b) {
  write_f16(f.d, b);
  std::memcpy(b + 2, f.codes, 32);
}

// q2_K: 16 bytes scale | min << 4, 64 bytes of pairs, d, dmin.
void read_q2_K(const std::byte* b, Fields& f) {
  for (int g = 0; g < 16; ++g) {
    f.scales[g] = u8(b, g) & 15;
    f.mins[g] = u8(b, g) >> 4;
  }
  std::memset(f.codes, 0, sizeof f.codes);
  read_pairs(b + 16, 0, f.codes);
  read_f16(b + 80, f.d);
  read_f16(b + 82, f.m);
}
void write_q2_K(const Fields& f, std::byte* b) {
  for (int g = 0; g < 16; ++g) put(b, g, (f.scales[g] & 15) | (f.mins[g] & 15) << 4);
  write_pairs(f.codes, 0, b + 16);
  write_f16(f.d, b + 80);
  write_f16(f.m, b + 82);
}

// q3_K: 32 bytes of third bits, 64 bytes of pairs, 12 bytes of 16 scales of 6 bits, d.
void read_q3_K(const std::byte* b, Fields& f) {
  std::memset(f.codes, 0, sizeof f.codes);
  read_pairs(b + 32, 0, f.codes);
  read_bits(b, 2, f.codes);
  const std::byte* s = b + 96;
  for (int j = 0; j < 16; ++j) {
    const int low = j < 8 ? u8(s, j) & 15 : u8(s, j - 8) >> 4;
    f.scales[j] = low8(low | (u8(s, 8 + j % 4) >> 2 * (j / 4) & 3) << 4);
  }
  read_f16(b + 108, f.d);
}
void write_q3_K(const Fields& f, std::byte* b) {
  write_bits(f.codes, 2, b);
  write_pairs(f.codes, 0, b + 32);
  std::byte* s = b + 96;
  for (int j = 0; j < 8; ++j) put(s, j, (f.scales[j] & 15) | (f.scales[j + 8] & 15) << 4);
  for (int a = 0; a < 4; ++a) {
    int byte = 0;
    for (int p = 0; p < 4; ++p) byte |= (f.scales[a + 4 * p] >> 4 & 3) << 2 * p;
    put(s, 8 + a, byte);
  }
  write_f16(f.d, b + 108);
}

// q4_K: d, dmin, 12 bytes of scales, nibbles.
void read_q4_K(const std::byte* b, Fields& f) {
  read_f16(b, f.d);
  read_f16(b + 2, f.m);
  read_scales12(b + 4, f);
  read_nibbles32(b + 16, f.codes);
}
void write_q4_K(const Fields& f, std::byte* b) {
  write_f16(f.d, b);
  write_f16(f.m, b + 2);
  write_scales12(f, b + 4);
  write_nibbles32(f.codes, b + 16);
}

// q5_K: d, dmin, 12 bytes of scales, 32 bytes of fifth bits, nibbles.
void read_q5_K(const std::byte* b, Fields& f) {
  read_f16(b, f.d);
  read_f16(b + 2, f.m);
  read_scales12(b + 4, f);
  read_nibbles32(b + 48, f.codes);
  read_bits(b + 16, 4, f.codes);
}
void write_q5_K(const Fields& f, std::byte* b) {
  write_f16(f.d, b);
  write_f16(f.m, b + 2);
  write_scales12(f, b + 4);
  write_bits(f.codes, 4, b + 16);
  write_nibbles32(f.codes, b + 48);
}

// q6_K: 128 bytes of nibbles, 64 bytes of pairs, 16 int8 scales, d. In each 64 bytes of nibbles, byte i holds code i
// (low) and code i + 64 (high) of 128.
void read_q6_K(const std::byte* b, Fields& f) {
  for (int n = 0; n < 2; ++n) {
    for (int i = 0; i < 64; ++i) {
      f.codes[128 * n + i] = u8(b, 64 * n + i) & 15;
      f.codes[128 * n + 64 + i] = u8(b, 64 * n + i) >> 4;
    }
  }
  read_pairs(b + 128, 4, f.codes);
  std::memcpy(f.scales, b + 192, 16);
  read_f16(b + 208, f.d);
}
void write_q6_K(const Fields& f, std::byte* b) {
  for (int n = 0; n < 2; ++n) {
    for (int i = 0; i < 64; ++i) {
      put(b, 64 * n + i, (f.codes[128 * n + i] & 15) | (f.codes[128 * n + 64 + i] & 15) << 4);
    }
  }
  write_pairs(f.codes, 4, b + 128);
  std::memcpy(b + 192, f.scales, 16);
  write_f16(f.d, b + 208);
}

// iq4_xs: d, upper bits of 8 scales (2 bits each), lower bits (4 each), 8 times 16 bytes of nibbles.
void read_iq4_xs(const std::byte* b, Fields& f) {
  read_f16(b, f.d);
  const int high = u8(b, 2) | u8(b, 3) << 8;
  for (int j = 0; j < 8; ++j) {
    f.scales[j] = low8((u8(b, 4 + j / 2) >> 4 * (j % 2) & 15) | (high >> 2 * j & 3) << 4);
    read_nibbles16(b + 8 + 16 * j, f.codes + 32 * j);
  }
}
void write_iq4_xs(const Fields& f, std::byte* b) {
  write_f16(f.d, b);
  int high = 0;
  for (int j = 0; j < 8; ++j) {
    high |= (f.scales[j] >> 4 & 3) << 2 * j;
    if (j % 2 == 0) put(b, 4 + j / 2, (f.scales[j] & 15) | (f.scales[j + 1] & 15) << 4);
    write_nibbles16(f.codes + 32 * j, b + 8 + 16 * j);
  }
  put(b, 2, high & 255);
  put(b, 3, high >> 8);
}

using enum ScalePacking;

// clang-format off
constexpr BlockFormat kBlockFormats[] = {
    //                 elements    bits        group   scales        min
    // dtype                 bytes low high zero table max     zero         packing  where
    {DType::kQ4_0,      32,  18,   4,  0,   8, false,  0,   0,  0, false, kNone,   read_q4_0,   write_q4_0},
    {DType::kQ4_1,      32,  20,   4,  0,   0, false,  0,   0,  0, true,  kNone,   read_q4_1,   write_q4_1},
    {DType::kQ5_0,      32,  22,   4,  1,  16, false,  0,   0,  0, false, kNone,   read_q5_0,   write_q5_0},
    {DType::kQ5_1,      32,  24,   4,  1,   0, false,  0,   0,  0, true,  kNone,   read_q5_1,   write_q5_1},
    {DType::kQ8_0,      32,  34,   8,  0,   0, false,  0,   0,  0, false, kNone,   read_q8_0,   write_q8_0},
    {DType::kQ2_K,     256,  84,   2,  0,   0, false, 16,  15,  0, true,  kQ2K,    read_q2_K,   write_q2_K},
    {DType::kQ3_K,     256, 110,   2,  1,   4, false, 16,  63, 32, false, kQ3K,    read_q3_K,   write_q3_K},
    {DType::kQ4_K,     256, 144,   4,  0,   0, false, 32,  63,  0, true,  kQ4K,    read_q4_K,   write_q4_K},
    {DType::kQ5_K,     256, 176,   4,  1,   0, false, 32,  63,  0, true,  kQ4K,    read_q5_K,   write_q5_K},
    {DType::kQ6_K,     256, 210,   4,  2,  32, false, 16, 255,  0, false, kQ6K,    read_q6_K,   write_q6_K},
    {DType::kIQ4_NL,    32,  18,   4,  0,   0, true,   0,   0,  0, false, kNone,   read_q4_0,   write_q4_0},
    {DType::kIQ4_XS,   256, 136,   4,  0,   0, true,  32,  63, 32, false, kIQ4XS,  read_iq4_xs, write_iq4_xs},
};
// clang-format on

// Values of `n` codes times one factor, less one offset.
void scale_codes(const BlockFormat& format, const uint8_t* codes, int n, float factor, float offset, float* y) {
  if (format.table) {
    for (int i = 0; i < n; ++i) y[i] = factor * static_cast<float>(kIq4Values[codes[i] & 15]);
  } else if (format.low_bits == 8) {
    for (int i = 0; i < n; ++i) y[i] = factor * static_cast<float>(static_cast<int8_t>(codes[i]));
  } else if (format.has_min) {
    for (int i = 0; i < n; ++i) y[i] = factor * static_cast<float>(codes[i]) - offset;
  } else {
    for (int i = 0; i < n; ++i) y[i] = factor * static_cast<float>(codes[i] - format.zero);
  }
}

}  // namespace

const BlockFormat* find(DType dtype) {
  for (const BlockFormat& f : kBlockFormats) {
    if (f.dtype == dtype) return &f;
  }
  return nullptr;
}

void dequantize_fields(const BlockFormat& format, const Fields& f, float* values) {
  const float d = f16_to_f32(f.d), m = format.has_min ? f16_to_f32(f.m) : 0.0f;
  if (format.group == 0) return scale_codes(format, f.codes, format.elements, d, -m, values);
  for (int g = 0; g < format.elements / format.group; ++g) {
    const int scale = format.packing == kQ6K ? static_cast<int8_t>(f.scales[g]) : f.scales[g] - format.scale_zero;
    const float offset = format.has_min ? m * static_cast<float>(f.mins[g]) : 0.0f;
    scale_codes(format, f.codes + format.group * g, format.group, d * static_cast<float>(scale), offset,
                values + format.group * g);
  }
}

void dequantize(const BlockFormat& format, const std::byte* blocks, int64_t k, float* y) {
  Fields fields;
  for (int64_t b = 0; b < k / format.elements; ++b) {
    format.read(blocks + b * format.bytes, fields);
    dequantize_fields(format, fields, y + b * format.elements);
  }
}

}  // namespace ll::blocks
