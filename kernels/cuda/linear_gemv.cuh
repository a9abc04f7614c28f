// Products of kTile8 weights with few q8a tokens, one at a time: decode of one sequence. Order of sums:
// linear_format.cuh.
//
//   y[t, n] = sum over k of w[n, k] * x[t, k]      forms, biases, residual: kernels/ref/linear.h
//
// A lane multiplies whole groups of one row with dp4a: lane = 8 * tile + row takes tile 4 (kWarps i + warp) + lane / 8
// of its row, so the activation words that a warp reads from shared memory are broadcasts, and weights arrive as 16
// bytes a lane, 128 bytes of each tile together. The tiles' sums meet in shared memory and are added in order.
//
// With kActivations other than kQuantized every block quantizes the token itself, the same bits as quantize and
// norm_quantize of norm.cuh, so that no kernel runs between the products of a step of one token; with kToQ8A a block's
// rows leave it as q8a.
//
// C: of linear_parts.cuh, and
//   kRowTiles      row tiles of 8 of a block (of kGated pairs of gate and up, so it is even)
//   kRowWarps      into which they are cut; each warp takes its tiles one after another
//   kAhead         units that a lane has on their way, 1 or 2
//   kGroupsToWord  1 where a part's format has halves, else 2
//   kActivations   GemvActivations; of kNormed kEps and kNormThreads, the block of norm.cuh, whose order of sums is
//   kept kXAligned      of f32 x: rows start at multiples of 16 bytes kToQ8A         y is q8a; row blocks hold
//   multiples of 32 rows kRope          the rows are q, k and v: rope_kv_write of rope.cuh follows, with its constants;
//   row blocks divide heads
// kThreads = 32 * kRowWarps * warps along K. Grid: (row blocks of all parts, tokens). Moves the weights once, 1.25 K of
// activations (4 K of f32 ones, once more and 4 K of weights where normed) a block, 4 bytes a row.
#pragma once

#include "linear_format.cuh"
#include "linear_parts.cuh"
#include "prim/block.cuh"
#include "prim/dot.cuh"
#include "q8a.cuh"
#include "rope.cuh"

namespace ll::cuda {

// kQuantized: in[0] is q8a. Otherwise f32; kNormed: normed by in[1] first.
enum GemvActivations : int { kQuantized, kPlain, kNormed };

// Shared memory of a block.
template <class C>
struct GemvShared {
  static constexpr int kTiles = (C::kColumns + kTileK - 1) / kTileK;
  U32x4* codes;   // [kTiles][16]
  U32x4* groups;  // [kTiles][8] or, for formats with one word to fold, two to a U32x4
  float* sums;    // [kRowTiles][kTiles][8]
};

// Keeps group g of the token.
template <class C, class F>
DEVICE void keep_group(const GemvShared<C>& shared, int g, const TokenGroup& group) {
  if constexpr (F::kHalves) {
    shared.groups[g] = {bits<u32>(group.scale), group.fold[0], group.fold[1], 0};
  } else {
    reinterpret_cast<U32x2*>(shared.groups)[g] = {bits<u32>(group.scale), group.fold[0]};
  }
}

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
    keep_group<C, F>(shared, g, group);
  }
}

// 1 / sqrt(mean square + eps) of x, summed as norm.cuh does it: by kNormThreads threads, of which each of ours plays
// several. One barrier.
template <class C>
DEVICE float norm_factor(const float* x, float* sums) {
  constexpr int kWarps = C::kThreads / kWarp, kNormWarps = C::kNormThreads / kWarp, kChunk = 4 * C::kNormThreads;
  for (int w = warp(); w < kNormWarps; w += kWarps) {
    float squares = 0.0f;
#pragma unroll 4
    for (int column = 4 * (w * kWarp + lane()); column < C::kColumns; column += kChunk) {
      const Piece<4> p = load_piece<4, C::kXAligned != 0>(x + column);
#pragma unroll
      for (int i = 0; i < 4; ++i) squares = fma(p.v[i], p.v[i], squares);
    }
    squares = warp_sum(squares);
    if (lane() == 0) sums[w] = squares;
  }
  sync_block();
  float sum = sums[0];
#pragma unroll
  for (int w = 1; w < kNormWarps; ++w) sum += sums[w];
  const float mean = sum / static_cast<float>(C::kColumns);
  return reciprocal_root(mean + float_constant(C::kEps));
}

// stage_token of f32 activations.
template <class C, class F>
DEVICE void quantize_token(const float* x, const float* norm, float* norm_sums, const GemvShared<C>& shared) {
  constexpr int kLanes = GemvShared<C>::kTiles * kTileGroups * 8;  // 4 values each; whole warps
  float factor = 1.0f;
  if constexpr (C::kActivations == kNormed) factor = norm_factor<C>(x, norm_sums);
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < kLanes; i += C::kThreads) {
    const int column = 4 * i;
    Piece<4> p{};
    if (column < C::kColumns) {
      p = load_piece<4, C::kXAligned != 0>(x + column);
      if constexpr (C::kActivations == kNormed) {
        const Piece<4> scale = load_piece<4, true>(norm + column);
#pragma unroll
        for (int j = 0; j < 4; ++j) p.v[j] = p.v[j] * factor * scale.v[j];
      }
    }
    const Q8aPiece q = quantize_piece(p);
    reinterpret_cast<u32*>(shared.codes)[i] = q.codes;
    const int other = shuffle_xor(q.sum, 4);
    if (i % 8 == 0) keep_group<C, F>(shared, i / 8, token_group<F>(q.scale, q.sum, other, i / 8 % F::kGroups));
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

// stage: brings the token to shared memory.
template <class C, class F, class Stage>
DEVICE void gemv_rows(const Part& part, const GemvShared<C>& shared, const Stage& stage) {
  constexpr int kTiles = GemvShared<C>::kTiles, kWarps = C::kThreads / kWarp / C::kRowWarps;  // along K
  constexpr int kIterations = (kTiles + 4 * kWarps - 1) / (4 * kWarps);
  constexpr int kPairs = C::kForm == kGated ? 2 : 1;
  constexpr int kOwnTiles = C::kRowTiles / C::kRowWarps;
  const int row = lane() % 8, first_tile = 4 * (warp() % kWarps) + lane() / 8;
  const int first_row_tile = part.first_row / kTileRows, first_own = warp() / kWarps * kOwnTiles;
  const int row_tiles =
      minimum(((part.rows + kTileRows - 1) / kTileRows - first_row_tile) * kPairs, first_own + kOwnTiles);
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
  Place now{first_own, first_tile, 0, 0};
  find(now);
  Place next = now;
  bool more = first_own < row_tiles;
  bool on = more;
#pragma unroll
  for (int i = 0; i < C::kAhead; ++i) {
    if (more) {
      load(i, next);
      more = advance(next);
    }
  }
  stage();
  sync_block();

  float sum = 0;
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

// Inputs of norm_qkv_rope_kv_write.
enum QkvInput : int { kQkvPositions = 6, kQkvSlots = 7, kQkvFrequencies = 8 };

// The workspace of kRope: a counter of arrivals for each token and head, then rows [T, kHeadsOut * kHeadDim] as the
// products leave them. C: kHeadsOut (query, key and value heads), kCounterBytes.
template <class C>
DEVICE float* raw_row(const Args& args, int token) {
  return reinterpret_cast<float*>(static_cast<u8*>(args.workspace) + C::kCounterBytes) +
         i64{token} * (C::kHeadsOut * C::kHeadDim);
}

// The last block of a head to come here rotates it and puts it where it belongs, as rope_kv_write does.
template <class C>
DEVICE void rope_head(const Args& args, int column, int token) {
  constexpr int kArrivals = C::kHeadDim / (C::kRowTiles * kTileRows);
  SHARED(u32, is_last, 1);
  SHARED(float, cosines, C::kPairs > 0 ? C::kPairs : 1);
  SHARED(float, sines, C::kPairs > 0 ? C::kPairs : 1);
  SHARED(float, head, C::kHeadDim);
  const int h = column / C::kHeadDim, plane = h - C::kQueryHeads;
  fence();
  sync_block();
  if (threadIdx.x == 0) {
    u32* counter = static_cast<u32*>(args.workspace) + token * C::kHeadsOut + h;
    is_last[0] = atomic_add(counter, 1u) + 1u == static_cast<u32>(kArrivals) ? 1u : 0u;
    if (is_last[0] != 0) *counter = 0;
  }
  sync_block();
  if (is_last[0] == 0) return;
  fence();
  const float* raw = raw_row<C>(args, token) + h * C::kHeadDim;
  for (int d = static_cast<int>(threadIdx.x); d < C::kHeadDim; d += C::kThreads) head[d] = load_fresh(raw + d);
  rope_factors<C>(static_cast<const int*>(args.in[kQkvPositions])[token],
                  static_cast<const float*>(args.in[kQkvFrequencies]), cosines, sines);
  if (plane < 0) {
    float* y = static_cast<float*>(args.out[0]) + i64{token} * C::kYStride + h * C::kHeadDim;
    for (int d = static_cast<int>(threadIdx.x); d < C::kHeadDim; d += C::kThreads) {
      y[d] = rotated<C>(head, d, cosines, sines);
    }
  } else if (warp() == 0) {
    const int slot = static_cast<const int*>(args.in[kQkvSlots])[token];
    u8* row = static_cast<u8*>(args.out[1]) + kv_offset<C>(slot, plane);
    if (plane < C::kPlanes / 2) {
      store_kv_row<C>(row, [&](int d) { return rotated<C>(head, d, cosines, sines); });
    } else {
      store_kv_row<C>(row, [&](int d) { return head[d]; });
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
  with_type<C>(part, [&](auto type) {
    using F = Tile8<type.value>;
    gemv_rows<C, F>(part, shared, [&] {
      if constexpr (C::kActivations == kQuantized) {
        stage_token<C, F>(x, shared);
      } else {
        // The sums of products are not there yet.
        quantize_token<C, F>(reinterpret_cast<const float*>(x), static_cast<const float*>(args.in[1]), sums, shared);
      }
    });
  });
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
    if constexpr (C::kRope != 0) {
      raw_row<C>(args, token)[part.column + row] = finished<C>(args, part, token, row, total[0], 0.0f);
    } else if constexpr (C::kToQ8A != 0 && C::kForm != kGate) {
      u8* y = static_cast<u8*>(args.out[0]) + i64{token} * C::kYStride * 4;
      store_q8a_value<C::kRows0>(y, row, finished<C>(args, part, token, row, total[0], total[kPairs - 1]));
    } else {
      finish<C>(args, part, token, row, total[0], total[kPairs - 1]);
    }
  }
  if constexpr (C::kRope != 0) rope_head<C>(args, part.column + part.first_row, token);
}

}  // namespace ll::cuda
