// Attention over the paged KV cache (kernels/attention.h), on tensor cores: products of f16, sums in f32.
//
//   in: q f32 [T, kHeads * kHeadDim], cache, positions i32 [T], sequences i32 [T], block_table i32 [S, kTableColumns]
//   out: y f32 [T, kHeads * kHeadDim]      work: AttentionItem [work_items]
//
// Reads the keys and values that a tile of tokens sees once for all query heads of their KV head; y and q once.
//
// A row is one (token, query head); the rows of a token that share a KV head are neighbours, so that a tile of 16 rows
// holds 16 / kGroup tokens. Each row is the fold over units of 256 positions, in order, of the unit's partial result
// (m, l, o): largest score, sum of weights 2^(score - m), weighted sum of values. A unit is walked a page of 32 keys at
// a time, as online softmax. Both ways below do the same operations on the same fragments in the same order, so that a
// row has the same bits in a decode step, in any chunk of a prefill, and however the units are split over blocks:
//
//   split_attention    one tile of 16 rows a block: its four warps take 8 keys of a page each, then a quarter of the
//                      columns of the values each. Registers alone hold keys and values
//   shared_attention   a prefill's tiles of 16 rows, one (of head sizes above 128, half of one) a warp, that share
//                      pages in shared memory
//
// Elements within the k dimension of an mma may be permuted when both operands are. So a lane loads 8 neighbours of a
// key, which serve four mma: slots 2t, 2t + 1 of mma i hold elements 8t + 2i, 8t + 2i + 1 of 32. Keys 0-7 of a group
// take slots 0, 2, 4, 6, 1, 3, 5, 7.
#pragma once

#include "kv_load.cuh"
#include "prim/attention_item.h"
#include "prim/block.cuh"
#include "prim/mma.cuh"

namespace ll::cuda {

// C: kHeads, kKvHeads, kHeadDim (a multiple of 8), kScale (times log2 e), kWindow (0: none), kKvType, kKvRowBytes,
// kScalesOffset, kPlanes, kPageSize (32), kTableColumns, kStrideQ (elements), kAlignedQ, kSharedPages, kThreads (128).
template <class C>
struct AttentionLayout {
  static constexpr int kGroup = C::kHeads / C::kKvHeads;
  static constexpr int kWarps = C::kThreads / kWarp;
  static constexpr int kQuarters = (C::kHeadDim + 31) / 32;  // of 32 elements: four mma
  // split_attention: columns of one lane's piece of a value row; warps take groups of 8 such pieces.
  static constexpr int kPiece = C::kHeadDim % 128 == 0 ? 4 : 2;
  static constexpr int kPieces = (C::kHeadDim + 8 * kPiece - 1) / (8 * kPiece);
  static constexpr int kWarpPieces = (kPieces + kWarps - 1) / kWarps;
  // shared_attention: warps that share a tile of rows, and 8-column tiles of each.
  static constexpr int kColumnWarps = C::kHeadDim > 128 ? 2 : 1;
  static constexpr int kColumnTiles = (C::kHeadDim / 8 + kColumnWarps - 1) / kColumnWarps;
  static constexpr int kRows = kAttentionRows * kWarps / kColumnWarps;
  // Bytes between rows of shared pages; bank conflicts: rows 0 and 4 are 64 bytes apart modulo 128 where lanes load 16
  // bytes of two keys; any 8 rows differ modulo 128 where ldmatrix reads 8 values.
  static constexpr int kKeyStride = kQuarters * 64 + 16;
  static constexpr int kValueStride = (C::kHeadDim / 8 | 1) * 16;
  // A partial result in the workspace: m, l, two unused, o.
  static constexpr int kPartial = C::kHeadDim + 4;
  static constexpr int kCounterBytes = (kAttentionSlots * C::kKvHeads * 4 + 255) / 256 * 256;
};

inline constexpr float kMinusInfinity = bits<float>(0xff800000u);
inline constexpr int kUnitPages = kAttentionUnit / 32;

// The key of slot `slot` of a group of 8, and so the position of column `slot` of scores.
DEVICE int key_of_slot(int slot) { return slot / 2 + slot % 2 * 4; }

// Rows g and g + 8 of a tile: where they are and what they see.
struct TileRows {
  int position[2];            // the last key that counts; -1 for rows beyond the item
  int token[2], head[2];      // head -1 for rows beyond the item
  int last_page, first_page;  // of the whole tile
};

template <class C>
DEVICE int first_key(int position) {
  return C::kWindow > 0 && position >= C::kWindow ? position - C::kWindow + 1 : 0;
}

// Rows row .. row + 15 of `rows` of the item.
template <class C>
DEVICE TileRows load_rows(const Args& args, const AttentionItem& item, int kv_head, int row, int rows) {
  using Shape = AttentionLayout<C>;
  const int* positions = static_cast<const int*>(args.in[2]);
  TileRows tile;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = row + lane() / 4 + 8 * half;
    const bool inside = r < rows;
    const int token = item.first_token + (inside ? r / Shape::kGroup : 0);
    const int head = kv_head * Shape::kGroup + r % Shape::kGroup;
    tile.position[half] = inside ? positions[token] : -1;
    tile.token[half] = token;
    tile.head[half] = inside ? head : -1;
  }
  const int end = minimum(row + kAttentionRows, rows) - 1;
  tile.first_page = row < rows ? first_key<C>(positions[item.first_token + row / Shape::kGroup]) / C::kPageSize : 0;
  tile.last_page = row < rows ? positions[item.first_token + end / Shape::kGroup] / C::kPageSize : -1;
  return tile;
}

// Quarter j of a row of queries, scaled: this lane's operands of four mma.
template <class C>
DEVICE U32x4 load_query(const Args& args, const TileRows& tile, int half, int j) {
  const int element = 32 * j + 8 * (lane() % 4);
  if (tile.head[half] < 0 || (C::kHeadDim % 32 != 0 && element >= C::kHeadDim)) return {};
  const float* q =
      static_cast<const float*>(args.in[0]) + i64{tile.token[half]} * C::kStrideQ + tile.head[half] * C::kHeadDim;
  const float scale = float_constant(C::kScale);
  F32x4 a, b;
  if constexpr (C::kAlignedQ != 0) {
    a = *reinterpret_cast<const F32x4*>(q + element);
    b = *reinterpret_cast<const F32x4*>(q + element + 4);
  } else {
    a = {q[element], q[element + 1], q[element + 2], q[element + 3]};
    b = {q[element + 4], q[element + 5], q[element + 6], q[element + 7]};
  }
  return {pack_f16(a.x * scale, a.y * scale), pack_f16(a.z * scale, a.w * scale), pack_f16(b.x * scale, b.y * scale),
          pack_f16(b.z * scale, b.w * scale)};
}

// Adds the products of 32 elements: q of rows g and g + 8, k of this lane's key.
DEVICE void add_scores(float (&s)[4], const U32x4& q0, const U32x4& q8, const U32x4& k) {
  mma_m16n8k8_f16(s, q0.x, q8.x, k.x);
  mma_m16n8k8_f16(s, q0.y, q8.y, k.y);
  mma_m16n8k8_f16(s, q0.z, q8.z, k.z);
  mma_m16n8k8_f16(s, q0.w, q8.w, k.w);
}

// m and l of rows g and g + 8; o is where its owner keeps it.
struct RowStates {
  float m[2], l[4];  // l as an mma's result: [0] and [2] count
};
DEVICE RowStates empty_rows() { return {{kMinusInfinity, kMinusInfinity}, {0.0f, 0.0f, 0.0f, 0.0f}}; }

// Scores of keys outside a row's reach become -infinity. `key`: position of column 2t of the fragment.
template <class C>
DEVICE void mask(const TileRows& tile, int key, float (&s)[4]) {
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const int before = tile.position[e / 2] - (key + e % 2 * 4);
    if (before < 0 || (C::kWindow > 0 && before >= C::kWindow)) s[e] = kMinusInfinity;
  }
}

// What scores are compared with: m, or any number for a row that has seen no key, whose weights are all 0.
DEVICE float reference_of(float m) { return m == kMinusInfinity ? 0.0f : m; }

// Weights of one fragment of scores, as the left operand of the product with values.
DEVICE U32x2 weights(const float (&s)[4], const float (&reference)[2]) {
  float p[4];
#pragma unroll
  for (int e = 0; e < 4; ++e) p[e] = exp2(s[e] - reference[e / 2]);
  return {pack_f16(p[0], p[1]), pack_f16(p[2], p[3])};
}

// Raises m to `largest` of this page; o and l are to be multiplied with what `scale` becomes.
DEVICE void raise(RowStates& rows, const float (&largest)[2], float (&scale)[2], float (&reference)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float m = maximum(rows.m[half], largest[half]);
    reference[half] = reference_of(m);
    scale[half] = exp2(rows.m[half] - reference[half]);
    rows.m[half] = m;
  }
}

template <int kTiles>
DEVICE void rescale(const float (&scale)[2], RowStates& rows, float (&o)[kTiles][4]) {
  // Times 1 changes nothing, so whether the others of the warp need it does not matter.
  if (!any(scale[0] != 1.0f || scale[1] != 1.0f)) return;
#pragma unroll
  for (int e = 0; e < 4; ++e) rows.l[e] *= scale[e / 2];
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) o[n][e] *= scale[e / 2];
  }
}

// What is known of a row's earlier units while the next are computed; their o lies in y.
struct Folded {
  float m = kMinusInfinity, l = 0.0f;
};
// Factors of the fold of a unit into what came before: o = o_before * before + o_unit * unit.
struct FoldFactors {
  float before, unit;
};
DEVICE FoldFactors fold(Folded& all, float m, float l) {
  const float largest = maximum(all.m, m), reference = reference_of(largest);
  const FoldFactors f = {exp2(all.m - reference), exp2(m - reference)};
  all.l = fma(l, f.unit, all.l * f.before);
  all.m = largest;
  return f;
}
DEVICE float fold(const FoldFactors& f, float before, float unit) { return fma(unit, f.unit, before * f.before); }

// Folds a unit into y; the last one ends with the division by l. Element e % 2 of tile n is column `base` + offset(n,
// e): apart, so that the offsets become part of the instructions.
template <class C, int kTiles, bool kExact, class Offset>
DEVICE void fold_into_y(const Args& args, const TileRows& tile, const RowStates& rows, const float (&o)[kTiles][4],
                        Folded (&folded)[2], bool last, int base, const Offset& offset) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const bool first = folded[half].m == kMinusInfinity;
    const FoldFactors f = fold(folded[half], rows.m[half], rows.l[2 * half]);
    const float end = last ? reciprocal(folded[half].l) : 1.0f;
    if (tile.head[half] < 0) continue;
    float* y =
        static_cast<float*>(args.out[0]) + (i64{tile.token[half]} * C::kHeads + tile.head[half]) * C::kHeadDim + base;
    float before[kTiles][2] = {};
    if (!first) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          if (kExact || base + offset(n, e) < C::kHeadDim) before[n][e] = y[offset(n, e)];
        }
      }
    }
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        if (kExact || base + offset(n, e) < C::kHeadDim)
          y[offset(n, e)] = fold(f, before[n][e], o[n][2 * half + e]) * end;
      }
    }
  }
}

// The partial result of a unit, for whoever folds it.
template <class C>
DEVICE float* partial_of(const Args& args, const AttentionItem& item, int unit, int token, int head) {
  using Shape = AttentionLayout<C>;
  float* all = reinterpret_cast<float*>(static_cast<u8*>(args.workspace) + Shape::kCounterBytes);
  const int slot = item.slot + (unit - item.first_unit) * item.tokens + token;
  return all + (i64{slot} * C::kHeads + head) * Shape::kPartial;
}

// The last block of a tile to come here folds its units, in order, as fold_into_y does.
template <class C>
DEVICE void combine(const Args& args, const AttentionItem& item, int kv_head) {
  using Shape = AttentionLayout<C>;
  SHARED(u32, is_last, 1);
  fence();
  sync_block();
  if (threadIdx.x == 0) {
    u32* counter = static_cast<u32*>(args.workspace) + item.counter * C::kKvHeads + kv_head;
    is_last[0] = atomic_add(counter, 1u) + 1u == static_cast<u32>(item.parts) ? 1u : 0u;
    if (is_last[0] != 0) *counter = 0;
  }
  sync_block();
  const bool mine = is_last[0] != 0;
  sync_block();
  if (!mine) return;
  fence();
  const int values = item.tokens * Shape::kGroup * C::kHeadDim;
  for (int i = static_cast<int>(threadIdx.x); i < values; i += C::kThreads) {
    const int row = i / C::kHeadDim, column = i % C::kHeadDim, token = row / Shape::kGroup;
    const int head = kv_head * Shape::kGroup + row % Shape::kGroup;
    Folded all;
    float sum = 0.0f;
#pragma unroll 4
    for (int u = 0; u < item.units; ++u) {
      const float* p = partial_of<C>(args, item, item.first_unit + u, token, head);
      const float m = load_fresh(p), l = load_fresh(p + 1), o = load_fresh(p + 4 + column);
      const bool first = all.m == kMinusInfinity;
      const FoldFactors f = fold(all, m, l);
      sum = fold(f, first ? 0.0f : sum, o);
    }
    static_cast<float*>(args.out[0])[(i64{item.first_token + token} * C::kHeads + head) * C::kHeadDim + column] =
        sum * reciprocal(all.l);
  }
}

// Where the pages of an item's sequence lie.
template <class C>
struct Pages {
  const u8* cache;
  const int* table;
  int kv_head;
  DEVICE const u8* keys(int page) const {
    return cache + (i64{page} * C::kPlanes + kv_head) * (C::kPageSize * C::kKvRowBytes);
  }
  DEVICE const u8* values(int page) const { return keys(page) + i64{C::kKvHeads} * (C::kPageSize * C::kKvRowBytes); }
};

template <class C>
DEVICE void split_attention(const Args& args, const AttentionItem& item, int kv_head) {
  using Shape = AttentionLayout<C>;
  constexpr int kTiles = Shape::kWarpPieces * Shape::kPiece;
  constexpr bool kWhole = Shape::kPieces % Shape::kWarps == 0 && C::kHeadDim % (8 * Shape::kPiece) == 0;
  constexpr bool kKeysAhead = C::kKvType != kKvF32 || C::kHeadDim <= 128;  // where registers are left
  SHARED(float, maxima, 2 * kAttentionRows * Shape::kWarps);
  SHARED(U32x2, exchanged, 2 * Shape::kWarps * kWarp);
  SHARED(U32x4, queries, Shape::kQuarters * 2 * kWarp);
  const int g = lane() / 4, t = lane() % 4;
  const Pages<C> pages = {static_cast<const u8*>(args.in[1]),
                          static_cast<const int*>(args.in[4]) + i64{item.sequence} * C::kTableColumns, kv_head};
  const int* positions = static_cast<const int*>(args.in[2]);
  const int rows = item.tokens * Shape::kGroup;
  const int base = (8 * warp() + 2 * t) * Shape::kPiece;
  const auto offset = [](int n, int e) {
    return (8 * (n / Shape::kPiece * Shape::kWarps) + e) * Shape::kPiece + n % Shape::kPiece;
  };

#pragma unroll 1
  for (int row = 0; row < rows; row += kAttentionRows) {
    const TileRows tile = load_rows<C>(args, item, kv_head, row, rows);
    const int first_position = positions[item.first_token + row / Shape::kGroup];
    const int last_position = positions[item.first_token + (minimum(row + kAttentionRows, rows) - 1) / Shape::kGroup];
    const int first_seen = first_key<C>(first_position);
    sync_block();
    for (int j = warp(); j < Shape::kQuarters; j += Shape::kWarps) {
      queries[(2 * j) * kWarp + lane()] = load_query<C>(args, tile, 0, j);
      queries[(2 * j + 1) * kWarp + lane()] = load_query<C>(args, tile, 1, j);
    }
    sync_block();
    Folded folded[2];
#pragma unroll 1
    for (int unit = item.unit_begin; unit < item.unit_end; ++unit) {
      RowStates states = empty_rows();
      float o[kTiles][4] = {};
      const int begin = maximum(unit * kUnitPages, tile.first_page);
      const int end = minimum((unit + 1) * kUnitPages, tile.last_page + 1);

      // This warp's keys of the next page are on their way while the page before is computed.
      KvPiece<C, 8> keys[Shape::kQuarters];
      const auto load_keys = [&](int page) {
        const u8* at = pages.keys(page) + (8 * warp() + key_of_slot(g)) * C::kKvRowBytes;
#pragma unroll
        for (int j = 0; j < Shape::kQuarters; ++j) {
          const int element = 32 * j + 8 * t;
          keys[j] = load_kv<C, 8>(at, element, C::kHeadDim % 32 == 0 || element < C::kHeadDim);
        }
      };
      int page = begin < end ? pages.table[begin] : 0;
      if (kKeysAhead && begin < end) load_keys(page);
#pragma unroll 1
      for (int p = begin; p < end; ++p) {
        const int next = p + 1 < end ? pages.table[p + 1] : 0;
        if (!kKeysAhead) load_keys(page);
        KvPiece<C, Shape::kPiece> values[Shape::kWarpPieces][4][2];
        const u8* at = pages.values(page) + t * C::kKvRowBytes;
#pragma unroll
        for (int w = 0; w < Shape::kWarpPieces; ++w) {
          const int element = (8 * (warp() + w * Shape::kWarps) + g) * Shape::kPiece;
#pragma unroll
          for (int group = 0; group < 4; ++group) {
#pragma unroll
            for (int k = 0; k < 2; ++k) {
              values[w][group][k] = load_kv<C, Shape::kPiece>(at + (8 * group + 4 * k) * C::kKvRowBytes, element,
                                                              kWhole || element < C::kHeadDim);
            }
          }
        }

        float s[4] = {};
#pragma unroll
        for (int j = 0; j < Shape::kQuarters; ++j) {
          u32 k[4];
          unpack_kv<C, 8>(keys[j], k);
          add_scores(s, queries[(2 * j) * kWarp + lane()], queries[(2 * j + 1) * kWarp + lane()],
                     {k[0], k[1], k[2], k[3]});
        }
        if (kKeysAhead && p + 1 < end) load_keys(next);
        page = next;
        mask<C>(tile, p * C::kPageSize + 8 * warp() + t, s);

        // The largest score of the page and the weights go round the block; two buffers, so that one barrier each does.
        float* page_maxima = maxima + p % 2 * (kAttentionRows * Shape::kWarps);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float largest = warp_max<4>(maximum(s[2 * half], s[2 * half + 1]));
          if (t == 0) page_maxima[(g + 8 * half) * Shape::kWarps + warp()] = largest;
        }
        sync_block();
        float largest[2], scale[2], reference[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float* of_row = page_maxima + (g + 8 * half) * Shape::kWarps;
          largest[half] = of_row[0];
#pragma unroll
          for (int w = 1; w < Shape::kWarps; ++w) largest[half] = maximum(largest[half], of_row[w]);
        }
        raise(states, largest, scale, reference);
        U32x2* page_weights = exchanged + p % 2 * (Shape::kWarps * kWarp);
        page_weights[warp() * kWarp + lane()] = weights(s, reference);
        rescale<kTiles>(scale, states, o);
        sync_block();
        // 0 times what nobody wrote, or what another sequence did, could be NaN.
        const bool edge = p * C::kPageSize < first_seen || (p + 1) * C::kPageSize - 1 > last_position;
#pragma unroll
        for (int group = 0; group < 4; ++group) {
          const U32x2 a = page_weights[group * kWarp + lane()];
          mma_m16n8k8_f16(states.l, a.x, a.y, 0x3c003c00u);
#pragma unroll
          for (int w = 0; w < Shape::kWarpPieces; ++w) {
            u32 low[Shape::kPiece / 2], high[Shape::kPiece / 2];
            unpack_kv<C, Shape::kPiece>(values[w][group][0], low);
            unpack_kv<C, Shape::kPiece>(values[w][group][1], high);
            if (edge) {
              const int position = p * C::kPageSize + 8 * group + t;
#pragma unroll
              for (int i = 0; i < Shape::kPiece / 2; ++i) {
                if (position < first_seen || position > last_position) low[i] = 0;
                if (position + 4 < first_seen || position + 4 > last_position) high[i] = 0;
              }
            }
#pragma unroll
            for (int i = 0; i < Shape::kPiece; ++i) {
              const u32 b = permute_bytes(low[i / 2], high[i / 2], i % 2 == 0 ? 0x5410u : 0x7632u);
              mma_m16n8k8_f16(o[w * Shape::kPiece + i], a.x, a.y, b);
            }
          }
        }
      }

      if (item.parts == 1) {
        fold_into_y<C, kTiles, kWhole>(args, tile, states, o, folded, unit + 1 == item.unit_end, base, offset);
      } else {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int r = row + g + 8 * half;
          if (r >= rows) continue;
          float* partial =
              partial_of<C>(args, item, unit, r / Shape::kGroup, kv_head * Shape::kGroup + r % Shape::kGroup);
          if (warp() == 0 && t == 0) partial[0] = states.m[half], partial[1] = states.l[2 * half];
#pragma unroll
          for (int n = 0; n < kTiles; ++n) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              if (kWhole || base + offset(n, e) < C::kHeadDim) partial[4 + base + offset(n, e)] = o[n][2 * half + e];
            }
          }
        }
      }
    }
  }
  if (item.parts > 1) combine<C>(args, item, kv_head);
}

template <class C>
DEVICE void shared_attention(const Args& args, const AttentionItem& item, int kv_head) {
  using Shape = AttentionLayout<C>;
  constexpr int kTiles = Shape::kColumnTiles, kChunks = C::kHeadDim / 8;
  constexpr int kLoads = (C::kPageSize * kChunks + C::kThreads - 1) / C::kThreads;
  constexpr bool kEven = C::kPageSize * kChunks % C::kThreads == 0;
  constexpr bool kQueriesInRegisters = C::kHeadDim <= 128;
  SHARED(U32x4, queries, kQueriesInRegisters ? 1 : Shape::kWarps / Shape::kColumnWarps * Shape::kQuarters * 2 * kWarp);
  u8* const keys = static_cast<u8*>(dynamic_shared());
  u8* const values = keys + C::kPageSize * Shape::kKeyStride;
  const int g = lane() / 4, t = lane() % 4;
  const int row_warp = warp() / Shape::kColumnWarps, first_tile = warp() % Shape::kColumnWarps * kTiles;
  const Pages<C> pages = {static_cast<const u8*>(args.in[1]),
                          static_cast<const int*>(args.in[4]) + i64{item.sequence} * C::kTableColumns, kv_head};
  const int* positions = static_cast<const int*>(args.in[2]);
  const int rows = item.tokens * Shape::kGroup;
  const int base = 8 * first_tile + 2 * t;
  const auto offset = [](int n, int e) { return 8 * n + e; };

  // What the padding of keys holds must not be NaN: q is 0 there.
  if constexpr (kChunks < 4 * Shape::kQuarters) {
    constexpr int kPadding = 4 * Shape::kQuarters - kChunks;
    for (int i = static_cast<int>(threadIdx.x); i < C::kPageSize * kPadding; i += C::kThreads) {
      *reinterpret_cast<U32x4*>(keys + i / kPadding * Shape::kKeyStride + (kChunks + i % kPadding) * 16) = {};
    }
  }

#pragma unroll 1
  for (int row = 0; row < rows; row += Shape::kRows) {
    const TileRows tile = load_rows<C>(args, item, kv_head, row + row_warp * kAttentionRows, rows);
    // Warps that share rows write the same queries.
    U32x4* const mine = queries + row_warp * (Shape::kQuarters * 2 * kWarp) + lane();
    U32x4 q[kQueriesInRegisters ? Shape::kQuarters : 1][2];
#pragma unroll
    for (int j = 0; j < Shape::kQuarters; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const U32x4 loaded = load_query<C>(args, tile, half, j);
        if constexpr (kQueriesInRegisters) {
          q[j][half] = loaded;
        } else {
          mine[(2 * j + half) * kWarp] = loaded;
        }
      }
    }
    const int first_position = positions[item.first_token + row / Shape::kGroup];
    const int last_position = positions[item.first_token + (minimum(row + Shape::kRows, rows) - 1) / Shape::kGroup];
    const int first_seen = first_key<C>(first_position);

    // What waits in registers, keys and values in turn: this thread's part of half a page, chunks of 8 elements. Where
    // a round of the block takes whole rows, chunks differ by constants.
    KvPiece<C, 8> waiting[kLoads];
    constexpr bool kWholeRows = C::kThreads % kChunks == 0;
    const auto key_of = [](int i) {
      const int thread = static_cast<int>(threadIdx.x);
      return kWholeRows ? thread / kChunks + i * (C::kThreads / kChunks) : (thread + i * C::kThreads) / kChunks;
    };
    const auto chunk_of = [](int i) {
      const int thread = static_cast<int>(threadIdx.x);
      return kWholeRows ? thread % kChunks : (thread + i * C::kThreads) % kChunks;
    };
    const auto load_half = [&](const u8* half) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        waiting[i] =
            load_kv<C, 8>(half + key_of(i) * C::kKvRowBytes, chunk_of(i) * 8, kEven || key_of(i) < C::kPageSize);
      }
    };
    const auto store_keys = [&] {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        u32 k[4];
        unpack_kv<C, 8>(waiting[i], k);
        if (!kEven && key_of(i) >= C::kPageSize) continue;
        *reinterpret_cast<U32x4*>(keys + key_of(i) * Shape::kKeyStride + chunk_of(i) * 16) = {k[0], k[1], k[2], k[3]};
      }
    };
    const auto store_values = [&](int p) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        u32 v[4];
        unpack_kv<C, 8>(waiting[i], v);
        if (!kEven && key_of(i) >= C::kPageSize) continue;
        // 0 times what nobody wrote, or what another sequence did, could be NaN.
        const int position = p * C::kPageSize + key_of(i);
        const bool seen = position >= first_seen && position <= last_position;
#pragma unroll
        for (int w = 0; w < 4; ++w) v[w] = seen ? v[w] : 0;
        *reinterpret_cast<U32x4*>(values + key_of(i) * Shape::kValueStride + chunk_of(i) * 16) = {v[0], v[1], v[2],
                                                                                                  v[3]};
      }
    };

    Folded folded[2];
    const int first_page = first_seen / C::kPageSize, last_page = last_position / C::kPageSize;
    int page = pages.table[maximum(item.unit_begin * kUnitPages, first_page)];
    load_half(pages.keys(page));
    store_keys();
    sync_block();
#pragma unroll 1
    for (int unit = item.unit_begin; unit < item.unit_end; ++unit) {
      RowStates states = empty_rows();
      float o[kTiles][4] = {};
      const int begin = maximum(unit * kUnitPages, first_page);
      const int end = minimum((unit + 1) * kUnitPages, last_page + 1);
#pragma unroll 1
      for (int p = begin; p < end; ++p) {
        const bool sees = p <= tile.last_page && p >= tile.first_page;  // the whole warp
        load_half(pages.values(page));
        float s[4][4] = {};
#pragma unroll
        for (int group = 0; group < 4; ++group) {
          if (!sees) break;
          const u8* at = keys + (8 * group + key_of_slot(g)) * Shape::kKeyStride + 16 * t;
#pragma unroll(kQueriesInRegisters ? Shape::kQuarters : 1)
          for (int j = 0; j < Shape::kQuarters; ++j) {
            const U32x4 k = *reinterpret_cast<const U32x4*>(at + 64 * j);
            if constexpr (kQueriesInRegisters) {
              add_scores(s[group], q[j][0], q[j][1], k);
            } else {
              add_scores(s[group], mine[2 * j * kWarp], mine[(2 * j + 1) * kWarp], k);
            }
          }
          mask<C>(tile, p * C::kPageSize + 8 * group + t, s[group]);
        }
        store_values(p);
        sync_block();
        // Everybody has done with these keys.
        if (p < last_page) {
          page = pages.table[p + 1];
          load_half(pages.keys(page));
        }
        if (sees) {
          float largest[2], scale[2], reference[2];
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            float m = maximum(s[0][2 * half], s[0][2 * half + 1]);
#pragma unroll
            for (int group = 1; group < 4; ++group) {
              m = maximum(m, maximum(s[group][2 * half], s[group][2 * half + 1]));
            }
            largest[half] = warp_max<4>(m);
          }
          raise(states, largest, scale, reference);
          rescale<kTiles>(scale, states, o);
#pragma unroll
          for (int group = 0; group < 4; ++group) {
            const U32x2 a = weights(s[group], reference);
            mma_m16n8k8_f16(states.l, a.x, a.y, 0x3c003c00u);
            // Lane i gives the address of slot i % 8 of the group, in column tile i / 8 of four.
            const u8* at = values + (8 * group + key_of_slot(lane() % 8)) * Shape::kValueStride;
#pragma unroll
            for (int n = 0; n < kTiles; n += 4) {
              u32 b[4];
              const int own = first_tile + n + lane() / 8;
              load_matrix_x4_transposed(b, at + minimum(own, kChunks - 1) * 16);
#pragma unroll
              for (int i = 0; i < 4; ++i) {
                if (n + i < kTiles) mma_m16n8k8_f16(o[n + i], a.x, a.y, b[i]);
              }
            }
          }
        }
        if (p < last_page) store_keys();
        sync_block();
      }
      // Warps that share rows write different columns.
      fold_into_y<C, kTiles, kTiles * Shape::kColumnWarps == kChunks>(args, tile, states, o, folded,
                                                                      unit + 1 == item.unit_end, base, offset);
    }
    sync_block();
  }
}

// Dynamic shared memory: a page of keys and of values at their strides, where kSharedPages.
// Grid: (as many blocks as fit at once); they take (item, KV head) in turn.
template <class C>
__device__ void attention(const Args& args) {
  const AttentionItem* items = static_cast<const AttentionItem*>(args.work);
  const int count = args.step->work_items * C::kKvHeads;
  for (int i = static_cast<int>(blockIdx.x); i < count; i += static_cast<int>(gridDim.x)) {
    // Not copied: what a piece needs but once should not wait in registers.
    const AttentionItem& item = items[i / C::kKvHeads];
    const int kv_head = i % C::kKvHeads;
    if constexpr (C::kSharedPages != 0) {
      if (item.tokens > 1 && item.tokens * AttentionLayout<C>::kGroup > kAttentionRows) {
        shared_attention<C>(args, item, kv_head);
        continue;
      }
    }
    split_attention<C>(args, item, kv_head);
    sync_block();
  }
}

}  // namespace ll::cuda
