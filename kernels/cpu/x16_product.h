// Panels of kX16 (kernels/quant/layouts.h) times q8a tokens for levels with a four-byte dot product (VNNI): written
// once over the words of a level, instantiated for each format. From 16 tokens on levels with int8 tiles (AMX) have
// x16_tiles.h, and from 64 on levels of 16 lanes have x16_requantized.h, over the same words; x16_dots.h makes a
// level's table of all. Include only from kernels/cpu/LEVEL/ and from tests, once a file; everything has internal
// linkage.
//
// Words W of a level (kernels/cpu/avx512/words.h; in plain C++ kernels/cpu/plain_words_test.h):
//   kLanes                        32-bit lanes of a register, 8 or 16: a row of the panel each
//   Ints, Floats                  a register
//   load(p)                       4 * kLanes bytes, p aligned to 32
//   set(i), broadcast4(p), zeros()   one integer, the 4 bytes at p, or 0 in each lane
//   load_unless(zeros, p)         load_floats(p), or zeros (of 16 lanes)
//   pin(v)                        v; keeps the order of the source: without it the compiler makes one chain a token of
//                                 what can run side by side. By value: pinned where it lies, an array stays in memory
//   dot(sum, u, x)                sum + the four products of u's unsigned and x's signed bytes of each lane
//   bits(v, from, count, to)      bits [from, from + count) of every byte, moved to bit `to`
//   either(a, b), subtract8(a, b), subtract32(a, b)
//   lookup(u, table)              table[u] for every byte
//   unsigned_bytes(p), signed_bytes(p)   kLanes bytes, one a lane
//   floats(i), halves(p)          converted; kLanes f16
//   fma(a, b, c), fnma(a, b, c), mul(a, b), broadcast(p), float_zeros(), load_floats(p), store(p, v)
//   add32(a, b), mul32(a, b), shift_left32(v, n), shift_right32_signed(v, n), shift_left16(v, n)
//   dot16(sum, a, b)              sum + the two products of 16-bit halves of each lane
//   unpack_scales(p, to)          scales and minima of a block packed as kQ4K, 16 rows each, as bytes: scales of its 8
//                                 groups, then their minima; `to` aligned to 32
// of 16 lanes moreover, on the 16-bit halves of each lane:
//   products16(a, b)              dot16 without a sum
//   mul16(a, b), subtract16(a, b), shift_right16(v, n) unsigned, shift_right16_signed(v, n), both(a, b) their common
//   bits
//   shift_right32(v, n) unsigned, float_bits(f) the same bits as integers, from_bits(v) the other way
//   load_low(p)                   32 bytes and zeros
//   signed_halves(p)              16 int16, one a lane
//   add16(a, b), add16_saturated(a, b) signed, mulhrs16(a, b) (a * b + 2^14) >> 15, signed
//   two_halves(p)                 the first of two int32 in lanes 0 .. 7, the second in the others
//   nearest(f)                    integers, halves to even; what is none is -2^31
//   magnitude(f), largest(a, b)   a where one is NaN
//   kFloatSums                    if there: groups' sums are scaled as floats where that is exact, because mul32 keeps
//                                 dot from its port
//   quotient_or_zero(a, b)        a / b, 0 where b is not 2^-100 .. 2^100
// and of a level with tiles (kLanes 16):
//   tiles_begin(k), tiles_end()   this thread multiplies tiles of k (32 or 64) from here to there
//   tile_product(x, w, out)       tiles of 32 k: out[t][r] = sum over i < 32 of x[t][i] * w[i / 4][r][i % 4], all
//                                 signed bytes, x rows of 64 bytes, out int32[16][16], t, r < 16
//   tile_products(x, w, out, between)   eight of them: x[4][kTileTokens][2][32], w[8][8][16][4], out
//                                 int32[8][16][16]; calls between(i), i < 8, after each
//   block_products<Blocks, tiles>(x, x_sums, w, w_mins, before, out, between)
//                                 with pieces and signs of Blocks (X16Blocks, X16RequantizedPanels), tiles of 64 k:
//                                 sums[i][p][t][r] = sum over j < 256 of x[j / 64][i][t][j % 64] * w[j / 64][p][j % 64
//                                 / 4][r][j % 4], p < pieces, the first two dimensions of w kStepBytes and kPieceBytes
//                                 apart, and for formats with minima, in f32, sums[i][pieces][t][r] = sum over j < 32
//                                 of x_sums[i][t][j] * w_mins[j / 2][r][j % 2], bf16, rows of x_sums kSumBytes apart:
//                                 all exact. Those of codes stay with the tile unit and those of minima go to `out`,
//                                 int32 or f32 [tiles][kSums][16][16]. What codes left there before goes to `before` at
//                                 first; then between(i), i < 4 * pieces * tiles as an integral_constant, is called
//                                 after each product, which may read `before` where Blocks::kReadAtOnce. Without
//                                 minima x_sums, w_mins and `out` are not used
//   block_more<Blocks, tiles>(x, w, between)   products of 256 k more, added to those that stay with the tile unit
//   block_end<Blocks, tiles>(out) sums of codes of the last block go to `out`
//
// Every level gives the same bits, but for requantized weights: sums over a block are exact integers, and everything
// after that is done lane by lane in the order of add_plain and add_block (kernels/cpu/avx2/linear_x16.h).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/avx2/linear_dots.h"
#include "kernels/cpu/x16_format.h"
#include "kernels/cpu/x16_step.h"
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

// The same times 16 for units 4 to 7 of codes of four bits alone, which lie in the upper half of bytes: it is left
// there.
template <class W, X16Format F>
inline __attribute__((always_inline)) typename W::Ints x16_upper_codes(const std::byte* sub, int row, int g) {
  return W::bits(W::load(sub + 4 * row + 64 * (g % 4)), 4, 4, 4);
}

// Scale and minimum of group j of a block, of the rows from `row` on: kernels/quant/layouts.h says where their bits
// are.
template <class W, X16Format F>
inline __attribute__((always_inline)) typename W::Ints x16_scale(const std::byte* block, const std::byte* head, int row,
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
        W::either(W::bits(at(block, j % 4), j / 4 * 4, 4, 0), W::bits(at(head + 32, j % 2), j / 2 * 2, 2, 4));
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
// Scales and minima of a block for products. What takes many operations to find is found once for all groups.
template <class W, X16Format F>
class X16Scales {
 public:
  inline __attribute__((always_inline)) void read(const std::byte* block, const std::byte* head) {
    block_ = block, head_ = head;
    if constexpr (kUnpacked) W::unpack_scales(block, bytes_);
  }
  inline __attribute__((always_inline)) typename W::Ints scale(int row, int j) const {
    if constexpr (kUnpacked) return W::unsigned_bytes(bytes_ + 16 * j + row);
    return x16_scale<W, F>(block_, head_, row, j);
  }
  // Minima of two neighbouring groups as 16-bit halves: what sums of the groups' activation codes are multiplied with.
  inline __attribute__((always_inline)) typename W::Ints min_pair(int row, int pair) const {
    return W::either(min(row, 2 * pair), W::shift_left32(min(row, 2 * pair + 1), 16));
  }

 private:
  static constexpr bool kUnpacked = F.packing == blocks::ScalePacking::kQ4K;
  inline __attribute__((always_inline)) typename W::Ints min(int row, int j) const {
    if constexpr (kUnpacked) return W::unsigned_bytes(bytes_ + 128 + 16 * j + row);
    return x16_min<W, F>(block_, row, j);
  }

  const std::byte *block_, *head_;
  alignas(32) std::byte bytes_[kUnpacked ? 256 : 1];
};

// Tokens of a step as the format's products read them. Words: of each group of codes (32 where the format has none) the
// int32 that its products begin with, -zero times their sum; of plain formats with an addend, their sum.
template <X16Format F>
constexpr int x16_step_words() {
  if (F.group == 0) return 1;
  return F.zero != 0 ? F.groups_per_sub() : 0;
}
template <X16Format F>
using X16Step = StepBlock<F.subs(), x16_step_words<F>(), F.min_pairs()>;
template <int kFactor, int kWords>
struct X16Words {
  static void make(const std::byte*, const int16_t* of_16, int32_t* to) {
    if constexpr (kWords == 2) {
      to[0] = kFactor * of_16[0], to[1] = kFactor * of_16[1];
    } else {
      to[0] = kFactor * (of_16[0] + of_16[1]);
    }
  }
};
template <X16Format F>
constexpr ArrangeFn x16_arrange_step =
    arrange_step<X16Step<F>, X16Words<F.zero != 0 ? -F.zero : 1, X16Step<F>::kWords>>;
template <X16Format F, int kTokens>
using X16Tokens = typename X16Step<F>::template Of<kTokens>;

// total + the exact sum of a plain format's block with a token, scaled; d and m are its factors, `scale` and
// `codes` the token's scale and sum.
template <class W, X16Format F>
inline __attribute__((always_inline)) typename W::Floats x16_add_plain(typename W::Floats total, typename W::Ints sum,
                                                                       const std::byte* scale, const std::byte* codes,
                                                                       typename W::Floats d, typename W::Floats m) {
  const auto of_token = W::broadcast(scale);
  total = W::fma(W::floats(sum), W::mul(d, of_token), total);
  if constexpr (F.min) total = W::fma(W::mul(W::floats(W::broadcast4(codes)), of_token), m, total);
  return total;
}
// total + the exact sum of a grouped format's block with a token, `low` of its minima, scaled.
template <class W, X16Format F>
inline __attribute__((always_inline)) typename W::Floats x16_add_block(typename W::Floats total, typename W::Ints sum,
                                                                       typename W::Ints low, const std::byte* scale,
                                                                       typename W::Floats d, typename W::Floats m) {
  auto of_block = W::mul(W::floats(sum), d);
  if constexpr (F.min) of_block = W::fnma(W::floats(low), m, of_block);
  return W::fma(of_block, W::broadcast(scale), total);
}
// Factors of minima and addends of a head, of the rows from `row` on.
template <class W, X16Format F>
inline __attribute__((always_inline)) typename W::Floats x16_m(const std::byte* head, int row) {
  if constexpr (F.min) return W::halves(head + 32 + 2 * row);
  return W::float_zeros();
}

// Loads a word of each line of [p, p + bytes): so a product meets all lines of its weights in ascending order, which
// the processor's own prefetcher follows, and what it uses later or again comes from the L1 cache.
inline __attribute__((always_inline)) void read_in_order(const std::byte* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) {
    int32_t word;
    // A load whose value nobody wants: the compiler would leave it out.
    asm volatile("mov %1, %0" : "=r"(word) : "m"(*reinterpret_cast<const int32_t*>(p + i)));
  }
}

// Of so many groups at a time the sums are scaled and added up as floats, exactly: to at most 2^24. 0: as integers, as
// where W does not want it, few tokens share what scales cost as floats, or two groups at a time would gain nothing.
template <class W, X16Format F, int kTokens>
constexpr int x16_float_groups() {
  using enum blocks::ScalePacking;
  if constexpr (F.group != 0 && kTokens >= 4 && requires { W::kFloatSums; }) {
    constexpr int kCode = F.zero != 0 ? F.zero : (1 << (F.low_bits + F.high_bits)) - 1;
    constexpr int kScale = F.packing == kQ6K ? 128 : F.packing == kQ4K ? 63 : F.packing == kQ2K ? 15 : 32;
    for (int groups = 256 / F.group; groups >= 4; groups /= 2) {
      if (int64_t{kCode} * 127 * F.group * kScale * groups <= 1 << 24) return groups;
    }
  }
  return 0;
}

// kPanels panels, panel_bytes apart, times kTokens tokens: out[panel][token][16].
template <class W, X16Format F, int kTokens, int kPanels>
inline __attribute__((always_inline)) void x16_dots_side_by_side(const std::byte* panels, int64_t panel_bytes,
                                                                 int64_t k, const DotTokens& x, float* out) {
  using Ints = typename W::Ints;
  using Floats = typename W::Floats;
  constexpr int kParts = 16 / W::kLanes, kGroups = F.groups_per_sub(), kUnits = 8 / kGroups;
  // One token's products pay for each operation on codes: more tokens share it.
  constexpr bool kUpper = kTokens == 1 && kGroups == 1 && F.low_bits == 4 && F.high_bits == 0 && !F.table;
  constexpr int kExact = x16_float_groups<W, F, kTokens>();
  const int64_t count = k / F.elements;
  const auto block_of = [&](int n, int64_t b) { return F.block(panels + n * panel_bytes, count, b); };
  const auto head_of = [&](int n, int64_t b) { return F.head(panels + n * panel_bytes, b); };
  Floats total[kPanels][kTokens][kParts];
  for (int n = 0; n < kPanels; ++n) {
    for (int t = 0; t < kTokens; ++t) {
      for (int p = 0; p < kParts; ++p) total[n][t][p] = W::float_zeros();
    }
  }
  if (kPanels == 1 && x.in_order) read_in_order(panels, count * F.head_bytes());
  for (int64_t b = 0; b < count; ++b) {
    if (kPanels == 1 && x.in_order) read_in_order(block_of(0, b), F.scale_bytes());
    Ints whole[kPanels][kTokens][kParts];    // grouped: sums over the block
    Floats exact[kPanels][kTokens][kParts];  // and over up to kExact groups
    for (int n = 0; n < kPanels; ++n) {
      for (int t = 0; t < kTokens; ++t) {
        for (int p = 0; p < kParts; ++p) whole[n][t][p] = W::zeros(), exact[n][t][p] = W::float_zeros();
      }
    }
    const X16Tokens<F, kTokens> token(x.rows, b);
    X16Scales<W, F> scales[kPanels];
    for (int n = 0; n < kPanels; ++n) scales[n].read(block_of(n, b), head_of(n, b));
    for (int s = 0; s < F.subs(); ++s) {
      const int64_t q = b * F.subs() + s;  // sub-block of the row
#pragma GCC unroll 4
      for (int n = 0; n < kPanels; ++n) {
        const std::byte *block = block_of(n, b), *head = head_of(n, b);
        const std::byte* sub = block + F.scale_bytes() + s * F.sub_bytes();
        const LinesAhead<F.head_bytes() + F.block_bytes(), F.subs()> ahead(panels + n * panel_bytes, q, x);
#pragma GCC unroll 2
        for (int p = 0; p < kParts; ++p) {
          const int row = p * W::kLanes;
#pragma GCC unroll 2
          for (int g = 0; g < kGroups; ++g) {
            Ints sum[kTokens];
#pragma GCC unroll 8
            for (int t = 0; t < kTokens; ++t) {
              sum[t] = F.zero != 0 ? W::broadcast4(token.word(s, g, t)) : W::zeros();
            }
            Ints upper = W::zeros();  // 16 times the sum of codes in the upper half
#pragma GCC unroll 8
            for (int u = g * kUnits; u < (g + 1) * kUnits; ++u) {
              if (p == 0) ahead.ask(u);
              const bool in_upper = kUpper && u >= 4;
              const Ints w = in_upper ? x16_upper_codes<W, F>(sub, row, u) : x16_codes<W, F>(sub, row, u);
#pragma GCC unroll 8
              for (int t = 0; t < kTokens; ++t) {
                Ints& part = in_upper ? upper : sum[t];
                part = W::pin(W::dot(part, w, W::broadcast4(token.code(s, t, 4 * u))));
              }
            }
            if constexpr (kUpper) sum[0] = W::add32(sum[0], W::shift_right32_signed(upper, 4));
            if constexpr (kExact > 0) {
              const Floats scale = W::floats(scales[n].scale(row, s * kGroups + g));
#pragma GCC unroll 8
              for (int t = 0; t < kTokens; ++t) exact[n][t][p] = W::fma(W::floats(sum[t]), scale, exact[n][t][p]);
              if (((s + 1) * kGroups) % kExact == 0 && g == kGroups - 1) {
#pragma GCC unroll 8
                for (int t = 0; t < kTokens; ++t) {
                  whole[n][t][p] = W::add32(whole[n][t][p], W::nearest(exact[n][t][p]));
                  exact[n][t][p] = W::float_zeros();
                }
              }
            } else if constexpr (F.group != 0) {
              const Ints scale = scales[n].scale(row, s * kGroups + g);
#pragma GCC unroll 8
              for (int t = 0; t < kTokens; ++t) whole[n][t][p] = W::add32(whole[n][t][p], W::mul32(sum[t], scale));
            } else {
              const Floats d = W::halves(head + 2 * row), m = x16_m<W, F>(head, row);
#pragma GCC unroll 8
              for (int t = 0; t < kTokens; ++t) {
                total[n][t][p] = x16_add_plain<W, F>(total[n][t][p], sum[t], token.scale(t), token.word(0, 0, t), d, m);
              }
            }
          }
        }
      }
    }
    if constexpr (F.group != 0) {
#pragma GCC unroll 4
      for (int n = 0; n < kPanels; ++n) {
        const std::byte* head = head_of(n, b);
#pragma GCC unroll 2
        for (int p = 0; p < kParts; ++p) {
          const int row = p * W::kLanes;
          Ints low[kTokens];
          for (int t = 0; t < kTokens; ++t) low[t] = W::zeros();
          if constexpr (F.min) {
            for (int i = 0; i < F.min_pairs(); ++i) {
              const Ints pair = scales[n].min_pair(row, i);
#pragma GCC unroll 8
              for (int t = 0; t < kTokens; ++t) low[t] = W::dot16(low[t], pair, W::broadcast4(token.pair(i, t)));
            }
          }
          const Floats d = W::halves(head + 2 * row), m = x16_m<W, F>(head, row);
          for (int t = 0; t < kTokens; ++t) {
            total[n][t][p] = x16_add_block<W, F>(total[n][t][p], whole[n][t][p], low[t], token.scale(t), d, m);
          }
        }
      }
    }
  }
  for (int n = 0; n < kPanels; ++n) {
    for (int t = 0; t < kTokens; ++t) {
      for (int p = 0; p < kParts; ++p) W::store(out + 16 * (n * kTokens + t) + p * W::kLanes, total[n][t][p]);
    }
  }
}

// DotFn.
template <class W, X16Format F, int kTokens>
void x16_dot(const std::byte* panel, int64_t, int64_t k, const DotTokens& x, float* out) {
  x16_dots_side_by_side<W, F, kTokens, 1>(panel, 0, k, x, out);
}

// SideFn.
template <class W, X16Format F>
void x16_side(const std::byte* panels, int64_t panel_bytes, int64_t k, const DotTokens& x, float* out) {
  x16_dots_side_by_side<W, F, 1, kSidePanels>(panels, panel_bytes, k, x, out);
}

}  // namespace
}  // namespace ll
