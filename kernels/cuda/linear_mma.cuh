// Products of kTile8 weights with many q8a tokens: prefill and batches from 2 on. Order of sums: linear_format.cuh, so
// every output has the bits that linear_gemv.cuh gives it.
//
//   y[t, n] = sum over k of w[n, k] * x[t, k]      forms, biases, residual: kernels/ref/linear.h
//
// int8 mma m8n8k16, weights as the 8-row operand a: a lane loads what it multiplies, from global memory to registers.
// Activations go through shared memory, kHalves half tiles (128 k each) at a time, double buffered through registers;
// they lie there as lanes take them, 16 bytes for two groups. Integer sums start at the bits of 1.5 * 2^23, so that
// they are floats as they come; this one subtraction replaces a conversion, of which Turing does four a clock.
//
// A block of kRowWarps * kTokenWarps * kDepthWarps warps takes kRowWarps * kRowTiles * 8 rows (of kGated half of them,
// gate and up in turn) and kTokenWarps * kTokenTiles * 8 tokens. With kDepthWarps > 1 warps take tiles of K in turn and
// exchange the tiles' sums through shared memory, to add them in order. Alone, a warp with many sums keeps what earlier
// tiles of K added up to there: they would not fit the registers.
//
// C: of linear_parts.cuh, and kRowWarps, kTokenWarps, kDepthWarps, kRowTiles (even for kGated), kTokenTiles,
// kHalves (1 or 2, of a tile: a stage),
// kTokenBlocks (blocks along T of the grid), kSwizzle (token blocks that neighbouring blocks share rows with).
// Grid: (row blocks of all parts * kTokenBlocks).
// Moves the weights once a token block, the activations once a row block, 4 bytes a row and token.
#pragma once

#include "linear_format.cuh"
#include "linear_parts.cuh"
#include "prim/block.cuh"
#include "prim/mma.cuh"

namespace ll::cuda {

inline constexpr int kMagic = 0x4b400000;  // bits of 1.5 * 2^23

template <class C>
struct MmaShape {
  static constexpr int kTiles = (C::kColumns + kTileK - 1) / kTileK;
  static constexpr int kRounds = (kTiles + C::kDepthWarps - 1) / C::kDepthWarps;
  static constexpr int kPairs = C::kForm == kGated ? 2 : 1;
  static constexpr int kRows = C::kRowWarps * C::kRowTiles * kTileRows / kPairs;  // of the output
  static constexpr int kTokens = C::kTokenWarps * C::kTokenTiles * 8;
  static constexpr int kTileStages = 2 / C::kHalves;  // of a tile
  // Of a stage and depth warp, of each token: runs of 16 codes, groups of 32.
  static constexpr int kRuns = 8 * C::kHalves, kGroups = 4 * C::kHalves;
  // Shared memory of a stage, in units of 16 bytes.
  static constexpr int kStageCodes = C::kDepthWarps * kTokens * kRuns,
                       kStageGroups = C::kDepthWarps * kTokens * kGroups;
  static constexpr int kCodeLoads = (kStageCodes + C::kThreads - 1) / C::kThreads;
  static constexpr int kGroupLoads = (kStageGroups + C::kThreads - 1) / C::kThreads;
  static constexpr int kSums = 2 * C::kTokenTiles;  // of a lane and row tile
  static constexpr int kOwned = (kSums + C::kDepthWarps - 1) / C::kDepthWarps;
  static constexpr bool kTotalsShared = C::kDepthWarps == 1 && C::kRowTiles * kSums > 16;
  static constexpr int kExchange =
      C::kDepthWarps > 1 || kTotalsShared ? C::kThreads* C::kRowTiles* kSums : 4;  // floats
};

// A thread's share of the next stage, on its way from global to shared memory.
template <class C>
struct Staged {
  U32x4 codes[MmaShape<C>::kCodeLoads];
  float scales[MmaShape<C>::kGroupLoads];
  u32 sums[MmaShape<C>::kGroupLoads];
};

// What a stage is made of, in the order that threads take it. First all 16-byte runs of codes: token-major in a depth
// warp's half tile, so that 8 threads read 128 bytes of a row.
struct StageCode {
  int depth, token, run;  // of 16 codes
};
template <class C>
DEVICE StageCode stage_code(int i) {
  return {i / (MmaShape<C>::kRuns * MmaShape<C>::kTokens), i / MmaShape<C>::kRuns % MmaShape<C>::kTokens,
          i % MmaShape<C>::kRuns};
}
struct StageGroup {
  int depth, token, group;
};
template <class C>
DEVICE StageGroup stage_group(int i) {
  return {i / (MmaShape<C>::kGroups * MmaShape<C>::kTokens), i / MmaShape<C>::kGroups % MmaShape<C>::kTokens,
          i % MmaShape<C>::kGroups};
}

// Stage s: its part of the tiles s / kTileStages * kDepthWarps .. of tokens from first_token on; zeros past K and past
// the last token.
template <class C>
DEVICE void fetch_stage(Staged<C>& staged, const u8* x, int first_token, int tokens, int s) {
  using Shape = MmaShape<C>;
  constexpr int kGroups = C::kColumns / 32;
#pragma unroll
  for (int j = 0; j < Shape::kCodeLoads; ++j) {
    const int i = j * C::kThreads + static_cast<int>(threadIdx.x);
    const StageCode at = stage_code<C>(i);
    const int token = first_token + at.token, k = (s / Shape::kTileStages * C::kDepthWarps + at.depth) * kTileK +
                                                  s % Shape::kTileStages * 128 + at.run * 16;
    staged.codes[j] = {0, 0, 0, 0};
    if (i < Shape::kStageCodes && token < tokens && k < C::kColumns) {
      const u8* from = x + i64{token} * C::kXBytes + k;
      if constexpr (C::kXBytes % 16 == 0) {
        staged.codes[j] = *reinterpret_cast<const U32x4*>(from);
      } else {
        const U32x2* at8 = reinterpret_cast<const U32x2*>(from);
        staged.codes[j] = {at8[0].x, at8[0].y, at8[1].x, at8[1].y};
      }
    }
  }
#pragma unroll
  for (int j = 0; j < Shape::kGroupLoads; ++j) {
    const int i = j * C::kThreads + static_cast<int>(threadIdx.x);
    const StageGroup at = stage_group<C>(i);
    const int token = first_token + at.token;
    const int group =
        (s / Shape::kTileStages * C::kDepthWarps + at.depth) * kTileGroups + s % Shape::kTileStages * 4 + at.group;
    staged.scales[j] = 0;
    staged.sums[j] = 0;
    if (i < Shape::kStageGroups && token < tokens && group < kGroups) {
      const u8* row = x + i64{token} * C::kXBytes + C::kColumns;
      staged.scales[j] = reinterpret_cast<const float*>(row)[group];
      staged.sums[j] = reinterpret_cast<const u32*>(row + 4 * kGroups)[group];
    }
  }
}

// codes[depth][pair of groups][token][column]: words (group, half) of two groups.
// groups[depth][group][pair of tokens]: TokenPair, of halves 32 bytes, else 16.
template <class C, class F>
DEVICE void store_stage(const Staged<C>& staged, U32x4* codes, U32x4* groups) {
  using Shape = MmaShape<C>;
#pragma unroll
  for (int j = 0; j < Shape::kCodeLoads; ++j) {
    const int i = j * C::kThreads + static_cast<int>(threadIdx.x);
    if (Shape::kStageCodes % C::kThreads != 0 && i >= Shape::kStageCodes) break;
    const StageCode at = stage_code<C>(i);
    const U32x4 v = staged.codes[j];
    // Run of 16 codes: half a group. Its place is column 0 of the token's words of the pair, then the group's half.
    u32* to =
        reinterpret_cast<u32*>(codes + ((at.depth * (Shape::kRuns / 4) + at.run / 4) * Shape::kTokens + at.token) * 4) +
        at.run / 2 % 2 * 2;
    if constexpr (F::kHalves) {
      to += at.run % 2;
      to[0] = v.x, to[4] = v.y, to[8] = v.z, to[12] = v.w;
    } else {
      U32x2* pair = reinterpret_cast<U32x2*>(to + at.run % 2 * 8);
      pair[0] = {v.x, v.y}, pair[2] = {v.z, v.w};
    }
  }
#pragma unroll
  for (int j = 0; j < Shape::kGroupLoads; ++j) {
    const int i = j * C::kThreads + static_cast<int>(threadIdx.x);
    if (Shape::kStageGroups % C::kThreads != 0 && i >= Shape::kStageGroups) break;
    const StageGroup at = stage_group<C>(i);
    const TokenGroup g = token_group<F>(staged.scales[j], static_cast<i16>(staged.sums[j]),
                                        static_cast<i16>(staged.sums[j] >> 16), at.group % F::kGroups);
    constexpr int kWords = F::kHalves ? 8 : 4;
    const int pair = ((at.depth * Shape::kGroups + at.group) * Shape::kTokens + at.token) / 2;
    u32* to = reinterpret_cast<u32*>(groups) + pair * kWords + at.token % 2;
    to[0] = bits<u32>(g.scale);
    if constexpr (F::kMin || F::kHalves) {
      to[kWords / 2] = g.fold[0];
      if constexpr (F::kHalves) to[6] = g.fold[1];
    } else {
      to[2] = kMagic + g.fold[0];
    }
  }
}

// Groups of two neighbouring tokens: pairs of registers, as the accumulator of an mma is.
struct TokenPair {
  float scale[2];
  int fold[2][2];  // [half][token]
};
template <class F>
DEVICE TokenPair load_token_pair(const U32x4* groups, int pair) {
  TokenPair t{};
  if constexpr (F::kHalves) {
    const U32x2 scale = *reinterpret_cast<const U32x2*>(groups + 2 * pair);
    const U32x4 fold = groups[2 * pair + 1];
    t = {{bits<float>(scale.x), bits<float>(scale.y)},
         {{static_cast<int>(fold.x), static_cast<int>(fold.y)}, {static_cast<int>(fold.z), static_cast<int>(fold.w)}}};
  } else {
    const U32x4 v = groups[pair];
    t = {{bits<float>(v.x), bits<float>(v.y)}, {{static_cast<int>(v.z), static_cast<int>(v.w)}}};
  }
  return t;
}

// sum[token of the pair] of one row tile: one more group.
template <class F>
DEVICE void mma_group(float (&sum)[2], u32 a0, u32 a1, u32 b0, u32 b1, const GroupScale& scale, const TokenPair& t) {
  const auto multiply = [](int(&d)[2], u32 a, u32 b, const int(&c)[2]) {
    if constexpr (F::kSigned) {
      mma_m8n8k16_ss(d, a, b, c);
    } else {
      mma_m8n8k16_us(d, a, b, c);
    }
  };
  int x[2];
  float value[2];
  if constexpr (F::kHalves) {
    constexpr int kNothing[2] = {};
    int y[2];
    multiply(x, a0, b0, F::kMin ? kNothing : t.fold[0]);
    multiply(y, a1, b1, F::kMin ? kNothing : t.fold[1]);
#pragma unroll
    for (int e = 0; e < 2; ++e) value[e] = join_halves(x[e], y[e], scale);
  } else {
    constexpr int kStart[2] = {kMagic, kMagic};
    multiply(x, a0, b0, F::kMin ? kStart : t.fold[0]);
    multiply(x, a1, b1, x);
#pragma unroll
    for (int e = 0; e < 2; ++e) value[e] = bits<float>(x[e]) - bits<float>(kMagic);
  }
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const TokenGroup one{t.scale[e], {static_cast<u32>(t.fold[0][e]), static_cast<u32>(t.fold[1][e])}};
    sum[e] = add_group<F>(sum[e], value[e], scale, one);
  }
}

// A stage's codes and scales of one row tile.
template <class C, class F>
struct StageWeights {
  static constexpr int kUnits = F::kUnits / 2 * C::kHalves;
  Codes<F> codes[kUnits];
  Scales<F> scales[kUnits];
};

// Where a block works.
struct BlockPlace {
  Part part;
  int first_token;
};
template <class C>
DEVICE BlockPlace block_place(const Args& args) {
  // Blocks of kSwizzle token blocks walk the rows together, so that both operands are found in L2.
  const int block = recomputed(static_cast<int>(blockIdx.x));
  const int row_blocks = static_cast<int>(gridDim.x) / C::kTokenBlocks;
  const int band = block / (C::kSwizzle * row_blocks), in_band = block % (C::kSwizzle * row_blocks);
  const int width = minimum(C::kSwizzle, C::kTokenBlocks - band * C::kSwizzle);
  return {find_part<C, MmaShape<C>::kRows>(args, in_band / width),
          (band * C::kSwizzle + in_band % width) * MmaShape<C>::kTokens};
}

template <class C, class F>
DEVICE void mma_rows(const Args& args, const Part& part, int first_token, int tokens, U32x4* codes, U32x4* groups,
                     float* exchange) {
  using Shape = MmaShape<C>;
  constexpr int kTiles = Shape::kTiles, kStages = Shape::kTileStages * Shape::kRounds, kPairs = Shape::kPairs;
  const int depth = warp() % C::kDepthWarps, row_warp = warp() / C::kDepthWarps % C::kRowWarps;
  const int token_warp = warp() / (C::kDepthWarps * C::kRowWarps);
  const int row = lane() / 4, column = lane() % 4;
  const int first_row_tile = part.first_row / kTileRows + row_warp * (C::kRowTiles / kPairs);
  const int last_row_tile = (part.rows + kTileRows - 1) / kTileRows - 1;
  const u8* x = static_cast<const u8*>(args.in[0]);

  StageWeights<C, F> weights[C::kRowTiles];
  // Row tiles past the last and tiles past the last are taken again; their sums are not kept.
  const auto load = [&](int s) {
    const int tile = minimum(s / Shape::kTileStages * C::kDepthWarps + depth, kTiles - 1);
#pragma unroll
    for (int m = 0; m < C::kRowTiles; ++m) {
      const u8* base = kPairs == 2 && m % 2 != 0 ? part.up : part.weights;
      const u32 at = static_cast<u32>(minimum(first_row_tile + m / kPairs, last_row_tile) * kTiles + tile) * F::kBytes;
#pragma unroll
      for (int u = 0; u < StageWeights<C, F>::kUnits; ++u) {
        const int unit = s % Shape::kTileStages * StageWeights<C, F>::kUnits + u;
        load_codes<F>(weights[m].codes[u], base, at, unit, 8 * column, row);
        load_scales<F>(weights[m].scales[u], base, at, unit, row);
      }
    }
  };

  Staged<C> staged;
  load(0);
  fetch_stage<C>(staged, x, first_token, tokens, 0);
  store_stage<C, F>(staged, codes, groups);
  sync_block();

  float sums[C::kRowTiles][C::kTokenTiles][2] = {}, totals[C::kRowTiles][Shape::kTotalsShared ? 1 : Shape::kOwned] = {};
  // Of kTotalsShared: kept[row tile][4 sums][thread].
  F32x4* const kept = reinterpret_cast<F32x4*>(exchange) + threadIdx.x;
  if constexpr (Shape::kTotalsShared) {
#pragma unroll
    for (int i = 0; i < C::kRowTiles * Shape::kSums / 4; ++i) kept[i * C::kThreads] = {0, 0, 0, 0};
  }
#pragma unroll 1
  for (int s = 0; s < kStages; ++s) {
    const U32x4* stage_codes = codes + s % 2 * Shape::kStageCodes + depth * Shape::kRuns * Shape::kTokens;
    const U32x4* stage_groups = groups + s % 2 * (Shape::kStageGroups / C::kGroupsToWord);
    constexpr int kPairsOfUnit = F::kGroups / 2;
    unrolled<2 * C::kHalves>([&](auto pair) {
      constexpr int kUnit = pair.value / kPairsOfUnit, kPair = pair.value % kPairsOfUnit;
      u32 a[C::kRowTiles][2][2];
      GroupScale scale[C::kRowTiles][2];
#pragma unroll
      for (int m = 0; m < C::kRowTiles; ++m) {
        code_pair<F, kPair, 0>(weights[m].codes[kUnit], a[m][0][0], a[m][1][0]);
        code_pair<F, kPair, 1>(weights[m].codes[kUnit], a[m][0][1], a[m][1][1]);
        scale[m][0] = group_scale<F, 2 * kPair>(weights[m].scales[kUnit]);
        scale[m][1] = group_scale<F, 2 * kPair + 1>(weights[m].scales[kUnit]);
      }
      // All codes of this stage are unpacked: the next ones are on their way while these are multiplied.
      if constexpr (pair.value == 2 * C::kHalves - 1) {
        if (s + 1 < kStages) {
          load(s + 1);
          fetch_stage<C>(staged, x, first_token, tokens, s + 1);
        }
      }
#pragma unroll
      for (int n = 0; n < C::kTokenTiles; ++n) {
        // Not all tiles' activations at once: they would not fit the registers.
        if (n % 2 == 0) sync_warp();
        const int token = (token_warp * C::kTokenTiles + n) * 8;
        const U32x4 b = stage_codes[(pair.value * Shape::kTokens + token) * 4 + lane()];
        TokenPair t[2];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          t[e] = load_token_pair<F>(
              stage_groups, ((depth * Shape::kGroups + 2 * pair.value + e) * Shape::kTokens + token + 2 * column) / 2);
        }
#pragma unroll
        for (int m = 0; m < C::kRowTiles; ++m) {
          mma_group<F>(sums[m][n], a[m][0][0], a[m][0][1], b.x, b.y, scale[m][0], t[0]);
          mma_group<F>(sums[m][n], a[m][1][0], a[m][1][1], b.z, b.w, scale[m][1], t[1]);
        }
      }
    });
    if (s + 1 < kStages) {
      store_stage<C, F>(staged, codes + (s + 1) % 2 * Shape::kStageCodes,
                        groups + (s + 1) % 2 * (Shape::kStageGroups / C::kGroupsToWord));
    }
    const bool tile_ends = s % Shape::kTileStages == Shape::kTileStages - 1;
    if (C::kDepthWarps == 1) {
      if (tile_ends) {
#pragma unroll
        for (int m = 0; m < C::kRowTiles; ++m) {
#pragma unroll
          for (int i = 0; i < Shape::kSums; i += 4) {
            if constexpr (Shape::kTotalsShared) {
              F32x4& total = kept[(m * Shape::kSums + i) / 4 * C::kThreads];
              const F32x4 before = total;
              total = {before.x + sums[m][i / 2][0], before.y + sums[m][i / 2][1], before.z + sums[m][i / 2 + 1][0],
                       before.w + sums[m][i / 2 + 1][1]};
            }
#pragma unroll
            for (int j = i; j < i + 4 && j < Shape::kSums; ++j) {
              if constexpr (!Shape::kTotalsShared) totals[m][j % Shape::kOwned] += sums[m][j / 2][j % 2];
              sums[m][j / 2][j % 2] = 0;
            }
          }
        }
      }
      sync_block();
    } else {
      // exchange[row tile][sum][thread]
      if (tile_ends) {
#pragma unroll
        for (int m = 0; m < C::kRowTiles; ++m) {
#pragma unroll
          for (int i = 0; i < Shape::kSums; ++i) {
            exchange[(m * Shape::kSums + i) * C::kThreads + threadIdx.x] = sums[m][i / 2][i % 2];
            sums[m][i / 2][i % 2] = 0;
          }
        }
      }
      sync_block();
      if (tile_ends) {
        const int of_tile0 = static_cast<int>(threadIdx.x) - depth * kWarp;
#pragma unroll
        for (int m = 0; m < C::kRowTiles; ++m) {
#pragma unroll
          for (int o = 0; o < Shape::kOwned; ++o) {
            const int i = o * C::kDepthWarps + depth;
            if (i >= Shape::kSums) break;
#pragma unroll
            for (int d = 0; d < C::kDepthWarps; ++d) {
              if (s / Shape::kTileStages * C::kDepthWarps + d < kTiles) {
                totals[m][o] += exchange[(m * Shape::kSums + i) * C::kThreads + of_tile0 + d * kWarp];
              }
            }
          }
        }
      }
    }
  }

  // Found again: none of this was worth a register during the loop.
  const BlockPlace place = block_place<C>(args);
  const int thread = recomputed(static_cast<int>(threadIdx.x)), the_warp = thread / kWarp, the_lane = thread % kWarp;
  const int the_depth = the_warp % C::kDepthWarps, last_token = token_count<C>(args);
  const int first_row = place.part.first_row +
                        the_warp / C::kDepthWarps % C::kRowWarps * (C::kRowTiles / kPairs * kTileRows) + the_lane / 4;
  const int first =
      place.first_token + the_warp / (C::kDepthWarps * C::kRowWarps) * (C::kTokenTiles * 8) + the_lane % 4 * 2;
  const auto total = [&](int m, int o) {
    if constexpr (Shape::kTotalsShared) {
      return exchange[((m * Shape::kSums + o) / 4 * C::kThreads + thread) * 4 + o % 4];
    } else {
      return totals[m][o];
    }
  };
#pragma unroll
  for (int m = 0; m < C::kRowTiles; m += kPairs) {
    const int n = first_row + m / kPairs * kTileRows;
#pragma unroll
    for (int o = 0; o < Shape::kOwned; ++o) {
      const int i = C::kDepthWarps == 1 ? o : o * C::kDepthWarps + the_depth;
      const int token = first + i / 2 * 8 + i % 2;
      if (i < Shape::kSums && n < place.part.rows && token < last_token) {
        finish<C>(args, place.part, token, n, total(m, o), total(m + kPairs - 1, o));
      }
    }
  }
}

template <class C>
__device__ void linear_mma(const Args& args) {
  using Shape = MmaShape<C>;
  SHARED(U32x4, codes, 2 * Shape::kStageCodes);
  SHARED(U32x4, groups, 2 * Shape::kStageGroups / C::kGroupsToWord);
  SHARED(float, exchange, Shape::kExchange);
  const BlockPlace place = block_place<C>(args);
  const int tokens = token_count<C>(args);
  if (place.first_token >= tokens) return;
  with_type<C>(place.part, [&](auto type) {
    mma_rows<C, Tile8<type.value>>(args, place.part, place.first_token, tokens, codes, groups, exchange);
  });
}

}  // namespace ll::cuda
