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
//   mul16(a, b), subtract16(a, b), shift_right16(v, n) unsigned, shift_right16_signed(v, n), both(a, b) their common
//   bits
// and of a level with tiles (kLanes 16):
//   tiles_begin(k), tiles_end()   this thread multiplies tiles of k (32 or 64) from here to there
//   tile_products(x, w, n, out)   tiles of 32 k: out[g][t][r] = sum over i < 32 of x[g][t][i] * w[g][i / 4][r][i % 4],
//                                 all signed bytes, out int32[n][16][16], t, r < 16, g < n
//   block_products<pieces, tiles>(x, w, out, between)
//                                 tiles of 64 k: out[i][p][t][r] = sum over j < 256 of x[i][j / 64][t][j % 64] *
//                                 w[j / 64][p][j % 64 / 4][r][j % 4], out int32[tiles][pieces][16][16]; meanwhile calls
//                                 between(0) .. between(3)
//
// Every level gives the same bits: sums over a block are exact integers, and everything after that is done lane by lane
// in the order of add_plain and add_block (kernels/cpu/avx2/linear_x16.h).
#pragma once

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
      ask_ahead<F.block_bytes() + F.tail_bytes(), F.subs()>(panel, q, x);
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

// Plain formats. A panel unpacked once for many tokens: signed codes as tiles of 32 k, d and m as floats of 16 rows.
template <X16Format F>
struct X16Unpacked {
  X16Unpacked(std::byte* scratch, int64_t k)
      : codes(scratch), scale(reinterpret_cast<float*>(codes + 16 * k)), min(scale + 16 * (k / 32)) {}
  static int64_t bytes(int64_t k) { return 16 * k + 64 * (k / 32) * (F.min ? 2 : 1); }

  std::byte* codes;    // [k / 4][16][4]
  float *scale, *min;  // [k / 32][16]
};

template <class W, X16Format F>
void x16_unpack_panel(const std::byte* panel, int64_t k, std::byte* scratch) {
  const X16Unpacked<F> to(scratch, k);
  const int64_t count = k / 32;
  const auto zero = W::set(static_cast<int32_t>(static_cast<uint32_t>(F.zero) * 0x01010101u));
  for (int64_t b = 0; b < count; ++b) {
    const std::byte* block = panel + b * F.block_bytes();
    const std::byte* tail = panel + count * F.block_bytes() + b * F.tail_bytes();
#pragma GCC unroll 8
    for (int u = 0; u < 8; ++u) {
      W::store(to.codes + 512 * b + 64 * u, W::subtract8(x16_codes<W, F>(block, 0, u), zero));
    }
    W::store(to.scale + 16 * b, W::halves(tail));
    if constexpr (F.min) W::store(to.min + 16 * b, W::halves(tail + 32));
  }
}

// Eight sub-blocks of up to kTileTokens tokens, ordered for the products: codes as tiles, so that each tile's rows have
// a place in the cache, and what scales and addends are multiplied with.
struct X16Tokens {
  alignas(64) std::byte codes[kTileTokens / 16][8][16][32];
  alignas(64) float scale[kTileTokens][8];
  alignas(64) float min[kTileTokens][8];

  // Sub-blocks [q, q + subs) of q8a rows of k codes.
  void load(const DotTokens& x, int64_t tokens, int64_t k, int64_t q, int subs, bool mins) {
    for (int64_t t = 0; t < tokens; ++t) {
      const std::byte* row = x.rows + t * x.row_bytes;
      if (subs == 8) {
        load_row(row, t, k, q, 8, mins);  // without loops that count
      } else {
        load_row(row, t, k, q, subs, mins);
      }
    }
  }

 private:
  __attribute__((always_inline)) void load_row(const std::byte* row, int64_t t, int64_t k, int64_t q, int subs,
                                               bool mins) {
    const size_t count = static_cast<size_t>(subs);
    for (int s = 0; s < subs; ++s) std::memcpy(codes[t / 16][s][t % 16], row + 32 * (q + s), 32);
    std::memcpy(scale[t], row + k + 4 * q, 4 * count);
    if (!mins) return;
    int16_t sums[16];
    std::memcpy(sums, row + k + k / 8 + 4 * q, 4 * count);
    for (int s = 0; s < subs; ++s) min[t][s] = static_cast<float>(sums[2 * s] + sums[2 * s + 1]) * scale[t][s];
  }
};

// Unpacked panels times one or two tiles of 16 tokens: eight sub-blocks of the tokens meet all panels while they are in
// the L1 cache. The products of a panel's eight sub-blocks with a tile are one batch; the vector unit then scales and
// adds them up as x16_dot does.
template <class W, X16Format F>
void x16_tiles(const std::byte* unpacked, int64_t panels, int64_t k, const DotTokens& x, int64_t tokens, float* out) {
  using Floats = typename W::Floats;
  static_assert(W::kLanes == 16 && F.group == 0);
  constexpr int kBatch = 8;
  X16Tokens part_of_x;
  W::tiles_begin(32);
  for (int64_t q = 0; q < k / 32; q += kBatch) {
    const int subs = static_cast<int>(k / 32 - q < kBatch ? k / 32 - q : kBatch);
    part_of_x.load(x, tokens, k, q, subs, F.min);
    for (int64_t p = 0; p < panels; ++p) {
      const X16Unpacked<F> w(const_cast<std::byte*>(unpacked) + p * X16Unpacked<F>::bytes(k), k);
      for (int64_t tile = 0; tile < tokens / 16; ++tile) {
        alignas(64) int32_t sums[kBatch][16][16];
        W::tile_products(part_of_x.codes[tile][0][0], w.codes + 512 * q, subs, sums[0][0]);
        float* totals = out + 16 * (kTileTokens * p + 16 * tile);
        for (int t = 0; t < 16; ++t) {
          const float* scales = part_of_x.scale[16 * tile + t];
          const float* mins = part_of_x.min[16 * tile + t];
          Floats total = q == 0 ? W::float_zeros() : W::load_floats(totals + 16 * t);
          const auto add = [&](int s) __attribute__((always_inline)) {
            const Floats sum = W::floats(W::load(reinterpret_cast<const std::byte*>(sums[s][t])));
            total = W::fma(sum, W::mul(W::load_floats(w.scale + 16 * (q + s)), W::broadcast(scales + s)), total);
            if constexpr (F.min) {
              total = W::fma(W::broadcast(mins + s), W::load_floats(w.min + 16 * (q + s)), total);
            }
          };
          if (subs == kBatch) {
#pragma GCC unroll 8
            for (int s = 0; s < kBatch; ++s) add(s);
          } else {
            for (int s = 0; s < subs; ++s) add(s);
          }
          W::store(totals + 16 * t, total);
        }
      }
    }
  }
  W::tiles_end();
}

// Grouped formats. Weights for tiles are scale * (code - zero), at most 13 bits with their sign: as 64 * high + low in
// two pieces, low in 0 .. 63, or, where they fit, negated in one. The sums over 256 k then leave the tile unit once.
template <X16Format F>
struct X16Blocks {
  static constexpr int kPieces = F.packing == blocks::ScalePacking::kQ2K || F.packing == blocks::ScalePacking::kQ3K
                                     ? 1   // -45 .. 0, -124 .. 128
                                     : 2;  // at most 128 * 32
  static constexpr int64_t kCodeBytes = 16 * 256 * kPieces, kPairBytes = 64 * F.min_pairs();

  X16Blocks(std::byte* scratch, int64_t k)
      : codes(scratch),
        pairs(codes + k / 256 * kCodeBytes),
        factor(reinterpret_cast<float*>(pairs + k / 256 * kPairBytes)) {}
  static int64_t bytes(int64_t k) { return k / 256 * (kCodeBytes + kPairBytes + 128); }

  std::byte* codes;  // [k / 64][kPieces][16][16][4]
  std::byte* pairs;  // [k / 256][min_pairs][16]: x16_min_pair
  float* factor;     // [k / 256][d, dmin][16]
};

template <class W, X16Format F>
void x16_unpack_blocks(const std::byte* panel, int64_t k, std::byte* scratch) {
  using Ints = typename W::Ints;
  using To = X16Blocks<F>;
  const To to(scratch, k);
  const int64_t count = k / 256;
  const Ints zero = W::set(F.zero * 0x00010001), low_byte = W::set(0x00ff00ff), low_bits = W::set(0x003f003f);
  for (int64_t b = 0; b < count; ++b) {
    const std::byte* block = panel + b * F.block_bytes();
    const std::byte* tail = panel + count * F.block_bytes() + b * F.tail_bytes();
    for (int s = 0; s < 8; ++s) {
      const std::byte* sub = block + F.scale_bytes() + s * F.sub_bytes();
      std::byte* tile = to.codes + b * To::kCodeBytes + s / 2 * 1024 * To::kPieces + s % 2 * 512;
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
      W::store(to.pairs + b * To::kPairBytes + 64 * i, x16_min_pair<W, F>(block, 0, i));
    }
    W::store(to.factor + 32 * b, W::halves(tail));
    if constexpr (F.min) W::store(to.factor + 32 * b + 16, W::halves(tail + 32));
  }
}

// One block of 256 of up to kTileTokens tokens.
template <X16Format F>
struct X16BlockTokens {
  alignas(64) std::byte codes[kTileTokens / 16][4][16][64];
  alignas(64) std::byte sums[kTileTokens][32];  // x16_code_sums
  float scale[kTileTokens];

  template <class W>
  void load(const DotTokens& x, int64_t tokens, int64_t k, int64_t b) {
    for (int64_t t = 0; t < tokens; ++t) {
      const std::byte* row = x.rows + t * x.row_bytes;
      for (int64_t i = 0; i < 4; ++i) std::memcpy(codes[t / 16][i][t % 16], row + 256 * b + 64 * i, 64);
      std::memcpy(&scale[t], row + k + 32 * b, 4);
      if constexpr (F.min) {
        alignas(16) std::byte of_32[16];
        std::memcpy(sums[t], x16_code_sums<W, F>(row, k, b, of_32), 4 * F.min_pairs());
      }
    }
  }
};

// x16_tiles for grouped formats. While the tile unit multiplies a block of a panel, the vector unit scales and adds up
// the sums of the block before it, eight tokens for each 64 k.
template <class W, X16Format F>
void x16_block_tiles(const std::byte* unpacked, int64_t panels, int64_t k, const DotTokens& x, int64_t tokens,
                     float* out) {
  using Ints = typename W::Ints;
  using Floats = typename W::Floats;
  using Blocks = X16Blocks<F>;
  static_assert(W::kLanes == 16);
  constexpr int kPieces = Blocks::kPieces;
  X16BlockTokens<F> part_of_x[2];  // a block's sums may be added up while the next block's tokens are there
  alignas(64) int32_t sums[2][kTileTokens / 16][kPieces][16][16];
  struct Pending {
    int64_t block, panel;
    int turn;
  };
  Pending before = {-1, 0, 0};
  const auto of_panel = [&](int64_t p) { return Blocks(const_cast<std::byte*>(unpacked) + p * Blocks::bytes(k), k); };
  // Adds up a quarter of a block's tokens.
  const int64_t quarter = tokens / 4;
  const auto add = [&](const Pending& of, int step) __attribute__((always_inline)) {
    const Blocks w = of_panel(of.panel);
    const float* factor = w.factor + 32 * of.block;
    const Floats d = W::load_floats(factor);
    [[maybe_unused]] const Floats m = F.min ? W::load_floats(factor + 16) : d;
    Ints pair[F.min_pairs() + 1];
    for (int i = 0; i < F.min_pairs(); ++i) pair[i] = W::load(w.pairs + of.block * Blocks::kPairBytes + 64 * i);
    const int64_t first = step * quarter;
    const X16BlockTokens<F>& of_tokens = part_of_x[of.block % 2];
    const std::byte* of_pairs = of_tokens.sums[first];
    const float* of_scale = of_tokens.scale + first;
    const auto* sum = reinterpret_cast<const std::byte*>(sums[of.turn][first / 16][0][first % 16]);
    float* to = out + 16 * (kTileTokens * of.panel + first);
    for (int64_t t = 0; t < quarter; ++t, sum += 64, to += 16, of_pairs += sizeof of_tokens.sums[0]) {
      // One piece is the negated sum.
      Ints whole = W::load(sum);
      if constexpr (kPieces == 2) whole = W::add32(W::shift_left32(whole, 6), W::load(sum + 1024));
      Floats of_block = W::mul(W::floats(whole), d);
      if constexpr (F.min) {
        Ints low = W::zeros();
        for (int i = 0; i < F.min_pairs(); ++i) low = W::dot16(low, pair[i], W::broadcast4(of_pairs + 4 * i));
        of_block = kPieces == 1 ? W::fma(W::floats(low), m, of_block) : W::fnma(W::floats(low), m, of_block);
      }
      const Floats scale = W::broadcast(of_scale + t), total = of.block == 0 ? W::float_zeros() : W::load_floats(to);
      W::store(to, kPieces == 1 ? W::fnma(of_block, scale, total) : W::fma(of_block, scale, total));
    }
  };
  W::tiles_begin(64);
  int turn = 0;
  for (int64_t b = 0; b < k / 256; ++b) {
    part_of_x[b % 2].template load<W>(x, tokens, k, b);
    for (int64_t p = 0; p < panels; ++p, turn ^= 1) {
      const std::byte* codes = of_panel(p).codes + b * Blocks::kCodeBytes;
      // The codes that come after these, as far as the L1 cache: a quarter with each 64 k.
      const std::byte* next = p + 1 < panels ? of_panel(p + 1).codes + b * Blocks::kCodeBytes
                                             : of_panel(0).codes + (b + 1) * Blocks::kCodeBytes;
      const auto between = [&](int step) __attribute__((always_inline)) {
        constexpr int64_t kBytes = Blocks::kCodeBytes / 4;
#pragma GCC unroll 32
        for (int64_t at = 0; at < kBytes; at += 64) __builtin_prefetch(next + step * kBytes + at, 0, 3);
        if (before.block >= 0) add(before, step);
      };
      const std::byte* codes_of_x = part_of_x[b % 2].codes[0][0][0];
      if (tokens == kTileTokens) {
        W::template block_products<kPieces, 2>(codes_of_x, codes, sums[turn][0][0][0], between);
      } else {
        W::template block_products<kPieces, 1>(codes_of_x, codes, sums[turn][0][0][0], between);
      }
      before = {b, p, turn};
    }
  }
  W::tiles_end();
  for (int step = 0; step < 4; ++step) add(before, step);
}

template <class W, X16Format F>
constexpr Dots x16_dots_of() {
  Dots dots = {F.dtype, x16_dot<W, F, 1>, x16_dot<W, F, 2>, x16_dot<W, F, 4>};
  if constexpr (W::kLanes == 16) dots.eight = x16_dot<W, F, 8>;
  if constexpr (requires { W::tiles_end(); }) {
    if constexpr (F.group == 0) {
      dots.unpack = x16_unpack_panel<W, F>;
      dots.unpacked_bytes = X16Unpacked<F>::bytes;
      dots.tiles = x16_tiles<W, F>;
    } else {
      dots.unpack = x16_unpack_blocks<W, F>;
      dots.unpacked_bytes = X16Blocks<F>::bytes;
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
