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
// and of a level with tiles (kLanes 16):
//   tiles_begin(k), tiles_end()   this thread multiplies tiles of k (16 or 32) from here to there
//   tile_products<k>(x, w, n, out)
//                                 out[g][t][r] = sum over i < k of x[j / 32][t][j % 32] * w[g][i / 4][r][i % 4], j = g
//                                 * k
//                                 + i, all signed bytes, x int8[n * k / 32][16][32], out int32[n][16][16], t, r < 16,
//                                 g < n
//
// Every level gives the same bits: sums over 32 k are exact integers below 2^24, also when scaled by the group's scale
// in f32, and everything after that is done lane by lane in the order of dot_panel.
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
    Floats part[kTokens][kParts], low[kTokens][kParts];  // grouped: sums over the block before d and dmin
    for (int t = 0; t < kTokens; ++t) {
      for (int p = 0; p < kParts; ++p) part[t][p] = low[t][p] = W::float_zeros();
    }
    for (int s = 0; s < F.subs(); ++s) {
      const int64_t q = b * F.subs() + s;  // sub-block of the row
      const std::byte* sub = block + F.scale_bytes() + s * F.sub_bytes();
      ask_ahead<F.block_bytes() + F.tail_bytes(), F.subs()>(panel, q, x);
#pragma GCC unroll 2
      for (int p = 0; p < kParts; ++p) {
        const int row = p * W::kLanes;
        Floats value[kTokens];
#pragma GCC unroll 2
        for (int g = 0; g < kGroups; ++g) {
          Ints sum[kTokens];
#pragma GCC unroll 8
          for (int t = 0; t < kTokens; ++t) {
            sum[t] = W::zeros();
            if constexpr (F.zero != 0) {
              int16_t sums[2];
              std::memcpy(sums, token[t] + k + k / 8 + 4 * q, sizeof sums);
              sum[t] = W::set(-F.zero * (kGroups == 2 ? sums[g] : sums[0] + sums[1]));
            }
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
          if constexpr (F.group == 0) {
            for (int t = 0; t < kTokens; ++t) value[t] = W::floats(sum[t]);
          } else {
            const Floats scale = W::floats(x16_scale<W, F>(block, tail, row, s * kGroups + g));
#pragma GCC unroll 8
            for (int t = 0; t < kTokens; ++t) {
              value[t] = g == 0 ? W::mul(W::floats(sum[t]), scale) : W::fma(W::floats(sum[t]), scale, value[t]);
            }
            if constexpr (F.min) {
              const Floats min = W::floats(x16_min<W, F>(block, row, s * kGroups + g));
#pragma GCC unroll 8
              for (int t = 0; t < kTokens; ++t) {
                low[t][p] = W::fma(min, W::broadcast(x.mins + t * x.mins_stride + q * kGroups + g), low[t][p]);
              }
            }
          }
        }
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          const Floats scale = W::broadcast(token[t] + k + 4 * q);
          if constexpr (F.group != 0) {
            part[t][p] = W::fma(value[t], scale, part[t][p]);
          } else {
            total[t][p] = W::fma(value[t], W::mul(W::halves(tail + 2 * row), scale), total[t][p]);
            if constexpr (F.min) {
              const Floats mins = W::broadcast(x.mins + t * x.mins_stride + q);
              total[t][p] = W::fma(mins, W::halves(tail + 32 + 2 * row), total[t][p]);
            }
          }
        }
      }
    }
    if constexpr (F.group != 0) {
      for (int p = 0; p < kParts; ++p) {
        const Floats d = W::halves(tail + 2 * p * W::kLanes);
        for (int t = 0; t < kTokens; ++t) total[t][p] = W::fma(part[t][p], d, total[t][p]);
        if constexpr (F.min) {
          const Floats m = W::halves(tail + 32 + 2 * p * W::kLanes);
          for (int t = 0; t < kTokens; ++t) total[t][p] = W::fnma(low[t][p], m, total[t][p]);
        }
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int p = 0; p < kParts; ++p) W::store(out + 16 * t + p * W::kLanes, total[t][p]);
  }
}

// A panel unpacked once for many tokens: signed codes as tiles, scales and minima as floats of 16 rows, factors.
template <X16Format F>
struct X16Unpacked {
  X16Unpacked(std::byte* scratch, int64_t k)
      : codes(scratch),
        scale(reinterpret_cast<float*>(codes + 16 * k)),
        min(scale + 16 * groups(k)),
        factor(min + (F.min ? 16 * groups(k) : 0)) {}
  static int64_t groups(int64_t k) { return F.group == 16 ? k / 16 : k / 32; }
  static int64_t bytes(int64_t k) {
    return 16 * k + 64 * groups(k) * (F.min ? 2 : 1) + (F.group == 0 ? 0 : 128 * (k / 256));
  }

  std::byte* codes;    // [k / 4][16][4]
  float *scale, *min;  // [groups][16]; plain formats: the blocks' d and m
  float* factor;       // [k / 256][d, dmin][16], grouped formats
};

template <class W, X16Format F>
void x16_unpack(const std::byte* panel, int64_t k, const X16Unpacked<F>& to) {
  constexpr int kGroups = F.groups_per_sub();
  const int64_t count = k / F.elements;
  const std::byte* tails = panel + count * F.block_bytes();
  const auto zero = W::set(static_cast<int32_t>(static_cast<uint32_t>(F.zero) * 0x01010101u));
  for (int64_t b = 0; b < count; ++b) {
    const std::byte* block = panel + b * F.block_bytes();
    const std::byte* tail = tails + b * F.tail_bytes();
    for (int s = 0; s < F.subs(); ++s) {
      const int64_t q = b * F.subs() + s;
      const std::byte* sub = block + F.scale_bytes() + s * F.sub_bytes();
#pragma GCC unroll 8
      for (int u = 0; u < 8; ++u) {
        W::store(to.codes + 512 * q + 64 * u, W::subtract8(x16_codes<W, F>(sub, 0, u), zero));
      }
      if constexpr (F.group != 0) {
        for (int g = s * kGroups; g < (s + 1) * kGroups; ++g) {
          const int64_t at = 16 * (b * F.subs() * kGroups + g);
          W::store(to.scale + at, W::floats(x16_scale<W, F>(block, tail, 0, g)));
          if constexpr (F.min) W::store(to.min + at, W::floats(x16_min<W, F>(block, 0, g)));
        }
      }
    }
    if constexpr (F.group == 0) {
      W::store(to.scale + 16 * b, W::halves(tail));
      if constexpr (F.min) W::store(to.min + 16 * b, W::halves(tail + 32));
    } else {
      W::store(to.factor + 32 * b, W::halves(tail));
      if constexpr (F.min) W::store(to.factor + 32 * b + 16, W::halves(tail + 32));
    }
  }
}

template <class W, X16Format F>
void x16_unpack_panel(const std::byte* panel, int64_t k, std::byte* to) {
  x16_unpack<W, F>(panel, k, X16Unpacked<F>(to, k));
}

// Up to kTileTokens tokens' part of eight sub-blocks: codes as tiles lie in memory, so that no two of their rows share
// a place in the cache, and what scales and minima are multiplied with.
template <X16Format F>
struct X16Tokens {
  alignas(64) std::byte codes[kTileTokens / 16][8][16][32];
  alignas(64) float scale[kTileTokens][8];
  alignas(64) float min[kTileTokens][8 * F.groups_per_sub()];

  // Sub-blocks [q, q + subs) of q8a rows of k codes.
  void load(const std::byte* rows, int64_t row_bytes, int64_t tokens, int64_t k, int64_t q, int subs) {
    for (int64_t t = 0; t < tokens; ++t) {
      const std::byte* row = rows + t * row_bytes;
      if (subs == 8) {
        load_row(row, t, k, q, 8);  // without loops that count
      } else {
        load_row(row, t, k, q, subs);
      }
    }
  }

 private:
  __attribute__((always_inline)) void load_row(const std::byte* row, int64_t t, int64_t k, int64_t q, int subs) {
    const size_t count = static_cast<size_t>(subs);
    for (int s = 0; s < subs; ++s) std::memcpy(codes[t / 16][s][t % 16], row + 32 * (q + s), 32);
    std::memcpy(scale[t], row + k + 4 * q, 4 * count);
    if constexpr (F.min) {
      int16_t sums[16];
      std::memcpy(sums, row + k + k / 8 + 4 * q, 4 * count);
      for (int s = 0; s < subs; ++s) {
        if constexpr (F.group == 16) {
          for (int g = 2 * s; g < 2 * s + 2; ++g) min[t][g] = static_cast<float>(sums[g]) * scale[t][s];
        } else {
          min[t][s] = static_cast<float>(sums[2 * s] + sums[2 * s + 1]) * scale[t][s];
        }
      }
    }
  }
};

// Unpacked panels times one or two tiles of 16 tokens: eight sub-blocks of the tokens meet all panels while they are in
// the L1 cache. The products of a panel's eight sub-blocks with a tile are one batch; the vector unit then scales and
// adds them up as x16_dot does.
template <class W, X16Format F>
void x16_tiles(const std::byte* unpacked, int64_t panels, int64_t k, const DotTokens& x, int64_t tokens, float* out) {
  using Floats = typename W::Floats;
  static_assert(W::kLanes == 16);
  constexpr int kGroups = F.groups_per_sub(), kK = 32 / kGroups, kBatch = 8;
  X16Tokens<F> part_of_x;
  W::tiles_begin(kK);
  for (int64_t q = 0; q < k / 32; q += kBatch) {
    const int subs = static_cast<int>(k / 32 - q < kBatch ? k / 32 - q : kBatch);
    const bool whole = F.group != 0 || subs == kBatch;
    part_of_x.load(x.rows, x.row_bytes, tokens, k, q, subs);
    for (int64_t p = 0; p < panels; ++p) {
      const X16Unpacked<F> w(const_cast<std::byte*>(unpacked) + p * X16Unpacked<F>::bytes(k), k);
      // Of a whole batch, in registers for all tokens.
      Floats scale[kBatch * kGroups], min[kBatch * kGroups];
      const auto load_scales = [&](int s, Floats* to_scale, Floats* to_min) __attribute__((always_inline)) {
        for (int g = 0; g < kGroups; ++g) {
          to_scale[g] = W::load_floats(w.scale + 16 * ((q + s) * kGroups + g));
          if constexpr (F.min) to_min[g] = W::load_floats(w.min + 16 * ((q + s) * kGroups + g));
        }
      };
      if (whole) {
#pragma GCC unroll 8
        for (int s = 0; s < kBatch; ++s) load_scales(s, scale + s * kGroups, min + s * kGroups);
      }
      for (int64_t tile = 0; tile < tokens / 16; ++tile) {
        alignas(64) int32_t sums[kBatch * kGroups][16][16];
        W::template tile_products<kK>(part_of_x.codes[tile][0][0], w.codes + 512 * q, subs * kGroups, sums[0][0]);
        float* totals = out + 16 * (kTileTokens * p + 16 * tile);
        for (int t = 0; t < 16; ++t) {
          const float* scales = part_of_x.scale[16 * tile + t];
          const float* mins = part_of_x.min[16 * tile + t];
          Floats total = q == 0 ? W::float_zeros() : W::load_floats(totals + 16 * t);
          Floats part = W::float_zeros(), low = W::float_zeros();
          const auto add = [&](int s, const Floats* of_scale, const Floats* of_min) __attribute__((always_inline)) {
            const auto sum = [&](int g) __attribute__((always_inline)) {
              return W::floats(W::load(reinterpret_cast<const std::byte*>(sums[s * kGroups + g][t])));
            };
            const Floats x_scale = W::broadcast(scales + s);
            if constexpr (F.group == 0) {
              total = W::fma(sum(0), W::mul(of_scale[0], x_scale), total);
              if constexpr (F.min) total = W::fma(W::broadcast(mins + s), of_min[0], total);
            } else {
              Floats value = W::mul(sum(0), of_scale[0]);
              if constexpr (kGroups == 2) value = W::fma(sum(1), of_scale[1], value);
              part = W::fma(value, x_scale, part);
              if constexpr (F.min) {
                for (int g = 0; g < kGroups; ++g) low = W::fma(of_min[g], W::broadcast(mins + s * kGroups + g), low);
              }
            }
          };
          if (whole) {
#pragma GCC unroll 8
            for (int s = 0; s < kBatch; ++s) add(s, scale + s * kGroups, min + s * kGroups);
          } else {
            for (int s = 0; s < subs; ++s) {
              Floats one_scale[kGroups], one_min[kGroups];
              load_scales(s, one_scale, one_min);
              add(s, one_scale, one_min);
            }
          }
          if constexpr (F.group != 0) {
            const float* factor = w.factor + 32 * (q / 8);
            total = W::fma(part, W::load_floats(factor), total);
            if constexpr (F.min) total = W::fnma(low, W::load_floats(factor + 16), total);
          }
          W::store(totals + 16 * t, total);
        }
      }
    }
  }
  W::tiles_end();
}

template <class W, X16Format F>
constexpr Dots x16_dots_of() {
  Dots dots = {F.dtype, x16_dot<W, F, 1>, x16_dot<W, F, 2>, x16_dot<W, F, 4>};
  if constexpr (W::kLanes == 16) dots.eight = x16_dot<W, F, 8>;
  if constexpr (requires { W::tiles_end(); }) {
    dots.unpack = x16_unpack_panel<W, F>;
    dots.unpacked_bytes = X16Unpacked<F>::bytes;
    dots.tiles = x16_tiles<W, F>;
  }
  dots.mins_group = F.min ? (F.group == 16 ? 16 : 32) : 0;
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
