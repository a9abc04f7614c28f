// Prompts: panels of kX16 whose weights are rounded anew, to one scale for 512 of a row, so that products of any format
// are those of bytes and sums are scaled once in 512 k: on int8 tiles, whose sums leave the tile unit then, or with
// VNNI in registers of 16 lanes; both have the same bits. The rounding adds about as much error as that of the
// activations (docs/decisions/0012-requantized-prompts.md). Include as x16_product.h, whose words and tiles these are.
//
// For row r and 512 k, with f and low of each group of weights (value = f * code + low) and D the largest |value| that
// the codes of any group can make:
//   scale   D / 127, f32
//   weight  (code * nearest(256 f / scale) + nearest(256 low / scale) + 128) >> 8, or where codes have 8 bits
//           (mulhrs(256 code, nearest(32767 f / scale)) + 128) >> 8: the nearest integer to value / scale, or in rare
//           cases its neighbour; -128 .. 127
// Tokens have one scale for 512 already where they come in slabs (kernels/quant/q8a_slabs.h); else they get it here,
// the largest of those they have, and codes by mulhrs too.
#pragma once

#include "kernels/cpu/x16_tiles.h"

namespace ll {
namespace {

// 512 k of a panel.
struct X16Requantized {
  static constexpr int64_t kK = 512, kCodeBytes = 16 * kK, kBytes = kCodeBytes + 64;
  static int64_t bytes(int64_t k) { return (k + kK - 1) / kK * kBytes; }

  explicit X16Requantized(std::byte* block) : codes(block), scale(reinterpret_cast<float*>(codes + kCodeBytes)) {}

  std::byte* codes;  // int8[8][16][16][4]
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
  const int64_t count = k / F.elements, first = part.begin / X16Requantized::kK;
  const int64_t end = (part.end + X16Requantized::kK - 1) / X16Requantized::kK;
  constexpr int64_t kBlockBytes = X16Requantized::kK / F.elements * F.block_bytes();
  // Blocks so far ahead, in the end those of the next panel, are asked for a few lines at a time, and its heads at
  // once.
  constexpr int64_t kAhead = 2;
  const int64_t panel_bytes = count * (F.head_bytes() + F.block_bytes());
  const int64_t to_next_panel = panel_bytes - (end - first - std::min(kAhead, end - first)) * kBlockBytes;
  const std::byte* const next_heads = F.head(panel + panel_bytes, part.begin / F.elements);
  for (int64_t i = 0; i < (part.end - part.begin) / F.elements * F.head_bytes(); i += 64) {
    __builtin_prefetch(next_heads + i, 0, 2);
  }
  const auto number = [](float v) __attribute__((always_inline)) { return W::broadcast(&v); };
  const Floats zero = number(static_cast<float>(F.zero)), most = number(static_cast<float>(kMost)),
               least = number(static_cast<float>(kLeast));
  for (int64_t b = first; b < end; ++b) {
    const X16Requantized to(scratch + (b - first) * panels * X16Requantized::kBytes);
    // Of each 256: where they are, sub-blocks, and what groups of weights are multiplied with and begin at.
    const std::byte *block[2], *head[2];
    int subs[2];
    const int64_t ahead = b + kAhead < end ? kAhead * kBlockBytes : to_next_panel;
    Floats factor[2][kGroups], low[2][kGroups], largest = W::float_zeros(), all = W::float_zeros();
    for (int h = 0; h < 2; ++h) {
      const int64_t at = (2 * b + h) * (F.group == 0 ? 8 : 1);  // in blocks
      block[h] = F.block(panel, count, at);
      head[h] = F.head(panel, at);
      subs[h] = static_cast<int>(std::clamp<int64_t>(k / 32 - 16 * b - 8 * h, 0, 8));
      const auto bound = [&](int j) __attribute__((always_inline)) {
        const Floats top = W::magnitude(W::fma(factor[h][j], most, low[h][j]));
        largest = W::largest(W::largest(largest, top), W::magnitude(W::fma(factor[h][j], least, low[h][j])));
        all = W::fma(top, number(0), all);
      };
      if constexpr (F.group == 0) {
        for (int j = 0; j < subs[h] * F.groups_per_sub(); ++j) {
          const std::byte* const of = head[h] + j * F.head_bytes();
          factor[h][j] = W::halves(of);
          low[h][j] = W::fnma(factor[h][j], zero, F.min ? W::halves(of + 32) : W::float_zeros());
          bound(j);
        }
      } else if (subs[h] > 0) {
        const Floats d = W::halves(head[h]);
#pragma GCC unroll 16
        for (int j = 0; j < kGroups; ++j) {
          factor[h][j] = W::mul(W::floats(x16_scale<W, F>(block[h], head[h], 0, j)), d);
          low[h][j] = W::fnma(factor[h][j], zero, W::float_zeros());
          if constexpr (F.min) {
            low[h][j] = W::fnma(W::floats(x16_min<W, F>(block[h], 0, j)), W::halves(head[h] + 32), low[h][j]);
          }
          bound(j);
        }
      }
    }
    W::store(to.scale, W::fma(largest, number(1.0F / 127), all));  // not a number where a weight is not finite
    const Floats to_codes = W::quotient_or_zero(number(127), largest);
    for (int i = 0; i < 16; ++i) {
      const int h = i / 8, s = i % 8;
      std::byte* const tile = to.codes + 512 * i;
      if (s >= subs[h]) {
        // A product is of 256 k or of 512.
        if (subs[h] > 0) std::memset(tile, 0, 512);
        continue;
      }
      const std::byte* const asked = block[h] + ahead + s * (kBlockBytes / 16);
      for (int64_t j = 0; j < kBlockBytes / 16; j += 64) __builtin_prefetch(asked + j, 0, 2);
      const std::byte* sub = block[h] + F.scale_bytes() + s * (F.group == 0 ? F.block_bytes() : F.sub_bytes());
      for (int g = 0; g < F.groups_per_sub(); ++g) {
        const int j = s * F.groups_per_sub() + g;
        const Floats f = W::mul(factor[h][j], to_codes);
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
              x16_twice<W>(W::add32(W::nearest(W::mul(W::mul(low[h][j], to_codes), number(256))), W::set(128)));
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
  }
}

// Behind the codes.
inline float* x16_token_scales(std::byte* arranged, int64_t k) {  // [k / 512, rounded up][kTileTokens]
  return reinterpret_cast<float*>(arranged + x16_code_bytes(k));
}

// Fractions of the largest of 16 scales, in both halves of each lane; the largest, or what is not finite.
template <class W>
inline __attribute__((always_inline)) float x16_fractions(const float* scales, int32_t* fractions) {
  float largest[8], all[8];
  for (int i = 0; i < 8; ++i) {
    largest[i] = std::max(scales[i], scales[i + 8]), all[i] = scales[i] + scales[i + 8];
  }
  for (int n = 4; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) largest[i] = std::max(largest[i], largest[i + n]), all[i] += all[i + n];
  }
  const float to_codes = largest[0] > 0 ? 32767 / largest[0] : 0;
  // Of what is not finite anything: its codes are 0.
  const typename W::Floats of_largest = W::mul(W::load_floats(scales), W::broadcast(&to_codes));
  W::store(reinterpret_cast<std::byte*>(fractions), x16_twice<W>(W::nearest(of_largest)));
  return all[0] - all[0] == 0 ? largest[0] : all[0];
}

// Tokens of q8a or q8a256: both have scales for each 32.
template <class W>
void x16_arrange_512(const DotTokens& x, int64_t tokens, int64_t k, std::byte* arranged) {
  float* scales = x16_token_scales(arranged, k);
  for (int64_t first = 0; first < tokens; first += 16) {
    const std::byte* const rows = x.rows + first * x.row_bytes;
    for (int64_t b = 0; b * X16Requantized::kK < k; ++b) {
      const int64_t subs = std::min<int64_t>(16, k / 32 - 16 * b);
      alignas(64) int32_t by[16][16];
      for (int t = 0; t < 16; ++t) {
        alignas(64) float of_32[16] = {};
        std::memcpy(of_32, rows + t * x.row_bytes + k + 64 * b, static_cast<size_t>(4 * subs));
        scales[kTileTokens * b + first + t] = x16_fractions<W>(of_32, by[t]);
      }
      for (int64_t s = 0; s < (subs + 7) / 8 * 8; s += 2) {
        std::byte* const to = arranged + (2 * b + s / 8) * kTileCodes + 32 * (s % 8) * kTileTokens + 64 * first;
        const std::byte* const from = rows + X16Requantized::kK * b + 32 * s;
        typename W::Ints row[16];  // at once: loads that follow stores 4 KB apart would wait for them
#pragma GCC unroll 16
        for (int t = 0; t < 16; ++t) {
          typename W::Ints codes = W::zeros();
          if (s + 2 <= subs) codes = W::load(from + t * x.row_bytes);
          if (s + 1 == subs) codes = W::load_low(from + t * x.row_bytes);
          row[t] = x16_scaled_bytes<W>(codes, W::two_halves(by[t] + s));
        }
#pragma GCC unroll 16
        for (int t = 0; t < 16; ++t) W::store(to + 64 * t, row[t]);
      }
    }
  }
}

// kPanels panels side by side, as block_products knows pieces of one.
template <int kPanels>
struct X16RequantizedPanels {
  static constexpr bool kUnsigned = false, kReadAtOnce = false;
  static constexpr int kPieces = kPanels, kSums = kPanels;
  static constexpr int64_t kPieceBytes = X16Requantized::kBytes, kStepBytes = 1024, kSumBytes = 0;
};

// What sums of 512 k become: `to`, or 0 where these are the first, + sum * scale * x_scale.
template <class W>
inline __attribute__((always_inline)) void x16_add_scaled(typename W::Ints sum, typename W::Floats scale,
                                                          const float* x_scale, bool first, float* to) {
  W::store(to, W::fma(W::mul(W::floats(sum), scale), W::broadcast(x_scale), W::load_unless(first, to)));
}

// What scales sums of a block's kPanels panels and 16 * kTiles tokens.
template <class W, int kTiles, int kPanels>
struct X16RequantizedScales {
  using Floats = typename W::Floats;
  using Sums = TilesPending::Sums;
  static constexpr int kTokens = 16 * kTiles;

  explicit __attribute__((always_inline)) X16RequantizedScales(const Sums& of) {
    for (int n = 0; n < kPanels; ++n) scale[n] = W::load_floats(of.w_scale + n * (X16Requantized::kBytes / 4));
  }
  // Those of panel n and token t of a tile.
  inline __attribute__((always_inline)) void add(const Sums& of, int n, int tile, int t) const {
    float* const to = of.out + 16 * (n * kTileTokens + 16 * tile + t);
    const typename W::Ints sum = W::load(of.sums + 64 * (16 * (tile * kPanels + n) + t));
    x16_add_scaled<W>(sum, scale[n], of.x_scale + 16 * tile + t, of.first, to);
  }
  // Two of the kPanels * kTokens, from i on.
  inline __attribute__((always_inline)) void add_two(const Sums& of, int i) const {
    for (int t = 0; t < 2; ++t) add(of, i / kTokens, i % kTokens / 16, i % 16 + t);
  }

  Floats scale[kPanels];
};

// TilesPending::end.
template <class W, int kTiles, int kPanels>
void x16_requantized_end(TilesPending& pending) {
  int32_t* const last = pending.sums[pending.turn];
  W::template block_end<X16RequantizedPanels<kPanels>, kTiles>(last);
  W::tiles_end();
  pending.held.sums = reinterpret_cast<const std::byte*>(last);
  for (const TilesPending::Sums& of : {pending.stored, pending.held}) {
    if (of.out == nullptr) continue;
    const X16RequantizedScales<W, kTiles, kPanels> scales(of);
    for (int i = 0; i < kPanels * scales.kTokens; i += 2) scales.add_two(of, i);
  }
  pending.stored = pending.held = {};
  pending.end = nullptr;
}

// Panels from `panel` on, kPanels at a time, times 16 * kTiles tokens: 512 k of the tokens meet all panels while they
// are in the L1 cache. The sums of a block stay in the tile unit until the next block's products take their places, and
// wait in `pending` for those of the one after it, between which they are scaled; so do those of the last two blocks,
// for the next tokens.
template <class W, int kTiles, int kPanels>
void x16_requantized_tiles_of(const std::byte* unpacked, int64_t panel, int64_t end_panel, int64_t panels, Range part,
                              const TileTokens& x, const float* x_scales, float* out, TilesPending& pending) {
  using Panels = X16RequantizedPanels<kPanels>;
  using Scales = X16RequantizedScales<W, kTiles, kPanels>;
  using Sums = TilesPending::Sums;
  const auto end_fn = x16_requantized_end<W, kTiles, kPanels>;
  if (pending.end != end_fn) {
    if (pending.end != nullptr) pending.end(pending);
    W::tiles_begin(64);
    pending.end = end_fn;
  }
  Sums stored = pending.stored, held = pending.held;
  int turn = pending.turn;
  const auto nothing = [](auto) {};
  constexpr int64_t kK = X16Requantized::kK;
  const int64_t first = part.begin / kK, end = (part.end + kK - 1) / kK;
  for (int64_t b = first; b < end; ++b) {
    const std::byte* const codes = x.arranged + 2 * b * kTileCodes;
    const bool whole = part.end - b * kK > 256;  // else of 256 k
    // The next block of these tokens, or the first of the next ones.
    const std::byte* const next = b + 1 < end ? codes + 2 * kTileCodes : x.next + 2 * first * kTileCodes;
    for (int64_t p = panel; p < end_panel; p += kPanels, turn ^= 1) {
      x16_ask_codes(next, 2 * kTileCodes, p / kPanels, (panels + kPanels - 1) / kPanels);
      const X16Requantized w(const_cast<std::byte*>(unpacked) + ((b - first) * panels + p) * X16Requantized::kBytes);
      const std::byte* const more = w.codes + X16Requantized::kCodeBytes / 2;
      int32_t* const to = pending.sums[turn];  // for the sums of the block before
      if (stored.out == nullptr) {
        W::template block_products<Panels, kTiles>(codes, nullptr, w.codes, nullptr, to, nullptr, nothing);
        if (whole) W::template block_more<Panels, kTiles>(codes + kTileCodes, more, nothing);
      } else {
        // Sums of the block before the last are scaled between products, two rows after each of 512 k.
        const Sums of = stored;
        const Scales scales(of);
        if (whole) {
          W::template block_products<Panels, kTiles>(
              codes, nullptr, w.codes, nullptr, to, nullptr,
              [ scales, of ](auto product) __attribute__((always_inline)) { scales.add_two(of, 2 * product()); });
          W::template block_more<Panels, kTiles>(
              codes + kTileCodes, more, [ scales, of ](auto product) __attribute__((always_inline)) {
                scales.add_two(of, 8 * kTiles * kPanels + 2 * product());
              });
        } else {
          W::template block_products<Panels, kTiles>(
              codes, nullptr, w.codes, nullptr, to, nullptr,
              [ scales, of ](auto product) __attribute__((always_inline)) {
                scales.add_two(of, 4 * product());
                scales.add_two(of, 4 * product() + 2);
              });
        }
      }
      stored = held;
      stored.sums = reinterpret_cast<const std::byte*>(to);
      held = {w.scale, x_scales + kTileTokens * b, nullptr, out + 16 * kTileTokens * p, b == 0};
    }
  }
  pending.stored = stored, pending.held = held, pending.turn = turn;
  // Tokens before these are done where these have two blocks.
  if ((end - first) * (end_panel - panel) < 2 * kPanels) pending.end(pending);
}

template <class W>
void x16_requantized_tiles(const std::byte* unpacked, int64_t panels, int64_t k, Range part, const TileTokens& x,
                           float* out, TilesPending& pending) {
  const float* const x_scales = x16_token_scales(const_cast<std::byte*>(x.arranged), k);
  const auto multiply = [&]<int kTiles, int kPanels>(int64_t from, int64_t to) {
    x16_requantized_tiles_of<W, kTiles, kPanels>(unpacked, from, to, panels, part, x, x_scales, out, pending);
  };
  const int64_t pairs = panels / 2 * 2;
  if (x.count == kTileTokens) {
    if (pairs > 0) multiply.template operator()<2, 2>(0, pairs);
    if (pairs < panels) multiply.template operator()<2, 1>(pairs, panels);
  } else {
    if (pairs > 0) multiply.template operator()<1, 2>(0, pairs);
    if (pairs < panels) multiply.template operator()<1, 1>(pairs, panels);
  }
}

// Sums of 64 * count codes of a token, 64 of them every 64 * kTileTokens bytes.
template <class W>
inline __attribute__((always_inline)) int32_t x16_token_sum(const std::byte* codes, int count) {
  typename W::Ints sum = W::zeros();
  for (int i = 0; i < count; ++i) {
    sum = W::dot(sum, W::set(0x01010101), W::load(codes + 64 * kTileTokens * i));
  }
  alignas(64) int32_t lanes[16];
  W::store(reinterpret_cast<std::byte*>(lanes), sum);
  int32_t all = 0;
  for (const int32_t lane : lanes) all += lane;
  return all;
}

// 64 * count k of kPanels panels, X16Requantized one after the other, times kTokens tokens:
// out[panel][kTileTokens][16], added to but by the `first`. begin[t] is what sums of token t begin with: -128 times
// that of its codes, since codes of weights become unsigned here.
template <class W, int kPanels, int kTokens>
inline __attribute__((always_inline)) void x16_requantized_dot(std::byte* panels, int count, const std::byte* x,
                                                               const float* x_scales, const int32_t* begin, bool first,
                                                               float* out) {
  using Ints = typename W::Ints;
  Ints sum[kPanels][kTokens];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
    for (int n = 0; n < kPanels; ++n) sum[n][t] = W::set(begin[t]);
  }
  for (int i = 0; i < count; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < 16; ++j) {
      Ints w[kPanels];
#pragma GCC unroll 2
      for (int n = 0; n < kPanels; ++n) {
        const std::byte* const codes = X16Requantized(panels + n * X16Requantized::kBytes).codes;
        w[n] = W::subtract8(W::load(codes + 1024 * i + 64 * j), W::set(static_cast<int32_t>(0x80808080u)));
      }
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        const Ints token = W::broadcast4(x + 64 * kTileTokens * i + 64 * t + 4 * j);
#pragma GCC unroll 2
        for (int n = 0; n < kPanels; ++n) sum[n][t] = W::pin(W::dot(sum[n][t], w[n], token));
      }
    }
  }
#pragma GCC unroll 2
  for (int n = 0; n < kPanels; ++n) {
    const typename W::Floats scale = W::load_floats(X16Requantized(panels + n * X16Requantized::kBytes).scale);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      x16_add_scaled<W>(sum[n][t], scale, x_scales + t, first, out + 16 * (n * kTileTokens + t));
    }
  }
}

// TilesFn of levels without tiles: the bits of x16_requantized_tiles.
template <class W>
void x16_requantized_dots(const std::byte* unpacked, int64_t panels, int64_t k, Range part, const TileTokens& x,
                          float* out, TilesPending&) {
  constexpr int64_t kK = X16Requantized::kK;
  constexpr int kTokens = 8;
  const float* const x_scales = x16_token_scales(const_cast<std::byte*>(x.arranged), k);
  const int64_t first = part.begin / kK, end = (part.end + kK - 1) / kK;
  for (int64_t b = first; b < end; ++b) {
    const std::byte* const codes = x.arranged + 2 * b * kTileCodes;
    const int count = part.end - b * kK > 256 ? 8 : 4;
    int32_t begin[kTileTokens];
    for (int64_t t = 0; t < x.count; ++t) begin[t] = -128 * x16_token_sum<W>(codes + 64 * t, count);
    std::byte* const of_block = const_cast<std::byte*>(unpacked) + (b - first) * panels * X16Requantized::kBytes;
    const auto multiply = [&]<int kPanels>(int64_t p) {
      for (int64_t t = 0; t < x.count; t += kTokens) {
        x16_requantized_dot<W, kPanels, kTokens>(of_block + p * X16Requantized::kBytes, count, codes + 64 * t,
                                                 x_scales + kTileTokens * b + t, begin + t, b == 0,
                                                 out + 16 * (kTileTokens * p + t));
      }
    };
    for (int64_t p = 0; p + 2 <= panels; p += 2) multiply.template operator()<2>(p);
    if (panels % 2 != 0) multiply.template operator()<1>(panels - 1);
  }
}

}  // namespace
}  // namespace ll
