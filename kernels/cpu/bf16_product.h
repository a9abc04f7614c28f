// Dense rows of bf16 times tokens rounded to bf16, on tiles (TDPBF16PS; Intel's Software Developer's Manual, volume 2):
// written once over the words of a level. Include only from kernels/cpu/LEVEL/ and from tests, once a file; everything
// has internal linkage.
//
// A tile has 16 rows of the weights as they lie in memory as its first operand, 16 rows by 32 k, and up to 16 tokens as
// its second, which it wants as [k / 2][token][2]. So what is put in order is the tokens, once for all rows of a
// thread, and never the weights; their one price is that sums come out by row and are turned, once for all k. (Tokens
// as the first operand would be read as they lie, and every tile of weights would have to be turned.)
//
// One token takes the same way as many: a tile's columns are then fewer. Each output is one sum over groups of 32 k in
// ascending order, and a tile's rows and columns know nothing of each other, so no bit depends on what else is in a
// launch. Rows shorter than a multiple of 32 end in a group padded with zeros on both sides: what lies behind a row is
// another row, or nothing that may be read.
//
// Words W of a level, beside load, store and zeros of kernels/cpu/x16_product.h with 16 lanes:
//   round_pairs(p)                32 floats at p rounded to bf16 (to nearest even, NaN stays NaN), two a lane, in order
//   pick(a, index, b)             lane i is lane index[i] of a, or from 16 on of b
//   tiles_begin(rows, tokens), tiles_end()
//                                 this thread multiplies tiles of that many rows and tokens (1 to 16) from here to
//                                 there
//   add_products<groups>(block, sums)
//                                 sums[g][r][t] (16 rows of 16 for each g) += the products of block.steps groups of
//                                 32 k, in order, or from zero on for block.first; g < groups, up to 4
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/avx2/linear_dots.h"

namespace ll {
namespace {

inline constexpr int64_t kBf16Step = 32;   // k of one product
inline constexpr int64_t kBf16Group = 16;  // tokens of one tile
inline constexpr int kBf16Sums = 16 * 16;  // floats of a tile

// 16 rows and up to four groups of tokens over some of k. Tokens are in tiles, [group][step][16][tokens][2].
struct Bf16Block {
  const std::byte* w;  // first step of row 0
  int64_t w_row_bytes;
  const std::byte* x;  // first step of group 0
  int64_t x_row_bytes, x_group_bytes;
  int64_t steps;
  bool first;
  // With each step, rows [ahead_begin, ahead_end) of what lies this far behind the weights are asked for.
  int64_t ahead = 0, ahead_begin = 0, ahead_end = 0;
};

// Which lanes of a pair of rows become the first and the second when blocks of 1 << i by 1 << i are exchanged.
struct Bf16Exchange {
  alignas(64) std::array<uint32_t, 16> lanes[4][2];
};
constexpr Bf16Exchange bf16_exchange() {
  Bf16Exchange e = {};
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t d = 1u << i;
    for (uint32_t lane = 0; lane < 16; ++lane) {
      e.lanes[i][0][lane] = (lane & d) == 0 ? lane : 16 + lane - d;
      e.lanes[i][1][lane] = (lane & d) == 0 ? lane + d : 16 + lane;
    }
  }
  return e;
}
constexpr Bf16Exchange kBf16Exchange = bf16_exchange();

// v[i][j] becomes v[j][i].
template <class W>
inline __attribute__((always_inline)) void bf16_turn(typename W::Ints (&v)[16]) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const auto first = W::load(reinterpret_cast<const std::byte*>(kBf16Exchange.lanes[i][0].data()));
    const auto second = W::load(reinterpret_cast<const std::byte*>(kBf16Exchange.lanes[i][1].data()));
#pragma GCC unroll 16
    for (int a = 0; a < 16; ++a) {
      if ((a >> i & 1) != 0) continue;
      const auto upper = v[a], lower = v[a | 1 << i];
      v[a] = W::pick(upper, first, lower);
      v[a | 1 << i] = W::pick(upper, second, lower);
    }
  }
}

template <class W>
void bf16_turn_sums(float* sums) {
  auto* const rows = reinterpret_cast<std::byte*>(sums);
  typename W::Ints v[16];
  for (int r = 0; r < 16; ++r) v[r] = W::load(rows + 64 * r);
  bf16_turn<W>(v);
  for (int r = 0; r < 16; ++r) W::store(rows + 64 * r, v[r]);
}

// Bf16Tiles::round. The last group is as wide as its tokens are many, so that a single one is a plain row.
template <class W>
void bf16_round(const std::byte* x, int64_t row_bytes, int64_t tokens, int64_t k, std::byte* to) {
  const auto pairs_of = [&](int64_t t, int64_t i) {
    const float* from = reinterpret_cast<const float*>(x + t * row_bytes) + i;
    if (k - i >= kBf16Step) return W::round_pairs(from);
    float rest[kBf16Step] = {};
    std::memcpy(rest, from, static_cast<size_t>(4 * (k - i)));
    return W::round_pairs(rest);
  };
  for (int64_t first = 0; first < tokens; first += kBf16Group) {
    const int64_t count = std::min(kBf16Group, tokens - first);
    for (int64_t i = 0; i < k; i += kBf16Step, to += 64 * count) {
      typename W::Ints pairs[16];
      if (count == 1) {
        W::store(to, pairs_of(first, i));
        continue;
      }
      for (int64_t t = 0; t < 16; ++t) pairs[t] = t < count ? pairs_of(first + t, i) : W::zeros();
      bf16_turn<W>(pairs);
      // A store of fewer tokens than lanes reaches into what the next one writes, the last into the 64 bytes more that
      // linear_bf16_bytes counts.
      for (int64_t pair = 0; pair < 16; ++pair) W::store(to + 4 * count * pair, pairs[pair]);
    }
  }
}

// Panels of `rows` rows (one panel when that is less than 16) times kGroups groups of `width` tokens. Some of k at a
// time meets all panels, so that the tokens' part of it stays in the L1 cache while the weights go by.
template <class W, int kGroups>
void bf16_multiply_panels(const Bf16Block& all, int64_t panels, int rows, int width, int64_t k, float* out) {
  constexpr int64_t kL1Bytes = 32768;
  const int64_t whole = k / kBf16Step, most = kL1Bytes / (64 * width * kGroups), panel_bytes = 16 * all.w_row_bytes;
  const auto sums = [&](int64_t m) { return out + m * kBf16Tokens * 16; };
  W::tiles_begin(rows, width);
  for (int64_t step = 0; step < whole; step += most) {
    Bf16Block part = all;
    part.steps = std::min(most, whole - step);
    part.first = step == 0;
    part.x += 64 * width * step;
    for (int64_t m = 0; m < panels; ++m) {
      part.w = all.w + m * panel_bytes + 64 * step;
      W::template add_products<kGroups>(part, sums(m));
    }
  }
  if (k % kBf16Step != 0) {
    alignas(64) std::byte rest[16][64] = {};
    const Bf16Block part = {rest[0], 64, all.x + 64 * width * whole, all.x_row_bytes, all.x_group_bytes, 1, whole == 0};
    for (int64_t m = 0; m < panels; ++m) {
      for (int r = 0; r < rows; ++r) {
        std::memcpy(rest[r], all.w + m * panel_bytes + r * all.w_row_bytes + 64 * whole,
                    static_cast<size_t>(2 * (k % kBf16Step)));
      }
      W::template add_products<kGroups>(part, sums(m));
    }
  }
  W::tiles_end();
  for (int64_t m = 0; m < panels; ++m) {
    for (int g = 0; g < kGroups; ++g) bf16_turn_sums<W>(sums(m) + g * kBf16Sums);
  }
}

// Bf16Tiles::multiply.
template <class W>
void bf16_multiply(const std::byte* w, int64_t rows, int64_t k, const std::byte* rounded, int64_t tokens, int64_t first,
                   float* out) {
  const int64_t token_bytes = linear_bf16_row_bytes(k), group_bytes = kBf16Group * token_bytes;
  const int64_t count = std::min(kBf16Tokens, tokens - first), groups = count / kBf16Group;
  const int64_t panels = rows / 16, rows_left = rows % 16;
  // Few tokens wait for memory: each panel asks for the next. More meet these panels several times, and each time ask
  // for a part of the panels after them.
  const int64_t turn = first / kBf16Tokens, turns = (tokens + kBf16Tokens - 1) / kBf16Tokens;
  Bf16Block all = {w, 2 * k, rounded + first * token_bytes, 0, group_bytes, 0, true};
  all.ahead = 16 * all.w_row_bytes * (turns > 1 ? kBf16Panels : 1);
  all.ahead_begin = 16 * turn / turns;
  all.ahead_end = 16 * (turn + 1) / turns;
  const auto multiply_rows = [&](Bf16Block block, int64_t n, int of, float* to) {
    block.x_row_bytes = 4 * kBf16Group;
    if (groups == 4) bf16_multiply_panels<W, 4>(block, n, of, 16, k, to);
    if (groups == 3) bf16_multiply_panels<W, 3>(block, n, of, 16, k, to);
    if (groups == 2) bf16_multiply_panels<W, 2>(block, n, of, 16, k, to);
    if (groups == 1) bf16_multiply_panels<W, 1>(block, n, of, 16, k, to);
    if (count % kBf16Group == 0) return;
    if (groups > 0) block.ahead_end = block.ahead_begin;  // asked for already
    block.x += groups * group_bytes;
    block.x_row_bytes = 4 * (count % kBf16Group);
    bf16_multiply_panels<W, 1>(block, n, of, static_cast<int>(count % kBf16Group), k, to + groups * kBf16Sums);
  };
  if (panels > 0) multiply_rows(all, panels, 16, out);
  if (rows_left > 0) {
    all.w += panels * 16 * all.w_row_bytes;
    multiply_rows(all, 1, static_cast<int>(rows_left), out + panels * kBf16Tokens * 16);
  }
}

template <class W>
constexpr Bf16Tiles kBf16TilesOf = {bf16_round<W>, bf16_multiply<W>};

}  // namespace
}  // namespace ll
