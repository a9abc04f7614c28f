// Panels of kX16 (kernels/quant/layouts.h) times q8a tokens for levels with a four-byte dot product (VNNI) and, from
// 16 tokens on, int8 tiles (AMX): written once over the words of a level, instantiated for each format. Include only
// from kernels/cpu/LEVEL/ and from tests, once a file; everything has internal linkage.
//
// Words W of a level (kernels/cpu/avx512/words.h; in plain C++ kernels/cpu/plain_words_test.h):
//   kLanes                        32-bit lanes of a register, 8 or 16: a row of the panel each
//   Ints, Floats                  a register
//   load(p)                       4 * kLanes bytes, p aligned to 32
//   set(i), broadcast4(p), zeros()   one integer, the 4 bytes at p, or 0 in each lane
//   pin(v)                        keeps the order of the source: without it the compiler makes one chain a token of
//                                 what can run side by side
//   dot(sum, u, x)                sum + the four products of u's unsigned and x's signed bytes of each lane
//   bits(v, from, count, to)      bits [from, from + count) of every byte, moved to bit `to`
//   either(a, b), subtract8(a, b), subtract32(a, b)
//   lookup(u, table)              table[u] for every byte
//   unsigned_bytes(p), signed_bytes(p)   kLanes bytes, one a lane
//   floats(i), halves(p)          converted; kLanes f16
//   fma(a, b, c), fnma(a, b, c), mul(a, b), broadcast(p), float_zeros(), load_floats(p), store(p, v)
//   add32(a, b), mul32(a, b), shift_left32(v, n), shift_left16(v, n)
//   dot16(sum, a, b)              sum + the two products of 16-bit halves of each lane
//   neighbours(p, to)             16 int16 at p, each two added, as 8 int16 at `to`
// of 16 lanes moreover, on the 16-bit halves of each lane:
//   products16(a, b)              dot16 without a sum
//   mul16(a, b), subtract16(a, b), shift_right16(v, n) unsigned, shift_right16_signed(v, n), both(a, b) their common
//   bits
// and of a level with tiles (kLanes 16):
//   tiles_begin(k), tiles_end()   this thread multiplies tiles of k (32 or 64) from here to there
//   tile_product(x, w, out)       tiles of 32 k: out[t][r] = sum over i < 32 of x[t][i] * w[i / 4][r][i % 4], all
//                                 signed bytes, x rows of 64 bytes, out int32[16][16], t, r < 16
//   tile_products(x, w, out, between)   eight of them: x[4][kTileTokens][2][32], w[8][8][16][4], out
//                                 int32[8][16][16]; calls between(i), i < 8, after each
//   block_products<pieces, tiles>(x, w, out, between)
//                                 tiles of 64 k: out[i][p][t][r] = sum over j < 256 of x[j / 64][i][t][j % 64] *
//                                 w[j / 64][p][j % 64 / 4][r][j % 4], out int32[tiles][pieces][16][16]; calls
//                                 between(i), i < 4 * pieces * tiles, after each product
//
// Every level gives the same bits: sums over a block are exact integers, and everything after that is done lane by lane
// in the order of add_plain and add_block (kernels/cpu/avx2/linear_x16.h).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/avx2/linear_dots.h"
#include "kernels/cpu/x16_format.h"
#include "kernels/quant/q8a.h"

namespace ll {
namespace {

constexpr std::array<uint8_t, 16> unsigned_iq4_values() {
  std::array<uint8_t, 16> values = {};
  for (size_t i = 0; i < 16; ++i) values[i] = static_cast<uint8_t>(blocks::kIq4Values[i] + 128);
  return values;
}
constexpr std::array<uint8_t, 16> kUnsignedIq4Values = unsigned_iq4_values();

// Codes of k 4g .. 4g+3 of the rows from `row` on, unsigned.
template <class W, X16Format F>
inline __attribute__((always_inline)) typename W::Ints x16_codes(const std::byte* sub, int row, int g) {
  const std::byte* high = sub + 4 * row;
  const std::byte* low = high + 64 * F.high_bits;
  typename W::Ints w;
  // 128 more: the upper bit flipped.
  if constexpr (F.low_bits == 8) w = W::subtract8(W::load(low + 64 * g), W::set(static_cast<int32_t>(0x80808080u)));
  if constexpr (F.low_bits == 4) w = W::bits(W::load(low + 64 * (g % 4)), g / 4 * 4, 4, 0);
  if constexpr (F.low_bits == 2) w = W::bits(W::load(low + 64 * (g / 4)), g % 4 * 2, 2, 0);
  if constexpr (F.high_bits == 1) w = W::either(w, W::bits(W::load(high), g, 1, F.low_bits));
  if constexpr (F.high_bits == 2) {
    w = W::either(w, W::bits(W::load(high + 64 * (g / 4)), g % 4 * 2, 2, F.low_bits));
  }
  if constexpr (F.table) w = W::lookup(w, kUnsignedIq4Values.data());
  return w;
}

// Scale and minimum of group j of a block, of the rows from `row` on: kernels/quant/layouts.h says where their bits
// are.
template <class W, X16Format F>
inline __attribute__((always_inline)) typename W::Ints x16_scale(const std::byte* block, const std::byte* tail, int row,
                                                                 int j) {
  using enum blocks::ScalePacking;
  const auto at = [&](const std::byte* x, int a) { return W::unsigned_bytes(x + 16 * a + row); };
  if constexpr (F.packing == kQ2K) return W::bits(at(block, j), 0, 4, 0);
  if constexpr (F.packing == kQ6K) return W::signed_bytes(block + 16 * j + row);
  if constexpr (F.packing == kQ4K) {
    const int high = j / 4 * 2 + j % 2, shift = j / 2 % 2 * 4;
    return W::either(W::bits(at(block, j), 0, 4, 0), W::bits(at(block, 8 + high), shift, 2, 4));
  }
  if constexpr (F.packing == kQ3K) {
    const auto scale =
        W::either(W::bits(at(block, j % 8), j / 8 * 4, 4, 0), W::bits(at(block, 8 + j % 4), j / 4 * 2, 2, 4));
    return W::subtract32(scale, W::set(32));
  }
  if constexpr (F.packing == kIQ4XS) {
    const auto scale =
        W::either(W::bits(at(block, j % 4), j / 4 * 4, 4, 0), W::bits(at(tail + 32, j % 2), j / 2 * 2, 2, 4));
    return W::subtract32(scale, W::set(32));
  }
}
template <class W, X16Format F>
inline __attribute__((always_inline)) typename W::Ints x16_min(const std::byte* block, int row, int j) {
  const auto at = [&](int a) { return W::unsigned_bytes(block + 16 * a + row); };
  if constexpr (F.packing == blocks::ScalePacking::kQ2K) return W::bits(at(j), 4, 4, 0);
  const int high = j / 4 * 2 + j % 2, shift = j / 2 % 2 * 4 + 2;
  return W::either(W::bits(at(j), 4, 4, 0), W::bits(at(8 + high), shift, 2, 4));
}
// Minima of two neighbouring groups as 16-bit halves: what sums of the groups' activation codes are multiplied with.
template <class W, X16Format F>
inline __attribute__((always_inline)) typename W::Ints x16_min_pair(const std::byte* block, int row, int pair) {
  return W::either(x16_min<W, F>(block, row, 2 * pair), W::shift_left32(x16_min<W, F>(block, row, 2 * pair + 1), 16));
}

// Sums of the codes of two neighbouring groups of minima in block b of a q8a row: 8 or, for groups of 16, 16 int16.
template <class W, X16Format F>
inline __attribute__((always_inline)) const std::byte* x16_code_sums(const std::byte* row, int64_t k, int64_t b,
                                                                     std::byte* of_32) {
  const std::byte* of_16 = row + k + k / 8 + 32 * b;
  if constexpr (F.group == 16) return of_16;
  W::neighbours(of_16, of_32);
  return of_32;
}

// One panel times kTokens tokens.
template <class W, X16Format F, int kTokens>
void x16_dot(const std::byte* panel, int64_t, int64_t k, const DotTokens& x, float* out) {
  using Ints = typename W::Ints;
  using Floats = typename W::Floats;
  constexpr int kParts = 16 / W::kLanes, kGroups = F.groups_per_sub(), kUnits = 8 / kGroups;
  const int64_t count = k / F.elements;
  const std::byte* tails = panel + count * F.block_bytes();
  const std::byte* token[kTokens];
  for (int t = 0; t < kTokens; ++t) token[t] = x.rows + t * x.row_bytes;
  Floats total[kTokens][kParts];
  for (int t = 0; t < kTokens; ++t) {
    for (int p = 0; p < kParts; ++p) total[t][p] = W::float_zeros();
  }
  for (int64_t b = 0; b < count; ++b) {
    const std::byte* block = panel + b * F.block_bytes();
    const std::byte* tail = tails + b * F.tail_bytes();
    Ints whole[kTokens][kParts];  // grouped: sums over the block
    for (int t = 0; t < kTokens; ++t) {
      for (int p = 0; p < kParts; ++p) whole[t][p] = W::zeros();
    }
    for (int s = 0; s < F.subs(); ++s) {
      const int64_t q = b * F.subs() + s;  // sub-block of the row
      const std::byte* sub = block + F.scale_bytes() + s * F.sub_bytes();
      ask_ahead<F.block_bytes(), F.tail_bytes(), F.subs()>(panel, tails, q, x);
#pragma GCC unroll 2
      for (int p = 0; p < kParts; ++p) {
        const int row = p * W::kLanes;
#pragma GCC unroll 2
        for (int g = 0; g < kGroups; ++g) {
          Ints sum[kTokens];
          int codes[kTokens] = {};  // the sum of the group's, where it is used
#pragma GCC unroll 8
          for (int t = 0; t < kTokens; ++t) {
            if constexpr (F.zero != 0 || (F.min && F.group == 0)) {
              int16_t sums[2];
              std::memcpy(sums, token[t] + k + k / 8 + 4 * q, sizeof sums);
              codes[t] = kGroups == 2 ? sums[g] : sums[0] + sums[1];
            }
            sum[t] = F.zero != 0 ? W::set(-F.zero * codes[t]) : W::zeros();
          }
#pragma GCC unroll 8
          for (int u = g * kUnits; u < (g + 1) * kUnits; ++u) {
            const Ints w = x16_codes<W, F>(sub, row, u);
#pragma GCC unroll 8
            for (int t = 0; t < kTokens; ++t) {
              sum[t] = W::dot(sum[t], w, W::broadcast4(token[t] + 32 * q + 4 * u));
              W::pin(sum[t]);
            }
          }
          if constexpr (F.group != 0) {
            const Ints scale = x16_scale<W, F>(block, tail, row, s * kGroups + g);
#pragma GCC unroll 8
            for (int t = 0; t < kTokens; ++t) whole[t][p] = W::add32(whole[t][p], W::mul32(sum[t], scale));
          } else {
            const Floats d = W::halves(tail + 2 * row);
#pragma GCC unroll 8
            for (int t = 0; t < kTokens; ++t) {
              const Floats scale = W::broadcast(token[t] + k + 4 * q);
              total[t][p] = W::fma(W::floats(sum[t]), W::mul(d, scale), total[t][p]);
              if constexpr (F.min) {
                const Floats low = W::mul(W::floats(W::set(codes[t])), scale);
                total[t][p] = W::fma(low, W::halves(tail + 32 + 2 * row), total[t][p]);
              }
            }
          }
        }
      }
    }
    if constexpr (F.group != 0) {
      alignas(16) std::byte sums_of_32[kTokens][16];
      const std::byte* sums[kTokens] = {};
      if constexpr (F.min) {
        for (int t = 0; t < kTokens; ++t) sums[t] = x16_code_sums<W, F>(token[t], k, b, sums_of_32[t]);
      }
#pragma GCC unroll 2
      for (int p = 0; p < kParts; ++p) {
        const int row = p * W::kLanes;
        Ints low[kTokens];
        if constexpr (F.min) {
          for (int t = 0; t < kTokens; ++t) low[t] = W::zeros();
          for (int i = 0; i < F.min_pairs(); ++i) {
            const Ints pair = x16_min_pair<W, F>(block, row, i);
#pragma GCC unroll 8
            for (int t = 0; t < kTokens; ++t) low[t] = W::dot16(low[t], pair, W::broadcast4(sums[t] + 4 * i));
          }
        }
        const Floats d = W::halves(tail + 2 * row);
        for (int t = 0; t < kTokens; ++t) {
          const Floats scale = W::broadcast(token[t] + k + 32 * b);
          Floats of_block = W::mul(W::floats(whole[t][p]), d);
          if constexpr (F.min) of_block = W::fnma(W::floats(low[t]), W::halves(tail + 32 + 2 * row), of_block);
          total[t][p] = W::fma(of_block, scale, total[t][p]);
        }
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int p = 0; p < kParts; ++p) W::store(out + 16 * t + p * W::kLanes, total[t][p]);
  }
}

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
void x16_unpack_panel(const std::byte* panel, int64_t k, std::byte* scratch, int64_t panels) {
  const int64_t count = k / 32;
  const auto zero = W::set(static_cast<int32_t>(static_cast<uint32_t>(F.zero) * 0x01010101u));
  for (int64_t b = 0; b < count; ++b) {
    const X16Unpacked<F> to(scratch + b / 8 * panels * X16Unpacked<F>::kBytes);
    const std::byte* block = panel + b * F.block_bytes();
    const std::byte* tail = panel + count * F.block_bytes() + b * F.tail_bytes();
#pragma GCC unroll 8
    for (int u = 0; u < 8; ++u) {
      W::store(to.codes + 512 * (b % 8) + 64 * u, W::subtract8(x16_codes<W, F>(block, 0, u), zero));
    }
    W::store(to.scale + 16 * (b % 8), W::halves(tail));
    if constexpr (F.min) W::store(to.min + 16 * (b % 8), W::halves(tail + 32));
  }
}

// What the sums of tokens are multiplied with, arranged for plain formats.
struct X16Factors {
  X16Factors(std::byte* arranged, int64_t k)
      : scale(reinterpret_cast<float*>(arranged)), min(scale + kTileTokens * 8 * ((k + 255) / 256)) {}

  float *scale, *min;  // [k / 256, rounded up][kTileTokens][8]
};

template <class W, X16Format F>
void x16_arrange(const DotTokens& x, int64_t tokens, int64_t k, std::byte* arranged) {
  const X16Factors to(arranged, k);
  for (int64_t t = 0; t < tokens; ++t) {
    const std::byte* row = x.rows + t * x.row_bytes + k;
    for (int64_t q = 0; q < k / 32; q += 8) {
      const auto subs = static_cast<size_t>(std::min<int64_t>(8, k / 32 - q));
      float *scale = to.scale + kTileTokens * q + 8 * t, *min = to.min + kTileTokens * q + 8 * t;
      std::memcpy(scale, row + 4 * q, 4 * subs);
      if constexpr (F.min) {
        int16_t sums[16];
        std::memcpy(sums, row + k / 8 + 4 * q, 4 * subs);
        for (size_t s = 0; s < subs; ++s) min[s] = static_cast<float>(sums[2 * s] + sums[2 * s + 1]) * scale[s];
      }
    }
  }
}

// 256 k of up to kTileTokens tokens as tiles, so that each tile's rows have a place in the L1 cache.
struct X16TileCodes {
  // Asks for codes of part `part` of `parts`.
  static void ask(const DotTokens& x, int64_t tokens, int64_t bytes, int64_t at, int64_t part, int64_t parts) {
    for (int64_t t = part * tokens / parts; t < (part + 1) * tokens / parts; ++t) {
      for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(x.rows + t * x.row_bytes + at + i, 0, 3);
    }
  }
  // The first of `bytes` bytes from `at` on, up to 256. 16 rows at once: loads that follow stores 4 KB apart would wait
  // for them.
  template <class W>
  void load(const DotTokens& x, int64_t tokens, int64_t at, int64_t bytes) {
    for (int64_t t = 0; bytes < 256 && t < tokens; ++t) {
      for (int64_t i = 0; i < bytes; i += 32) {
        std::memcpy(tiles[i / 64][t / 16][t % 16] + i % 64, x.rows + t * x.row_bytes + at + i, 32);
      }
    }
    if (bytes < 256) return;
    for (int64_t tile = 0; tile < tokens / 16; ++tile) {
      for (int64_t i = 0; i < 4; ++i) {
        const std::byte* from = x.rows + 16 * tile * x.row_bytes + at + 64 * i;
        typename W::Ints rows[16];
#pragma GCC unroll 16
        for (int t = 0; t < 16; ++t) rows[t] = W::load(from + t * x.row_bytes);
#pragma GCC unroll 16
        for (int t = 0; t < 16; ++t) W::store(tiles[i][tile][t], rows[t]);
      }
    }
  }

  alignas(64) std::byte tiles[4][kTileTokens / 16][16][64];
};

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
void x16_tiles(const std::byte* unpacked, int64_t panels, int64_t k, const DotTokens& x, int64_t tokens,
               const std::byte* arranged, float* out) {
  static_assert(W::kLanes == 16 && F.group == 0);
  constexpr int64_t kBatch = 8;
  const X16Factors factors(const_cast<std::byte*>(arranged), k);
  X16TileCodes part_of_x;
  alignas(64) int32_t sums[2][kBatch][16][16];
  X16Sums<W, F> before = {};
  int64_t before_subs = 0;
  for (int64_t p = 0; p < panels; ++p) {
    std::memset(out + 16 * kTileTokens * p, 0, static_cast<size_t>(64 * tokens));
  }
  W::tiles_begin(32);
  int turn = 0;
  for (int64_t q = 0; q < k / 32; q += kBatch) {
    const int64_t subs = std::min(kBatch, k / 32 - q), more = std::min(kBatch, k / 32 - q - subs);
    part_of_x.template load<W>(x, tokens, 32 * q, 32 * subs);
    for (int64_t p = 0; p < panels; ++p) {
      X16TileCodes::ask(x, tokens, 32 * more, 32 * (q + kBatch), p, panels);
      const X16Unpacked<F> w(const_cast<std::byte*>(unpacked) + (q / kBatch * panels + p) * X16Unpacked<F>::kBytes);
      for (int64_t tile = 0; tile < tokens / 16; ++tile, turn ^= 1) {
        const std::byte* codes_of_x = part_of_x.tiles[0][tile][0];
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

// Grouped formats. Weights for tiles are scale * (code - zero), at most 13 bits with their sign: as 64 * high + low in
// two pieces, low in 0 .. 63, or, where they fit, negated in one. The sums over 256 k then leave the tile unit once.
template <X16Format F>
struct X16Blocks {
  static constexpr int kPieces = F.packing == blocks::ScalePacking::kQ2K || F.packing == blocks::ScalePacking::kQ3K
                                     ? 1   // -45 .. 0, -124 .. 128
                                     : 2;  // at most 128 * 32
  static constexpr int64_t kCodeBytes = 16 * 256 * kPieces, kPairBytes = 64 * F.min_pairs();

  static constexpr int64_t kBytes = kCodeBytes + kPairBytes + 128;
  static int64_t bytes(int64_t k) { return k / 256 * kBytes; }

  explicit X16Blocks(std::byte* block)
      : codes(block), pairs(codes + kCodeBytes), factor(reinterpret_cast<float*>(pairs + kPairBytes)) {}

  std::byte* codes;  // [4][kPieces][16][16][4]
  std::byte* pairs;  // [min_pairs][16]: x16_min_pair
  float* factor;     // [d, dmin][16]
};

template <class W, X16Format F>
void x16_unpack_blocks(const std::byte* panel, int64_t k, std::byte* scratch, int64_t panels) {
  using Ints = typename W::Ints;
  using To = X16Blocks<F>;
  const int64_t count = k / 256;
  const Ints zero = W::set(F.zero * 0x00010001), low_byte = W::set(0x00ff00ff), low_bits = W::set(0x003f003f);
  for (int64_t b = 0; b < count; ++b) {
    const std::byte* block = panel + b * F.block_bytes();
    const std::byte* tail = panel + count * F.block_bytes() + b * F.tail_bytes();
    const To to(scratch + b * panels * To::kBytes);
    for (int s = 0; s < 8; ++s) {
      const std::byte* sub = block + F.scale_bytes() + s * F.sub_bytes();
      std::byte* tile = to.codes + s / 2 * 1024 * To::kPieces + s % 2 * 512;
      for (int g = 0; g < F.groups_per_sub(); ++g) {
        const Ints one = x16_scale<W, F>(block, tail, 0, s * F.groups_per_sub() + g);
        const Ints scale = W::either(W::both(one, W::set(0xffff)), W::shift_left32(one, 16));
        constexpr int kUnits = 8 / F.groups_per_sub();
#pragma GCC unroll 8
        for (int u = g * kUnits; u < (g + 1) * kUnits; ++u) {
          const Ints codes = x16_codes<W, F>(sub, 0, u);
          const Ints even = W::mul16(W::subtract16(W::both(codes, low_byte), zero), scale);
          const Ints odd = W::mul16(W::subtract16(W::shift_right16(codes, 8), zero), scale);
          const auto bytes = [&](Ints a, Ints b16) __attribute__((always_inline)) {
            return W::either(W::both(a, low_byte), W::shift_left16(b16, 8));
          };
          if constexpr (To::kPieces == 1) {
            W::store(tile + 64 * u, bytes(W::subtract16(W::zeros(), even), W::subtract16(W::zeros(), odd)));
          } else {
            W::store(tile + 64 * u, bytes(W::shift_right16_signed(even, 6), W::shift_right16_signed(odd, 6)));
            W::store(tile + 1024 + 64 * u, bytes(W::both(even, low_bits), W::both(odd, low_bits)));
          }
        }
      }
    }
    for (int i = 0; i < F.min_pairs(); ++i) {
      W::store(to.pairs + 64 * i, x16_min_pair<W, F>(block, 0, i));
    }
    W::store(to.factor, W::halves(tail));
    if constexpr (F.min) W::store(to.factor + 16, W::halves(tail + 32));
  }
}

// What the sums of tokens are multiplied with, arranged for grouped formats.
struct X16BlockFactors {
  X16BlockFactors(std::byte* arranged, int64_t k)
      : sums(arranged), scale(reinterpret_cast<float*>(sums + kTileTokens * (k / 8))) {}

  std::byte* sums;  // [k / 256][kTileTokens][32]: of codes of neighbouring groups, pairs of int16
  float* scale;     // [k / 256][kTileTokens]
};

template <class W, X16Format F>
void x16_arrange_blocks(const DotTokens& x, int64_t tokens, int64_t k, std::byte* arranged) {
  const X16BlockFactors to(arranged, k);
  for (int64_t t = 0; t < tokens; ++t) {
    const std::byte* row = x.rows + t * x.row_bytes + k;
    // Two loops: of one, GCC 12 makes a single address for both stores, and then believes that nothing is stored.
    for (int64_t b = 0; b < k / 256; ++b) std::memcpy(to.scale + kTileTokens * b + t, row + 32 * b, 4);
    for (int64_t b = 0; b < k / 256; ++b) {
      std::byte* sums = to.sums + 32 * (kTileTokens * b + t);
      if constexpr (F.min && F.group == 32) W::neighbours(row + k / 8 + 32 * b, sums);
      if constexpr (F.min && F.group == 16) std::memcpy(sums, row + k / 8 + 32 * b, 32);
    }
  }
}

// Where the sums of a block are that the tile unit left, and what scales them.
template <X16Format F>
struct X16BlockSums {
  const float* factor;
  const std::byte *pairs, *sums, *code_sums;
  const float* scale;
  float* out;
};

// What scales the sums of a block, in registers.
template <class W, X16Format F>
struct X16BlockScales {
  using Ints = typename W::Ints;
  using Floats = typename W::Floats;

  explicit __attribute__((always_inline)) X16BlockScales(const X16BlockSums<F>& of)
      : d(W::load_floats(of.factor)), m(F.min ? W::load_floats(of.factor + 16) : d) {
    for (int i = 0; i < F.min_pairs(); ++i) pair[i] = W::load(of.pairs + 64 * i);
  }

  // Token t's sums of 16 rows. One piece is the negated sum.
  inline __attribute__((always_inline)) void add(const X16BlockSums<F>& of, int64_t t) const {
    constexpr int kPieces = X16Blocks<F>::kPieces;
    const std::byte* sum = of.sums + (t / 16 * 16 * kPieces + t % 16) * 64;
    Ints whole = W::load(sum);
    if constexpr (kPieces == 2) whole = W::add32(W::shift_left32(whole, 6), W::load(sum + 1024));
    Floats of_block = W::mul(W::floats(whole), d);
    if constexpr (F.min) {
      const auto codes = [&](int i) __attribute__((always_inline)) {
        return W::broadcast4(of.code_sums + 32 * t + 4 * i);
      };
      Ints low = W::products16(pair[0], codes(0)), more = W::products16(pair[1], codes(1));
      for (int i = 2; i < F.min_pairs(); i += 2) {
        low = W::dot16(low, pair[i], codes(i)), more = W::dot16(more, pair[i + 1], codes(i + 1));
      }
      const Floats mins = W::floats(W::add32(low, more));
      of_block = kPieces == 1 ? W::fma(mins, m, of_block) : W::fnma(mins, m, of_block);
    }
    const Floats scale = W::broadcast(of.scale + t), total = W::load_floats(of.out + 16 * t);
    W::store(of.out + 16 * t, kPieces == 1 ? W::fnma(of_block, scale, total) : W::fma(of_block, scale, total));
  }

  Floats d, m;
  Ints pair[F.min_pairs() + 2];
};

// x16_tiles for grouped formats. While the tile unit multiplies a block of a panel, the vector unit scales and adds up
// the sums of the block before it: a few tokens after each product, since only what is near runs side by side.
template <class W, X16Format F, int kTiles>
void x16_block_tiles_of(const std::byte* unpacked, int64_t panels, int64_t k, const DotTokens& x,
                        const std::byte* arranged, float* out) {
  using Blocks = X16Blocks<F>;
  static_assert(W::kLanes == 16);
  constexpr int kPieces = Blocks::kPieces, kTokens = 16 * kTiles, kAtOnce = 4 / kPieces;
  const X16BlockFactors factors(const_cast<std::byte*>(arranged), k);
  X16TileCodes part_of_x;
  alignas(64) int32_t sums[2][kTiles][kPieces][16][16];
  X16BlockSums<F> before = {};
  W::tiles_begin(64);
  int turn = 0;
  for (int64_t b = 0; b < k / 256; ++b) {
    part_of_x.template load<W>(x, kTokens, 256 * b, 256);
    for (int64_t p = 0; p < panels; ++p, turn ^= 1) {
      if (b + 1 < k / 256) X16TileCodes::ask(x, kTokens, 256, 256 * (b + 1), p, panels);
      const Blocks w(const_cast<std::byte*>(unpacked) + (b * panels + p) * Blocks::kBytes);
      int32_t* to = sums[turn][0][0][0];
      if (b == 0) std::memset(out + 16 * kTileTokens * p, 0, 64 * kTokens);
      if (b == 0 && p == 0) {
        W::template block_products<kPieces, kTiles>(part_of_x.tiles[0][0][0], w.codes, to, [](int) {});
      } else {
        const X16BlockSums<F> of = before;
        const X16BlockScales<W, F> scales(of);
        W::template block_products<kPieces, kTiles>(
            part_of_x.tiles[0][0][0], w.codes, to, [ scales, of ](int i) __attribute__((always_inline)) {
#pragma GCC unroll 4
              for (int t = 0; t < kAtOnce; ++t) scales.add(of, kAtOnce * i + t);
            });
      }
      before = {w.factor,
                w.pairs,
                reinterpret_cast<const std::byte*>(to),
                factors.sums + 32 * kTileTokens * b,
                factors.scale + kTileTokens * b,
                out + 16 * kTileTokens * p};
    }
  }
  W::tiles_end();
  const X16BlockScales<W, F> scales(before);
  for (int t = 0; t < kTokens; ++t) scales.add(before, t);
}

template <class W, X16Format F>
void x16_block_tiles(const std::byte* unpacked, int64_t panels, int64_t k, const DotTokens& x, int64_t tokens,
                     const std::byte* arranged, float* out) {
  if (tokens == kTileTokens) return x16_block_tiles_of<W, F, 2>(unpacked, panels, k, x, arranged, out);
  x16_block_tiles_of<W, F, 1>(unpacked, panels, k, x, arranged, out);
}

template <class W, X16Format F>
constexpr Dots x16_dots_of() {
  Dots dots = {F.dtype, x16_dot<W, F, 1>, x16_dot<W, F, 2>, x16_dot<W, F, 4>};
  if constexpr (W::kLanes == 16) dots.eight = x16_dot<W, F, 8>;
  if constexpr (requires { W::tiles_end(); }) {
    if constexpr (F.group == 0) {
      dots.unpack = x16_unpack_panel<W, F>;
      dots.unpacked_bytes = X16Unpacked<F>::bytes;
      dots.arrange = x16_arrange<W, F>;
      dots.tiles = x16_tiles<W, F>;
    } else {
      dots.unpack = x16_unpack_blocks<W, F>;
      dots.unpacked_bytes = X16Blocks<F>::bytes;
      dots.arrange = x16_arrange_blocks<W, F>;
      dots.tiles = x16_block_tiles<W, F>;
    }
  }
  return dots;
}

template <class W>
const Dots* x16_dots(DType dtype) {
  static constexpr Dots kDots[] = {
      x16_dots_of<W, kX16Q4_0>(), x16_dots_of<W, kX16Q4_1>(),  x16_dots_of<W, kX16Q5_0>(), x16_dots_of<W, kX16Q5_1>(),
      x16_dots_of<W, kX16Q8_0>(), x16_dots_of<W, kX16IQ4NL>(), x16_dots_of<W, kX16Q2K>(),  x16_dots_of<W, kX16Q3K>(),
      x16_dots_of<W, kX16Q4K>(),  x16_dots_of<W, kX16Q5K>(),   x16_dots_of<W, kX16Q6K>(),  x16_dots_of<W, kX16IQ4XS>(),
  };
  for (const Dots& d : kDots) {
    if (d.dtype == dtype) return &d;
  }
  return nullptr;
}

}  // namespace
}  // namespace ll
