// The words of kernels/cpu/x16_product.h in plain C++, for levels that the machine lacks.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/quant/half.h"

namespace ll {

template <int kSize>
struct PlainWords {
  static constexpr int kLanes = kSize;
  using Ints = std::array<uint32_t, kSize>;
  using Floats = std::array<float, kSize>;
  using Bytes = std::array<uint8_t, 4 * kSize>;

  static Ints load(const std::byte* p) {
    Ints v;
    std::memcpy(v.data(), p, sizeof v);
    return v;
  }
  static void store(std::byte* p, const Ints& v) { std::memcpy(p, v.data(), sizeof v); }
  static Ints set(int32_t value) {
    Ints v;
    v.fill(static_cast<uint32_t>(value));
    return v;
  }
  static Ints zeros() { return set(0); }
  static Ints broadcast4(const std::byte* p) {
    int32_t v;
    std::memcpy(&v, p, 4);
    return set(v);
  }
  static Ints dot(Ints sum, const Ints& u, const Ints& x) {
    for (size_t i = 0; i < kSize; ++i) {
      for (int b = 0; b < 32; b += 8) {
        const int product = static_cast<int>(u[i] >> b & 255) * static_cast<int8_t>(x[i] >> b & 255);
        sum[i] += static_cast<uint32_t>(product);
      }
    }
    return sum;
  }
  static Ints pin(const Ints& v) { return v; }
  static Ints bits(const Ints& v, int from, int count, int to) {
    return bytes(v, [&](unsigned byte, size_t) { return (byte >> from & ((1u << count) - 1)) << to; });
  }
  static Ints either(Ints a, const Ints& b) {
    for (size_t i = 0; i < kSize; ++i) a[i] |= b[i];
    return a;
  }
  static Ints subtract8(const Ints& a, const Ints& b) {
    return bytes(a, [&](unsigned byte, size_t i) { return byte - (b[i / 4] >> i % 4 * 8); });
  }
  static Ints subtract32(Ints a, const Ints& b) {
    for (size_t i = 0; i < kSize; ++i) a[i] -= b[i];
    return a;
  }
  static Ints lookup(const Ints& v, const uint8_t* table) {
    return bytes(v, [&](unsigned byte, size_t) { return unsigned{table[byte & 15]}; });
  }
  static Ints unsigned_bytes(const std::byte* p) {
    Ints v;
    for (size_t i = 0; i < kSize; ++i) v[i] = static_cast<uint32_t>(p[i]);
    return v;
  }
  static Ints signed_bytes(const std::byte* p) {
    Ints v;
    for (size_t i = 0; i < kSize; ++i) v[i] = static_cast<uint32_t>(static_cast<int8_t>(p[i]));
    return v;
  }

  static Floats floats(const Ints& v) {
    return lanes([&](size_t i) { return static_cast<float>(static_cast<int32_t>(v[i])); });
  }
  static Floats halves(const std::byte* p) {
    return lanes([&](size_t i) {
      uint16_t half;
      std::memcpy(&half, p + 2 * i, 2);
      return f16_to_f32(half);
    });
  }
  static Floats float_zeros() { return Floats{}; }
  static Floats broadcast(const void* p) {
    float v;
    std::memcpy(&v, p, 4);
    return lanes([&](size_t) { return v; });
  }
  static Floats load_floats(const float* p) {
    return lanes([&](size_t i) { return p[i]; });
  }
  static Floats load_unless(bool zeros, const float* p) { return zeros ? Floats{} : load_floats(p); }
  static void store(float* p, const Floats& v) { std::memcpy(p, v.data(), sizeof v); }
  static Floats mul(const Floats& a, const Floats& b) {
    return lanes([&](size_t i) { return a[i] * b[i]; });
  }
  static Floats fma(const Floats& a, const Floats& b, const Floats& c) {
    return lanes([&](size_t i) { return std::fma(a[i], b[i], c[i]); });
  }
  static Floats fnma(const Floats& a, const Floats& b, const Floats& c) {
    return lanes([&](size_t i) { return std::fma(-a[i], b[i], c[i]); });
  }

  static Ints add32(Ints a, const Ints& b) {
    for (size_t i = 0; i < kSize; ++i) a[i] += b[i];
    return a;
  }
  static Ints mul32(Ints a, const Ints& b) {
    for (size_t i = 0; i < kSize; ++i) a[i] *= b[i];
    return a;
  }
  static Ints shift_left32(Ints v, unsigned n) {
    for (uint32_t& lane : v) lane <<= n;
    return v;
  }
  static Ints shift_right32_signed(Ints v, unsigned n) {
    for (uint32_t& lane : v) lane = static_cast<uint32_t>(static_cast<int32_t>(lane) >> n);
    return v;
  }
  static Ints shift_right32(Ints v, unsigned n) {
    for (uint32_t& lane : v) lane >>= n;
    return v;
  }
  static Ints float_bits(const Floats& v) {
    Ints bits;
    std::memcpy(bits.data(), v.data(), sizeof bits);
    return bits;
  }
  static Floats from_bits(const Ints& v) {
    Floats f;
    std::memcpy(f.data(), v.data(), sizeof f);
    return f;
  }
  static Ints load_low(const std::byte* p) {
    Ints v = {};
    std::memcpy(v.data(), p, 32);
    return v;
  }
  static Ints signed_halves(const std::byte* p) {
    int16_t of[kSize];
    std::memcpy(of, p, sizeof of);
    Ints v;
    for (size_t i = 0; i < kSize; ++i) v[i] = static_cast<uint32_t>(of[i]);
    return v;
  }
  static Ints dot16(Ints sum, const Ints& a, const Ints& b) {
    for (size_t i = 0; i < kSize; ++i) {
      for (int h = 0; h < 32; h += 16) {
        const int product = static_cast<int16_t>(a[i] >> h & 0xffff) * static_cast<int16_t>(b[i] >> h & 0xffff);
        sum[i] += static_cast<uint32_t>(product);
      }
    }
    return sum;
  }
  static Ints products16(const Ints& a, const Ints& b) { return dot16(Ints{}, a, b); }
  static void unpack_scales(const std::byte* p, std::byte* to) {
    for (int i = 0; i < 128; ++i) {
      const int j = i / 16;
      const auto byte = std::to_integer<int>(p[i]),
                 upper = std::to_integer<int>(p[128 + 32 * (j / 4) + 16 * (j % 2) + i % 16]) >> (j / 2 % 2 * 4);
      to[i] = static_cast<std::byte>((byte & 15) | (upper & 3) << 4);
      to[128 + i] = static_cast<std::byte>(byte >> 4 | (upper >> 2 & 3) << 4);
    }
  }
  static Ints mul16(const Ints& a, const Ints& b) {
    return halves16(a, b, [](uint32_t x, uint32_t y) { return x * y; });
  }
  static Ints subtract16(const Ints& a, const Ints& b) {
    return halves16(a, b, [](uint32_t x, uint32_t y) { return x - y; });
  }
  static Ints shift_left16(const Ints& v, unsigned n) {
    return halves16(v, v, [&](uint32_t x, uint32_t) { return x << n; });
  }
  static Ints shift_right16(const Ints& v, unsigned n) {
    return halves16(v, v, [&](uint32_t x, uint32_t) { return x >> n; });
  }
  static Ints shift_right16_signed(const Ints& v, unsigned n) {
    return halves16(v, v, [&](uint32_t x, uint32_t) { return static_cast<uint32_t>(static_cast<int16_t>(x) >> n); });
  }
  static Ints add16(const Ints& a, const Ints& b) {
    return halves16(a, b, [](uint32_t x, uint32_t y) { return x + y; });
  }
  static Ints add16_saturated(const Ints& a, const Ints& b) {
    return halves16(a, b, [](uint32_t x, uint32_t y) {
      return static_cast<uint32_t>(std::clamp(static_cast<int16_t>(x) + static_cast<int16_t>(y), -32768, 32767));
    });
  }
  static Ints mulhrs16(const Ints& a, const Ints& b) {
    return halves16(a, b, [](uint32_t x, uint32_t y) {
      return static_cast<uint32_t>((static_cast<int16_t>(x) * static_cast<int16_t>(y) + (1 << 14)) >> 15);
    });
  }
  static Ints two_halves(const int32_t* p) {
    Ints v;
    for (size_t i = 0; i < kSize; ++i) v[i] = static_cast<uint32_t>(p[i / 8]);
    return v;
  }
  static Ints nearest(const Floats& v) {
    Ints n;
    for (size_t i = 0; i < kSize; ++i) {
      n[i] =
          std::fabs(v[i]) < 0x1p31F ? static_cast<uint32_t>(static_cast<int32_t>(std::nearbyint(v[i]))) : 0x80000000u;
    }
    return n;
  }
  static Floats magnitude(const Floats& v) {
    return lanes([&](size_t i) { return std::fabs(v[i]); });
  }
  static Floats largest(const Floats& a, const Floats& b) {
    return lanes([&](size_t i) { return b[i] > a[i] ? b[i] : a[i]; });
  }
  static Floats quotient_or_zero(const Floats& a, const Floats& b) {
    return lanes([&](size_t i) { return b[i] >= 0x1p-100F && b[i] <= 0x1p100F ? a[i] / b[i] : 0.0F; });
  }
  static Ints both(Ints a, const Ints& b) {
    for (size_t i = 0; i < kSize; ++i) a[i] &= b[i];
    return a;
  }

 private:
  // The low 16 bits of fn of both 16-bit halves of each lane.
  template <class F>
  static Ints halves16(Ints a, const Ints& b, F fn) {
    for (size_t i = 0; i < kSize; ++i) {
      a[i] = (fn(a[i] & 0xffff, b[i] & 0xffff) & 0xffff) | fn(a[i] >> 16, b[i] >> 16) << 16;
    }
    return a;
  }
  // Byte i becomes fn(byte, i), modulo 256.
  template <class F>
  static Ints bytes(const Ints& v, F fn) {
    Bytes b;
    std::memcpy(b.data(), v.data(), sizeof b);
    for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<uint8_t>(fn(unsigned{b[i]}, i));
    Ints out;
    std::memcpy(out.data(), b.data(), sizeof b);
    return out;
  }
  template <class F>
  static Floats lanes(F fn) {
    Floats v;
    for (size_t i = 0; i < kSize; ++i) v[i] = fn(i);
    return v;
  }
};

struct PlainTileWords : PlainWords<16> {
  static constexpr bool kFloatSums = true;

  static void tiles_begin(int) {}
  static void tiles_end() {}

  static void tile_product(const std::byte* x, const std::byte* w, int32_t* out) {
    for (int t = 0; t < 16; ++t) {
      for (int r = 0; r < 16; ++r) {
        int sum = 0;
        for (int i = 0; i < 32; ++i) {
          sum += static_cast<int8_t>(x[64 * t + i]) * static_cast<int8_t>(w[i / 4 * 64 + 4 * r + i % 4]);
        }
        out[16 * t + r] = sum;
      }
    }
  }

  template <class Between>
  static void tile_products(const std::byte* x, const std::byte* w, int32_t* out, const Between& between) {
    for (int g = 0; g < 8; ++g) {
      tile_product(x + 64 * kTileTokens * (g / 2) + 32 * (g % 2), w + 512 * g, out + 256 * g);
      between(g);
    }
  }

  template <class Blocks, int kTiles, class Between>
  static void block_products(const std::byte* x, const std::byte* x_sums, const std::byte* w, const std::byte* w_mins,
                             int32_t* before, int32_t* out, const Between& between) {
    block_end<Blocks, kTiles>(before);
    for (int i = 0; i < kTiles * Blocks::kSums * 256; ++i) {
      const int tile = i / 256 / Blocks::kSums, piece = i / 256 % Blocks::kSums, t = i / 16 % 16, r = i % 16;
      if (piece == Blocks::kPieces) {
        float sum = 0;
        for (int j = 0; j < 32; ++j) {
          const std::byte* code_sum = x_sums + (16 * tile + t) * Blocks::kSumBytes + 2 * j;
          sum += bf16(code_sum) * bf16(w_mins + 64 * (j / 2) + 4 * r + j % 2 * 2);
        }
        std::memcpy(out + i, &sum, sizeof sum);
      } else {
        held[i] = 0;
      }
    }
    block_more<Blocks, kTiles>(x, w, between);
  }
  template <class Blocks, int kTiles, class Between>
  static void block_more(const std::byte* x, const std::byte* w, const Between& between) {
    [&]<int... i>(std::integer_sequence<int, i...>) { (between(std::integral_constant<int, i>()), ...); }
    (std::make_integer_sequence<int, 4 * Blocks::kPieces * kTiles>());
    for (int i = 0; i < kTiles * Blocks::kSums * 256; ++i) {
      const int tile = i / 256 / Blocks::kSums, piece = i / 256 % Blocks::kSums, t = i / 16 % 16, r = i % 16;
      if (piece == Blocks::kPieces) continue;
      for (int j = 0; j < 256; ++j) {
        const std::byte byte =
            w[j / 64 * Blocks::kStepBytes + piece * Blocks::kPieceBytes + j % 64 / 4 * 64 + 4 * r + j % 4];
        const int code = Blocks::kUnsigned ? static_cast<int>(byte) : static_cast<int8_t>(byte);
        held[i] += static_cast<int8_t>(x[64 * (j / 64 * kTileTokens + 16 * tile + t) + j % 64]) * code;
      }
    }
  }
  template <class Blocks, int kTiles>
  static void block_end(int32_t* out) {
    for (int i = 0; i < kTiles * Blocks::kSums * 256; ++i) {
      if (i / 256 % Blocks::kSums < Blocks::kPieces) out[i] = held[i];
    }
  }

  // What the tile unit holds, of this thread.
  static inline thread_local int32_t held[6 * 256];

 private:
  static float bf16(const std::byte* p) {
    uint16_t bits;
    std::memcpy(&bits, p, 2);
    return bf16_to_f32(bits);
  }
};

}  // namespace ll
