// Products of kX16 panels with 16 tokens and more on int8 tiles (AMX), which give the bits of single tokens' products.
// Over the words of x16_product.h, and included as that.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/x16_product.h"

namespace ll {
namespace {

// Plain formats. Up to eight sub-blocks of a panel unpacked once for many tokens: signed codes as tiles of 32 k, d and
// m as floats of 16 rows.
template <X16Format F>
struct X16Unpacked {
  static constexpr int64_t kBytes = 8 * (512 + 64 * (F.min ? 2 : 1));
  static int64_t bytes(int64_t k) { return (k + 255) / 256 * kBytes; }

  explicit X16Unpacked(std::byte* eight)
      : codes(eight), scale(reinterpret_cast<float*>(codes + 8 * 512)), min(scale + 8 * 16) {}

  std::byte* codes;    // [8][8][16][4]
  float *scale, *min;  // [8][16]
};

template <class W, X16Format F>
void x16_unpack_panel(const std::byte* panel, int64_t k, Range part, std::byte* scratch, int64_t panels) {
  const int64_t count = k / 32, first = part.begin / 32;
  const auto zero = W::set(static_cast<int32_t>(static_cast<uint32_t>(F.zero) * 0x01010101u));
  for (int64_t b = first; b < part.end / 32; ++b) {
    const X16Unpacked<F> to(scratch + (b - first) / 8 * panels * X16Unpacked<F>::kBytes);
    const std::byte *block = F.block(panel, count, b), *head = F.head(panel, b);
#pragma GCC unroll 8
    for (int u = 0; u < 8; ++u) {
      W::store(to.codes + 512 * (b % 8) + 64 * u, W::subtract8(x16_codes<W, F>(block, 0, u), zero));
    }
    W::store(to.scale + 16 * (b % 8), W::halves(head));
    if constexpr (F.min) W::store(to.min + 16 * (b % 8), W::halves(head + 32));
  }
}

// Tokens arranged for tiles: codes, so that rows of tiles lie side by side, and what the products' sums are scaled
// with.
inline constexpr int64_t kTileCodes = 256 * kTileTokens;  // bytes of 256 k
constexpr int64_t x16_code_bytes(int64_t k) { return (k + 255) / 256 * kTileCodes; }

// int8[k / 256, rounded up][4][kTileTokens / 16][16][64].
template <class W>
void x16_arrange_codes(const DotTokens& x, int64_t tokens, int64_t k, std::byte* to) {
  const auto part = [&](int64_t t, int64_t i) {
    return to + i / 256 * kTileCodes + i % 256 / 64 * 64 * kTileTokens + 64 * t + i % 64;
  };
  for (int64_t first = 0; first < tokens; first += 16) {
    const std::byte* from = x.rows + first * x.row_bytes;
    for (int64_t i = 0; i + 64 <= k; i += 64) {
      std::byte* rows = part(first, i);  // 16 rows at once: loads that follow stores 4 KB apart would wait for them
      typename W::Ints row[16];
#pragma GCC unroll 16
      for (int t = 0; t < 16; ++t) row[t] = W::load(from + t * x.row_bytes + i);
#pragma GCC unroll 16
      for (int t = 0; t < 16; ++t) W::store(rows + 64 * t, row[t]);
    }
    for (int64_t t = 0; k % 64 != 0 && t < 16; ++t)
      std::memcpy(part(first + t, k - 32), from + t * x.row_bytes + k - 32, 32);
  }
}

// Asks for part `part` of `parts` of codes that come next.
inline void x16_ask_codes(const std::byte* codes, int64_t bytes, int64_t part, int64_t parts) {
  for (int64_t i = part * (bytes / 64) / parts; i < (part + 1) * (bytes / 64) / parts; ++i) {
    __builtin_prefetch(codes + 64 * i, 0, 3);
  }
}

// Scales for 256 k: float[k / 256][kTileTokens].
inline void x16_arrange_scales(const DotTokens& x, int64_t tokens, int64_t k, float* to) {
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t b = 0; b < k / 256; ++b)
      std::memcpy(to + kTileTokens * b + t, x.rows + t * x.row_bytes + k + 32 * b, 4);
  }
}

// Behind the codes for plain formats.
struct X16Factors {
  X16Factors(std::byte* arranged, int64_t k)
      : scale(reinterpret_cast<float*>(arranged + x16_code_bytes(k))),
        min(scale + kTileTokens * 8 * ((k + 255) / 256)) {}

  float *scale, *min;  // [k / 256, rounded up][kTileTokens][8]
};

template <class W, bool kMin>
void x16_arrange(const DotTokens& x, int64_t tokens, int64_t k, std::byte* arranged) {
  x16_arrange_codes<W>(x, tokens, k, arranged);
  const X16Factors to(arranged, k);
  for (int64_t t = 0; t < tokens; ++t) {
    const std::byte* row = x.rows + t * x.row_bytes + k;
    for (int64_t q = 0; q < k / 32; q += 8) {
      const auto subs = static_cast<size_t>(std::min<int64_t>(8, k / 32 - q));
      float *scale = to.scale + kTileTokens * q + 8 * t, *min = to.min + kTileTokens * q + 8 * t;
      std::memcpy(scale, row + 4 * q, 4 * subs);
      if constexpr (kMin) {
        int16_t sums[16];
        std::memcpy(sums, row + k / 8 + 4 * q, 4 * subs);
        for (size_t s = 0; s < subs; ++s) min[s] = static_cast<float>(sums[2 * s] + sums[2 * s + 1]) * scale[s];
      }
    }
  }
}

// Where the sums of up to eight sub-blocks are that the tile unit left, and what scales them.
template <class W, X16Format F>
struct X16Sums {
  using Floats = typename W::Floats;

  // Token t of the tile, as x16_dot does it.
  inline __attribute__((always_inline)) void add_eight(int64_t t) const {
    Floats total = W::load_floats(out + 16 * t);
#pragma GCC unroll 8
    for (int s = 0; s < 8; ++s) add_one(t, s, total);
    W::store(out + 16 * t, total);
  }
  void add_some(int64_t t, int64_t subs) const {
    Floats total = W::load_floats(out + 16 * t);
    for (int64_t s = 0; s < subs; ++s) add_one(t, s, total);
    W::store(out + 16 * t, total);
  }

  const std::byte* sums;         // int32[subs][16][16]
  const float *w_scale, *w_min;  // [subs][16]
  const float *x_scale, *x_min;  // [16][8]
  float* out;

 private:
  inline __attribute__((always_inline)) void add_one(int64_t t, int64_t s, Floats& total) const {
    const Floats sum = W::floats(W::load(sums + 1024 * s + 64 * t));
    total = W::fma(sum, W::mul(W::load_floats(w_scale + 16 * s), W::broadcast(x_scale + 8 * t + s)), total);
    if constexpr (F.min) total = W::fma(W::broadcast(x_min + 8 * t + s), W::load_floats(w_min + 16 * s), total);
  }
};

// Unpacked panels times one or two tiles of 16 tokens: eight sub-blocks of the tokens meet all panels while they are in
// the L1 cache. While the tile unit multiplies eight sub-blocks of a panel, the vector unit scales and adds up the sums
// of those before, two tokens after each product.
template <class W, X16Format F>
void x16_tiles(const std::byte* unpacked, int64_t panels, int64_t k, Range part, const TileTokens& x, float* out,
               TilesPending& /*none: what is summed is added*/) {
  static_assert(W::kLanes == 16 && F.group == 0);
  const std::byte* const arranged = x.arranged;
  const int64_t tokens = x.count;
  constexpr int64_t kBatch = 8;
  const X16Factors factors(const_cast<std::byte*>(arranged), k);
  alignas(64) int32_t sums[2][kBatch][16][16];
  X16Sums<W, F> before = {};
  int64_t before_subs = 0;
  for (int64_t p = 0; part.begin == 0 && p < panels; ++p) {
    std::memset(out + 16 * kTileTokens * p, 0, static_cast<size_t>(64 * tokens));
  }
  W::tiles_begin(32);
  int turn = 0;
  for (int64_t q = part.begin / 32; q < part.end / 32; q += kBatch) {
    const int64_t subs = std::min(kBatch, part.end / 32 - q);
    const std::byte* const codes = arranged + q / kBatch * kTileCodes;
    for (int64_t p = 0; p < panels; ++p) {
      if (q + kBatch < part.end / 32) x16_ask_codes(codes + kTileCodes, kTileCodes, p, panels);
      const int64_t batch = (q - part.begin / 32) / kBatch;
      const X16Unpacked<F> w(const_cast<std::byte*>(unpacked) + (batch * panels + p) * X16Unpacked<F>::kBytes);
      for (int64_t tile = 0; tile < tokens / 16; ++tile, turn ^= 1) {
        const std::byte* codes_of_x = codes + 1024 * tile;
        int32_t* to = sums[turn][0][0];
        if (subs == kBatch && before_subs == kBatch) {
          const X16Sums<W, F> of = before;
          W::tile_products(
              codes_of_x, w.codes, to, [&](int g) __attribute__((always_inline)) {
                of.add_eight(2 * g);
                of.add_eight(2 * g + 1);
              });
        } else {
          for (int64_t t = 0; t < 16 && before_subs > 0; ++t) before.add_some(t, before_subs);
          for (int64_t s = 0; s < subs; ++s)
            W::tile_product(codes_of_x + 64 * kTileTokens * (s / 2) + 32 * (s % 2), w.codes + 512 * s, to + 256 * s);
        }
        const int64_t of_x = 8 * (q / 8 * kTileTokens + 16 * tile);
        before = {reinterpret_cast<const std::byte*>(to),  w.scale, w.min, factors.scale + of_x, factors.min + of_x,
                  out + 16 * (kTileTokens * p + 16 * tile)};
        before_subs = subs;
      }
    }
  }
  W::tiles_end();
  for (int64_t t = 0; t < 16; ++t) before.add_some(t, before_subs);
}

// Grouped formats. Weights for tiles are scale * (code - zero), at most 13 bits with their sign. Formats without a zero
// split the scale into two of 3 bits, so that a code times either is an unsigned byte (31 * 7), or need only one (3 *
// 15); others split the product into 64 * high + low, low in 0 .. 63, or, where it fits, negate it (-124 .. 128). The
// sums over 256 k then leave the tile unit once, and so do those of the minima: these have at most 6 bits and the sums
// of codes 16, so that two bf16 hold such a sum and f32 the sums of products, all exactly.
template <X16Format F>
struct X16Blocks {
  static constexpr bool kUnsigned = F.zero == 0, kReadAtOnce = true;
  static constexpr int kPieces =
      F.packing == blocks::ScalePacking::kQ2K || F.packing == blocks::ScalePacking::kQ3K ? 1 : 2;
  static constexpr bool kNegated = kPieces == 1 && !kUnsigned;
  static constexpr int kShift = kUnsigned ? 3 : 6;         // of the first of two pieces
  static constexpr int kSums = kPieces + (F.min ? 1 : 0);  // of each token and row
  static constexpr int kMins = F.min ? 256 / F.group : 0;  // of a row
  static constexpr int64_t kSumBytes = 4 * kMins;          // of a token
  static constexpr int64_t kCodeBytes = 16 * 256 * kPieces, kMinBytes = F.min ? 1024 : 0;
  static constexpr int64_t kPieceBytes = 1024, kStepBytes = 1024 * kPieces;  // from one to the next

  static constexpr int64_t kBytes = kCodeBytes + kMinBytes + 128;
  static int64_t bytes(int64_t k) { return (k + 255) / 256 * kBytes; }

  explicit X16Blocks(std::byte* block)
      : codes(block), mins(codes + kCodeBytes), factor(reinterpret_cast<float*>(mins + kMinBytes)) {}

  std::byte* codes;  // [4][kPieces][16][16][4]
  std::byte* mins;   // bf16[16][16][2], each twice; zeros after the last group
  float* factor;     // [d, dmin][16]
};

// The lower half of each lane in both.
template <class W>
inline __attribute__((always_inline)) typename W::Ints x16_twice(typename W::Ints v) {
  return W::either(W::both(v, W::set(0xffff)), W::shift_left32(v, 16));
}

template <class W, X16Format F>
void x16_unpack_blocks(const std::byte* panel, int64_t k, Range part, std::byte* scratch, int64_t panels) {
  using Ints = typename W::Ints;
  using To = X16Blocks<F>;
  const int64_t count = k / 256, first = part.begin / 256;
  for (int64_t b = first; b < part.end / 256; ++b) {
    const std::byte *block = F.block(panel, count, b), *head = F.head(panel, b);
    const To to(scratch + (b - first) * panels * To::kBytes);
    for (int s = 0; s < 8; ++s) {
      const std::byte* sub = block + F.scale_bytes() + s * F.sub_bytes();
      std::byte* tile = to.codes + s / 2 * 1024 * To::kPieces + s % 2 * 512;
      for (int g = 0; g < F.groups_per_sub(); ++g) {
        const Ints one = x16_scale<W, F>(block, head, 0, s * F.groups_per_sub() + g);
        constexpr int kUnits = 8 / F.groups_per_sub();
        if constexpr (To::kUnsigned) {
          const Ints high = x16_twice<W>(To::kPieces == 2 ? W::shift_right32(one, To::kShift) : one);
          const Ints low = x16_twice<W>(W::both(one, W::set((1 << To::kShift) - 1)));
#pragma GCC unroll 8
          for (int u = g * kUnits; u < (g + 1) * kUnits; ++u) {
            const Ints codes = x16_codes<W, F>(sub, 0, u);  // two of 16 bits at once: no product leaves its byte
            W::store(tile + 64 * u, W::mul16(codes, high));
            if constexpr (To::kPieces == 2) W::store(tile + 1024 + 64 * u, W::mul16(codes, low));
          }
        } else {
          const Ints zero = W::set(F.zero * 0x00010001), low_byte = W::set(0x00ff00ff), low_bits = W::set(0x003f003f);
          const Ints scale = x16_twice<W>(one);
#pragma GCC unroll 8
          for (int u = g * kUnits; u < (g + 1) * kUnits; ++u) {
            const Ints codes = x16_codes<W, F>(sub, 0, u);
            const Ints even = W::mul16(W::subtract16(W::both(codes, low_byte), zero), scale);
            const Ints odd = W::mul16(W::subtract16(W::shift_right16(codes, 8), zero), scale);
            const auto bytes = [&](Ints a, Ints b16) __attribute__((always_inline)) {
              return W::either(W::both(a, low_byte), W::shift_left16(b16, 8));
            };
            if constexpr (To::kNegated) {
              W::store(tile + 64 * u, bytes(W::subtract16(W::zeros(), even), W::subtract16(W::zeros(), odd)));
            } else {
              W::store(tile + 64 * u,
                       bytes(W::shift_right16_signed(even, To::kShift), W::shift_right16_signed(odd, To::kShift)));
              W::store(tile + 1024 + 64 * u, bytes(W::both(even, low_bits), W::both(odd, low_bits)));
            }
          }
        }
      }
    }
    if constexpr (F.min) {
      for (int j = 0; j < 16; ++j) {
        Ints min = W::zeros();
        if (j < To::kMins) min = W::float_bits(W::floats(x16_min<W, F>(block, 0, j)));
        W::store(to.mins + 64 * j, W::either(min, W::shift_right32(min, 16)));
      }
      W::store(to.factor + 16, W::halves(head + 32));
    }
    W::store(to.factor, W::halves(head));
  }
}

// Behind the codes for grouped formats, whether they have minima or not: those of one type after another share them.
struct X16BlockFactors {
  X16BlockFactors(std::byte* arranged, int64_t k)
      : scale(reinterpret_cast<float*>(arranged + x16_code_bytes(k))),
        sums(reinterpret_cast<std::byte*>(scale + kTileTokens * (k / 256))) {}

  float* scale;     // [k / 256][kTileTokens]
  std::byte* sums;  // bf16[k / 256][kTileTokens][256 / group][2]: two that are the sum of a group's codes
};

template <class W, int kGroup>
void x16_arrange_blocks(const DotTokens& x, int64_t tokens, int64_t k, std::byte* arranged) {
  x16_arrange_codes<W>(x, tokens, k, arranged);
  const X16BlockFactors to(arranged, k);
  const typename W::Ints ones = W::set(0x00010001), upper = W::set(static_cast<int32_t>(0xffff0000u));
  const typename W::Floats one = W::floats(W::set(1));
  x16_arrange_scales(x, tokens, k, to.scale);
  for (int64_t b = 0; b < k / 256; ++b) {
    for (int64_t t = 0; t < tokens; ++t) {
      const std::byte* of_16 = x.rows + t * x.row_bytes + k + k / 8 + 32 * b;
      const typename W::Floats sum =
          W::floats(kGroup == 16 ? W::signed_halves(of_16) : W::products16(W::load_low(of_16), ones));
      const typename W::Ints high = W::both(W::float_bits(sum), upper);
      const typename W::Floats low = W::fnma(W::from_bits(high), one, sum);
      // A store of 8 sums reaches into the next token's, which come next, or in the end beyond the last.
      W::store(to.sums + 1024 / kGroup * (kTileTokens * b + t),
               W::either(W::shift_right32(high, 16), W::float_bits(low)));
    }
  }
}

// Where the sums of a block are that the tile unit left, and what scales them.
struct X16BlockSums {
  const float* factor;
  const std::byte* sums;
  const float* scale;
  float* out;
};

// What scales the sums of a block, in registers.
template <class W, X16Format F>
struct X16BlockScales {
  using Floats = typename W::Floats;

  explicit __attribute__((always_inline)) X16BlockScales(const X16BlockSums& of)
      : d(W::load_floats(of.factor)), m(F.min ? W::load_floats(of.factor + 16) : d) {}

  // Token t's sums of 16 rows.
  inline __attribute__((always_inline)) void add(const X16BlockSums& of, int64_t t) const {
    using Blocks = X16Blocks<F>;
    const std::byte* sum = of.sums + (t / 16 * 16 * Blocks::kSums + t % 16) * 64;
    typename W::Ints whole = W::load(sum);
    if constexpr (Blocks::kPieces == 2) whole = W::add32(W::shift_left32(whole, Blocks::kShift), W::load(sum + 1024));
    Floats of_block = W::mul(W::floats(whole), d);
    if constexpr (F.min) {
      const Floats mins = W::load_floats(reinterpret_cast<const float*>(sum + 1024 * Blocks::kPieces));
      of_block = W::fnma(mins, m, of_block);
    }
    const Floats scale = W::broadcast(of.scale + t), total = W::load_floats(of.out + 16 * t);
    W::store(of.out + 16 * t, Blocks::kNegated ? W::fnma(of_block, scale, total) : W::fma(of_block, scale, total));
  }

  Floats d, m;
};

// x16_tiles for grouped formats. While the tile unit multiplies a block of a panel, the vector unit scales and adds up
// the sums of the block before it: a few tokens after each product, since only what is near runs side by side.
template <class W, X16Format F, int kTiles>
void x16_block_tiles_of(const std::byte* unpacked, int64_t panels, int64_t k, Range part, const std::byte* arranged,
                        float* out) {
  using Blocks = X16Blocks<F>;
  static_assert(W::kLanes == 16);
  constexpr int kTokens = 16 * kTiles, kAtOnce = 4 / Blocks::kPieces;
  const X16BlockFactors factors(const_cast<std::byte*>(arranged), k);
  alignas(64) int32_t sums[2][kTiles][Blocks::kSums][16][16];
  X16BlockSums before = {};
  W::tiles_begin(64);
  int turn = 0;
  const int64_t first = part.begin / 256, end = part.end / 256;
  for (int64_t b = first; b < end; ++b) {
    const std::byte *codes_of_x = arranged + b * kTileCodes,
                    *sums_of_x = factors.sums + Blocks::kSumBytes * kTileTokens * b;
    for (int64_t p = 0; p < panels; ++p, turn ^= 1) {
      if (b + 1 < end) x16_ask_codes(codes_of_x + kTileCodes, kTileCodes, p, panels);
      const Blocks w(const_cast<std::byte*>(unpacked) + ((b - first) * panels + p) * Blocks::kBytes);
      int32_t *to = sums[turn][0][0][0], *other = sums[turn ^ 1][0][0][0];
      if (b == 0) std::memset(out + 16 * kTileTokens * p, 0, 64 * kTokens);
      if (b == first && p == 0) {
        W::template block_products<Blocks, kTiles>(codes_of_x, sums_of_x, w.codes, w.mins, other, to, [](auto) {});
      } else {
        const X16BlockSums of = before;
        const X16BlockScales<W, F> scales(of);
        W::template block_products<Blocks, kTiles>(
            codes_of_x, sums_of_x, w.codes, w.mins, other, to,
            [ scales, of ](auto product) __attribute__((always_inline)) {
              constexpr int kToken = kAtOnce * product();
              scales.add(of, kToken), scales.add(of, kToken + 1);
              if constexpr (kAtOnce == 4) scales.add(of, kToken + 2), scales.add(of, kToken + 3);
            });
      }
      before = {w.factor, reinterpret_cast<const std::byte*>(to), factors.scale + kTileTokens * b,
                out + 16 * kTileTokens * p};
    }
  }
  W::template block_end<Blocks, kTiles>(sums[turn ^ 1][0][0][0]);
  W::tiles_end();
  const X16BlockScales<W, F> scales(before);
  for (int t = 0; t < kTokens; ++t) scales.add(before, t);
}

template <class W, X16Format F>
void x16_block_tiles(const std::byte* unpacked, int64_t panels, int64_t k, Range part, const TileTokens& x, float* out,
                     TilesPending& /*none: what is summed is added*/) {
  if (x.count == kTileTokens) return x16_block_tiles_of<W, F, 2>(unpacked, panels, k, part, x.arranged, out);
  x16_block_tiles_of<W, F, 1>(unpacked, panels, k, part, x.arranged, out);
}

}  // namespace
}  // namespace ll
