// Products of kTile8 weights with few q8a tokens, one at a time: decode of one sequence. Order of sums:
// linear_format.cuh.
//
//   y[t, n] = sum over k of w[n, k] * x[t, k]      forms, biases, residual: kernels/ref/linear.h
//
// A lane multiplies whole groups of one row with dp4a: lane = 8 * tile + row takes tile 4 (kWarps i + warp) + lane / 8
// of its row, so the activation words that a warp reads from shared memory are broadcasts, and weights arrive as 16
// bytes a lane, 128 bytes of each tile together. The tiles' sums meet in shared memory and are added in order.
//
// C: of linear_parts.cuh, and kRowTiles: row tiles of 8 that a block takes one after another (of kGated pairs of gate
// and up, so it is even); kAhead: units that a lane has on their way, 1 or 2; kGroupsToWord: 1 where a part's format
// has halves, else 2. kThreads = 32 * kWarps. Grid: (row blocks of all parts, tokens). Moves the weights once, 1.25 K
// of activations a block, 4 bytes a row.
#pragma once

#include "linear_format.cuh"
#include "linear_parts.cuh"
#include "prim/block.cuh"
#include "prim/dot.cuh"

namespace ll::cuda {

// Shared memory of a block.
template <class C>
struct GemvShared {
  static constexpr int kTiles = (C::kColumns + kTileK - 1) / kTileK;
  U32x4* codes;   // [kTiles][16]
  U32x4* groups;  // [kTiles][8] or, for formats with one word to fold, two to a U32x4
  float* sums;    // [kRowTiles][kTiles][8]
};

// Activations of one token to shared memory, zeros past K.
template <class C, class F>
DEVICE void stage_token(const u8* x, const GemvShared<C>& shared) {
  constexpr int kGroups = C::kColumns / 32;
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll 1
  for (int g = thread; g < GemvShared<C>::kTiles * kTileGroups; g += C::kThreads) {
    U32x4 low{}, high{};
    TokenGroup group{};
    if (g < kGroups) {
      if constexpr (C::kXBytes % 16 == 0) {
        const U32x4* at = reinterpret_cast<const U32x4*>(x) + 2 * g;
        low = at[0], high = at[1];
      } else {
        const U32x2* at = reinterpret_cast<const U32x2*>(x) + 4 * g;
        low = {at[0].x, at[0].y, at[1].x, at[1].y}, high = {at[2].x, at[2].y, at[3].x, at[3].y};
      }
      const float scale = reinterpret_cast<const float*>(x + C::kColumns)[g];
      const u32 sums = reinterpret_cast<const u32*>(x + C::kColumns + 4 * kGroups)[g];
      group = token_group<F>(scale, static_cast<i16>(sums), static_cast<i16>(sums >> 16), g % F::kGroups);
    }
    shared.codes[2 * g] = low, shared.codes[2 * g + 1] = high;
    if constexpr (F::kHalves) {
      shared.groups[g] = {bits<u32>(group.scale), group.fold[0], group.fold[1], 0};
    } else {
      reinterpret_cast<U32x2*>(shared.groups)[g] = {bits<u32>(group.scale), group.fold[0]};
    }
  }
}

// One more group of a row's tile. words[4 h + column]
template <class C, class F, int kF>
DEVICE float dot_group(float sum, const u32 (&words)[8], const Scales<F>& scales, const GemvShared<C>& shared,
                       int group) {
  const U32x4 x0 = shared.codes[2 * group], x1 = shared.codes[2 * group + 1];
  const u32 x[8] = {x0.x, x0.y, x0.z, x0.w, x1.x, x1.y, x1.z, x1.w};
  TokenGroup token;
  if constexpr (F::kHalves) {
    const U32x4 v = shared.groups[group];
    token = {bits<float>(v.x), {v.y, v.z}};
  } else {
    const U32x2 v = reinterpret_cast<const U32x2*>(shared.groups)[group];
    token = {bits<float>(v.x), {v.y, 0}};
  }
  int dot[2] = {};
  if constexpr (!F::kMin && F::kZero != 0) {
    dot[0] = static_cast<int>(token.fold[0]);
    if constexpr (F::kHalves) dot[1] = static_cast<int>(token.fold[1]);
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const u32 other = x[F::kHalves ? 4 * h + c : 2 * c + h];
      int& to = dot[F::kHalves ? h : 0];
      to = F::kSigned ? dp4a_ss(words[4 * h + c], other, to) : dp4a_us(words[4 * h + c], other, to);
    }
  }
  const GroupScale scale = group_scale<F, kF>(scales);
  const float value = F::kHalves ? join_halves(dot[0], dot[1], scale) : static_cast<float>(dot[0]);
  return add_group<F>(sum, value, scale, token);
}

// Groups 2 kPair and 2 kPair + 1 of a unit that begins at `group`.
template <class C, class F, int kPair>
DEVICE float dot_pair(float sum, const Codes<F> (&codes)[4], const Scales<F>& scales, const GemvShared<C>& shared,
                      int group) {
  u32 even[8], odd[8];
  if constexpr (F::kTable) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      look_up_iq4(codes[c].low[2 * kPair], even[c], odd[c]);
      look_up_iq4(codes[c].low[2 * kPair + 1], even[4 + c], odd[4 + c]);
    }
  } else {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      even[c] = code_word<F, 2 * kPair, 0>(codes[c]);
      even[4 + c] = code_word<F, 2 * kPair, 1>(codes[c]);
    }
  }
  sum = dot_group<C, F, 2 * kPair>(sum, even, scales, shared, group + 2 * kPair);
  if constexpr (!F::kTable) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      odd[c] = code_word<F, 2 * kPair + 1, 0>(codes[c]);
      odd[4 + c] = code_word<F, 2 * kPair + 1, 1>(codes[c]);
    }
  }
  return dot_group<C, F, 2 * kPair + 1>(sum, odd, scales, shared, group + 2 * kPair + 1);
}

template <class C, class F>
DEVICE void gemv_rows(const Part& part, const GemvShared<C>& shared, const u8* x) {
  constexpr int kTiles = GemvShared<C>::kTiles, kWarps = C::kThreads / kWarp;
  constexpr int kIterations = (kTiles + 4 * kWarps - 1) / (4 * kWarps);
  constexpr int kPairs = C::kForm == kGated ? 2 : 1;
  const int row = lane() % 8, first_tile = 4 * warp() + lane() / 8, first_row_tile = part.first_row / kTileRows;
  const int row_tiles =
      minimum((part.rows + kTileRows - 1) / kTileRows - first_row_tile, C::kRowTiles / kPairs) * kPairs;
  // Where this lane is: a unit of a tile, of the row tile that is so many further than the block's first. Lanes past
  // the last tile take it again; their sums are not kept. Offsets fit 32 bits: lower() says so.
  struct Place {
    int row_tile, tile, unit;
    u32 at;  // byte of the tile
  };
  const auto clamped = [&](int tile) { return kTiles % (4 * kWarps) == 0 ? tile : minimum(tile, kTiles - 1); };
  const auto find = [&](Place& p) {
    p.at = static_cast<u32>((first_row_tile + p.row_tile / kPairs) * kTiles + clamped(p.tile)) * F::kBytes;
  };
  // False past the end.
  const auto advance = [&](Place& p) {
    if (++p.unit < F::kUnits) return true;
    p.unit = 0;
    p.tile += 4 * kWarps;
    if (p.tile >= first_tile + kIterations * 4 * kWarps) {
      p.tile = first_tile;
      if (++p.row_tile == row_tiles) return false;
    }
    find(p);
    return true;
  };
  Codes<F> codes[C::kAhead][4];
  Scales<F> scales[C::kAhead];
  const auto load = [&](int buffer, const Place& p) {
    const u8* base = kPairs == 2 && p.row_tile % 2 != 0 ? part.up : part.weights;
    load_scales<F>(scales[buffer], base, p.at, p.unit, row);
#pragma unroll
    for (int c = 0; c < 4; ++c) load_codes<F>(codes[buffer][c], base, p.at, p.unit, 8 * c, row);
  };

  // Weights do not depend on the activations: they are on their way while these are staged.
  Place now{0, first_tile, 0, 0};
  find(now);
  Place next = now;
  bool more = true;
#pragma unroll
  for (int i = 0; i < C::kAhead; ++i) {
    if (more) {
      load(i, next);
      more = advance(next);
    }
  }
  stage_token<C, F>(x, shared);
  sync_block();

  float sum = 0;
  bool on = true;
#pragma unroll 1
  while (on) {
#pragma unroll
    for (int i = 0; i < C::kAhead; ++i) {
      const int group = clamped(now.tile) * kTileGroups + now.unit * F::kGroups;
      unrolled<F::kGroups / 2>([&](auto p) {
        // Not all of a unit's activations at once: they would not fit the registers.
        if constexpr (p.value > 0) sync_warp();
        sum = dot_pair<C, F, p.value>(sum, codes[i], scales[i], shared, group);
      });
      if (now.unit == F::kUnits - 1) {
        if (kTiles % (4 * kWarps) == 0 || now.tile < kTiles) {
          shared.sums[(now.row_tile * kTiles + now.tile) * kTileRows + row] = sum;
        }
        sum = 0;
      }
      on = advance(now);
      if constexpr (C::kAhead == 1) {
        if (on) load(0, now);
      } else if (more) {
        load(i, next);
        more = advance(next);
      }
    }
  }
}

template <class C>
__device__ void linear_gemv(const Args& args) {
  constexpr int kTiles = GemvShared<C>::kTiles, kPairs = C::kForm == kGated ? 2 : 1;
  SHARED(U32x4, codes, kTiles * 16);
  SHARED(U32x4, groups, kTiles * kTileGroups / C::kGroupsToWord);
  SHARED(float, sums, C::kRowTiles* kTiles* kTileRows);
  const int token = static_cast<int>(blockIdx.y);
  if (token >= token_count<C>(args)) return;
  const GemvShared<C> shared{codes, groups, sums};
  const Part part = find_part<C, C::kRowTiles / kPairs * kTileRows>(args, static_cast<int>(blockIdx.x));
  const u8* x = static_cast<const u8*>(args.in[0]) + i64{token} * C::kXBytes;
  with_type<C>(part, [&](auto type) { gemv_rows<C, Tile8<type.value>>(part, shared, x); });
  sync_block();
  constexpr int kRows = C::kRowTiles / kPairs * kTileRows;
  for (int i = static_cast<int>(threadIdx.x); i < kRows; i += C::kThreads) {
    const int row = part.first_row + i;
    if (row >= part.rows) break;
    float total[kPairs] = {};
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      const float* of_row = sums + (i / kTileRows * kPairs + p) * kTiles * kTileRows + i % kTileRows;
#pragma unroll 8
      for (int b = 0; b < kTiles; ++b) total[p] += of_row[b * kTileRows];
    }
    finish<C>(args, part, token, row, total[0], total[kPairs - 1]);
  }
}

}  // namespace ll::cuda
