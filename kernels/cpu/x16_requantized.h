// Prompts on int8 tiles: panels of kX16 whose weights are rounded anew, to one scale for 256 of a row, so that a
// product of 64 k of any format is one of bytes and sums leave the tile unit once in 256 k. The rounding adds about as
// much error as that of the activations (docs/decisions/0012-requantized-prompts.md). Include as x16_product.h, whose
// words and tiles these are.
//
// For row r and 256 k, with f and low of each group of weights (value = f * code + low) and D the largest |value| that
// the codes of any group can make:
//   scale   D / 127, f32
//   weight  (code * nearest(256 f / scale) + nearest(256 low / scale) + 128) >> 8, or where codes have 8 bits
//           (mulhrs(256 code, nearest(32767 f / scale)) + 128) >> 8: the nearest integer to value / scale, or in rare
//           cases its neighbour; -128 .. 127
// Tokens of scales for each 32 get one of 256, the largest of the eight, and codes by mulhrs too.
#pragma once

#include "kernels/cpu/x16_tiles.h"

namespace ll {
namespace {

// 256 k of a panel.
struct X16Requantized {
  static constexpr int64_t kCodeBytes = 16 * 256, kBytes = kCodeBytes + 64;
  static int64_t bytes(int64_t k) { return (k + 255) / 256 * kBytes; }

  explicit X16Requantized(std::byte* block) : codes(block), scale(reinterpret_cast<float*>(codes + kCodeBytes)) {}

  std::byte* codes;  // int8[4][16][16][4]
  float* scale;      // [16]
};

// The products of signed bytes with `by` over 2^15, rounded to bytes: `by` is a fraction in each half lane. -128 times
// -1 is 127.
template <class W>
inline __attribute__((always_inline)) typename W::Ints x16_scaled_bytes(typename W::Ints bytes, typename W::Ints by) {
  const typename W::Ints half = W::set(0x00800080), high_byte = W::set(static_cast<int32_t>(0xff00ff00u));
  const typename W::Ints even = W::add16_saturated(W::mulhrs16(W::shift_left16(bytes, 8), by), half);
  const typename W::Ints odd = W::add16_saturated(W::mulhrs16(W::both(bytes, high_byte), by), half);
  return W::either(W::shift_right16(even, 8), W::both(odd, high_byte));
}

template <class W, X16Format F>
void x16_requantize(const std::byte* panel, int64_t k, Range part, std::byte* scratch, int64_t panels) {
  using Ints = typename W::Ints;
  using Floats = typename W::Floats;
  constexpr bool kBytes = F.low_bits == 8 || F.table;  // codes of 8 bits
  constexpr int kGroups = 8 * F.groups_per_sub(), kUnits = 8 / F.groups_per_sub();
  constexpr int kMost = kBytes ? 255 : (1 << (F.low_bits + F.high_bits)) - 1, kLeast = kBytes ? 1 : 0;
  const int64_t count = k / F.elements, first = part.begin / 256, subs_of_k = k / 32;
  const auto number = [](float v) __attribute__((always_inline)) { return W::broadcast(&v); };
  const Floats zero = number(static_cast<float>(F.zero)), most = number(static_cast<float>(kMost)),
               least = number(static_cast<float>(kLeast));
  for (int64_t b = first; b * 256 < part.end; ++b) {
    const X16Requantized to(scratch + (b - first) * panels * X16Requantized::kBytes);
    const int subs = static_cast<int>(std::min<int64_t>(8, subs_of_k - 8 * b));
    const int groups = subs * F.groups_per_sub();
    const std::byte* block = panel + b * (F.group == 0 ? 8 : 1) * F.block_bytes();
    const std::byte* tail = panel + count * F.block_bytes() + b * (F.group == 0 ? 8 : 1) * F.tail_bytes();
    Floats factor[kGroups], low[kGroups], largest = W::float_zeros(), all = W::float_zeros();
    const auto bound = [&](int j) __attribute__((always_inline)) {
      const Floats end = W::magnitude(W::fma(factor[j], most, low[j]));
      largest = W::largest(W::largest(largest, end), W::magnitude(W::fma(factor[j], least, low[j])));
      all = W::fma(end, number(0), all);
    };
    if constexpr (F.group == 0) {
      for (int j = 0; j < groups; ++j) {
        factor[j] = W::halves(tail + j * F.tail_bytes());
        low[j] = W::fnma(factor[j], zero, F.min ? W::halves(tail + j * F.tail_bytes() + 32) : W::float_zeros());
        bound(j);
      }
    } else {
      const Floats d = W::halves(tail);
#pragma GCC unroll 16
      for (int j = 0; j < kGroups; ++j) {
        factor[j] = W::mul(W::floats(x16_scale<W, F>(block, tail, 0, j)), d);
        low[j] = W::fnma(factor[j], zero, W::float_zeros());
        if constexpr (F.min) low[j] = W::fnma(W::floats(x16_min<W, F>(block, 0, j)), W::halves(tail + 32), low[j]);
        bound(j);
      }
    }
    W::store(to.scale, W::fma(largest, number(1.0F / 127), all));  // not a number where a weight is not finite
    const Floats to_codes = W::quotient_or_zero(number(127), largest);
    for (int s = 0; s < subs; ++s) {
      const std::byte* sub = block + F.scale_bytes() + s * (F.group == 0 ? F.block_bytes() : F.sub_bytes());
      std::byte* tile = to.codes + 512 * s;
      for (int g = 0; g < F.groups_per_sub(); ++g) {
        const int j = s * F.groups_per_sub() + g;
        const Floats f = W::mul(factor[j], to_codes);
        if constexpr (kBytes) {
          const Ints by = x16_twice<W>(W::nearest(W::mul(f, number(32767))));
#pragma GCC unroll 8
          for (int u = g * kUnits; u < (g + 1) * kUnits; ++u) {
            const Ints codes = W::subtract8(x16_codes<W, F>(sub, 0, u), W::set(static_cast<int32_t>(0x80808080u)));
            W::store(tile + 64 * u, x16_scaled_bytes<W>(codes, by));
          }
        } else {
          const Ints by = x16_twice<W>(W::nearest(W::mul(f, number(256))));
          const Ints from =
              x16_twice<W>(W::add32(W::nearest(W::mul(W::mul(low[j], to_codes), number(256))), W::set(128)));
          const Ints low_byte = W::set(0x00ff00ff), high_byte = W::set(static_cast<int32_t>(0xff00ff00u));
#pragma GCC unroll 8
          for (int u = g * kUnits; u < (g + 1) * kUnits; ++u) {
            const Ints codes = x16_codes<W, F>(sub, 0, u);
            const Ints even = W::add16(W::mul16(W::both(codes, low_byte), by), from);
            const Ints odd = W::add16(W::mul16(W::shift_right16(codes, 8), by), from);
            W::store(tile + 64 * u, W::either(W::shift_right16(even, 8), W::both(odd, high_byte)));
          }
        }
      }
    }
    for (int s = subs; s < 8; ++s) std::memset(to.codes + 512 * s, 0, 512);
  }
}

// Behind the codes.
inline float* x16_token_scales(std::byte* arranged, int64_t k) {  // [k / 256, rounded up][kTileTokens]
  return reinterpret_cast<float*>(arranged + x16_code_bytes(k));
}

// Tokens of q8a256.
template <class W>
void x16_arrange_256(const DotTokens& x, int64_t tokens, int64_t k, std::byte* arranged) {
  x16_arrange_codes<W>(x, tokens, k, arranged);
  x16_arrange_scales(x, tokens, k, x16_token_scales(arranged, k));
}

// Tokens of q8a.
template <class W>
void x16_arrange_32(const DotTokens& x, int64_t tokens, int64_t k, std::byte* arranged) {
  float* scales = x16_token_scales(arranged, k);
  for (int64_t b = 0; b < (k + 255) / 256; ++b) {
    const int64_t subs = std::min<int64_t>(8, k / 32 - 8 * b);
    for (int64_t t = 0; t < tokens; ++t) {
      const std::byte* row = x.rows + t * x.row_bytes;
      float of_32[8] = {}, largest = 0, all = 0;
      std::memcpy(of_32, row + k + 32 * b, static_cast<size_t>(4 * subs));
      for (const float scale : of_32) largest = std::max(largest, scale), all += scale;
      scales[kTileTokens * b + t] = all - all == 0 ? largest : all;  // what is not finite stays so; its codes are 0
      alignas(32) int32_t by[8];
      const float to_codes = largest > 0 ? 32767 / largest : 0;
      for (int s = 0; s < 8; ++s) {
        const auto fraction = of_32[s] <= largest ? static_cast<int32_t>(of_32[s] * to_codes + 0.5F) : 0;
        by[s] = fraction | fraction << 16;
      }
      std::byte* const to = arranged + b * kTileCodes + 64 * t;
      for (int64_t s = 0; s < 8; s += 2) {
        std::byte* const at = to + 32 * s * kTileTokens;
        const std::byte* const from = row + 256 * b + 32 * s;
        typename W::Ints codes = W::zeros();
        if (s + 2 <= subs) codes = W::load(from);
        if (s + 1 == subs) codes = W::load_low(from);
        W::store(at, x16_scaled_bytes<W>(codes, W::two_halves(by + s)));
      }
    }
  }
}

// kPanels panels side by side, as block_products knows pieces of one.
template <int kPanels>
struct X16RequantizedPanels {
  static constexpr bool kUnsigned = false;
  static constexpr int kPieces = kPanels, kSums = kPanels;
  static constexpr int64_t kPieceBytes = X16Requantized::kBytes, kStepBytes = 1024, kSumBytes = 0;
};

// Panels from `panel` on, kPanels at a time, times 16 * kTiles tokens, as x16_block_tiles_of.
template <class W, int kTiles, int kPanels>
void x16_requantized_tiles_of(const std::byte* unpacked, int64_t panel, int64_t end_panel, int64_t panels, Range part,
                              const std::byte* arranged, const float* x_scales, float* out) {
  using Panels = X16RequantizedPanels<kPanels>;
  using Floats = typename W::Floats;
  constexpr int kTokens = 16 * kTiles;
  struct Sums {
    const float *w_scale, *x_scale;
    const std::byte* sums;
    float* out;
  };
  struct Scales {
    explicit __attribute__((always_inline)) Scales(const Sums& of) {
      for (int n = 0; n < kPanels; ++n) scale[n] = W::load_floats(of.w_scale + n * (X16Requantized::kBytes / 4));
    }
    inline __attribute__((always_inline)) void add(const Sums& of, int n, int tile, int t) const {
      float* const to = of.out + 16 * (n * kTileTokens + 16 * tile + t);
      const Floats sum = W::mul(W::floats(W::load(of.sums + 64 * (16 * (tile * kPanels + n) + t))), scale[n]);
      W::store(to, W::fma(sum, W::broadcast(of.x_scale + 16 * tile + t), W::load_floats(to)));
    }
    // Four of them, from i on.
    inline __attribute__((always_inline)) void add_four(const Sums& of, int i) const {
      for (int t = 0; t < 4; ++t) add(of, i / kTokens, i % kTokens / 16, i % 16 + t);
    }
    Floats scale[kPanels];
  };
  alignas(64) int32_t sums[2][kTiles][kPanels][16][16];
  Sums stored = {}, held = {};  // of the two blocks before: the sums of the last are in the tile unit
  int64_t done = 0;
  W::tiles_begin(64);
  int turn = 0;
  const int64_t first = part.begin / 256, end = (part.end + 255) / 256;
  for (int64_t b = first; b < end; ++b) {
    const std::byte* const codes = arranged + b * kTileCodes;
    for (int64_t p = panel; p < end_panel; p += kPanels, turn ^= 1, ++done) {
      if (b + 1 < end) x16_ask_codes(codes, p / kPanels, (panels + kPanels - 1) / kPanels);
      const X16Requantized w(const_cast<std::byte*>(unpacked) + ((b - first) * panels + p) * X16Requantized::kBytes);
      int32_t* const to = sums[turn][0][0][0];  // for the sums of the block before
      float* const of_panel = out + 16 * kTileTokens * p;
      for (int t = 0; b == 0 && t < kPanels * kTileTokens; ++t) W::store(of_panel + 16 * t, W::float_zeros());
      if (done < 2) {
        W::template block_products<Panels, kTiles>(codes, nullptr, w.codes, nullptr, to, nullptr, [](auto) {});
      } else {
        const Sums of = stored;
        const Scales scales(of);
        W::template block_products<Panels, kTiles>(
            codes, nullptr, w.codes, nullptr, to, nullptr,
            [ scales, of ](auto product) __attribute__((always_inline)) { scales.add_four(of, 4 * product()); });
      }
      stored = held;
      stored.sums = reinterpret_cast<const std::byte*>(to);
      held = {w.scale, x_scales + kTileTokens * b, nullptr, of_panel};
    }
  }
  W::template block_end<Panels, kTiles>(sums[turn][0][0][0]);
  W::tiles_end();
  held.sums = reinterpret_cast<const std::byte*>(sums[turn][0][0][0]);
  for (const Sums& of : {stored, held}) {
    if (of.out == nullptr) continue;  // there was one block alone
    const Scales scales(of);
    for (int n = 0; n < kPanels; ++n) {
      for (int tile = 0; tile < kTiles; ++tile) {
        for (int t = 0; t < 16; ++t) scales.add(of, n, tile, t);
      }
    }
  }
}

template <class W>
void x16_requantized_tiles(const std::byte* unpacked, int64_t panels, int64_t k, Range part, const std::byte* arranged,
                           int64_t tokens, float* out) {
  const float* const x_scales = x16_token_scales(const_cast<std::byte*>(arranged), k);
  const auto multiply = [&]<int kTiles, int kPanels>(int64_t from, int64_t to) {
    x16_requantized_tiles_of<W, kTiles, kPanels>(unpacked, from, to, panels, part, arranged, x_scales, out);
  };
  const int64_t pairs = panels / 2 * 2;
  if (tokens == kTileTokens) {
    if (pairs > 0) multiply.template operator()<2, 2>(0, pairs);
    if (pairs < panels) multiply.template operator()<2, 1>(pairs, panels);
  } else {
    if (pairs > 0) multiply.template operator()<1, 2>(0, pairs);
    if (pairs < panels) multiply.template operator()<1, 1>(pairs, panels);
  }
}

}  // namespace
}  // namespace ll
