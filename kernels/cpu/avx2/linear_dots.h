// Products of a panel of up to 16 weight rows with some tokens: what the linear kernels of every SIMD level are made
// of.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/ref/linear.h"
#include "kernels/type.h"

namespace ll {

// Tokens as the products read them, row_bytes each: f32 rows for float formats; for block formats steps, as
// Dots::step makes them of rows, q8a or q8a256 for formats of 32, q8a256 for formats of 256.
struct DotTokens {
  const std::byte* rows;
  int64_t row_bytes;
  // Products of block formats ask for the bytes this far ahead while they work (LinesAhead); 0: for none. They do so in
  // sub-blocks q with q & ahead_mask == ahead_turn, so that steps can share it.
  int64_t ahead = 0;
  int64_t ahead_mask = 0, ahead_turn = 0;
  // A sub-block's part that begins this far behind a panel's begin or further is asked for `skip` further on: behind
  // panels side by side.
  int64_t skip_from = 0, skip = 0;
  // The product loads a panel's heads and a block's scales before it uses them, where Dots::in_order.
  bool in_order = false;

  DotTokens from(int64_t token) const {
    DotTokens part = *this;
    part.rows += token * row_bytes;
    return part;
  }
};

// Sub-block q's part of the bytes x.ahead after a panel: its product asks for them, as far as the L2 cache, a few with
// each of its eight units. (All at a sub-block's begin they delay each other and what follows: docs/kernels.md.) All
// sub-blocks of a panel together ask for each line once. kBytes: of kSubs sub-blocks with their scales. Beyond the
// tensor's end that is harmless.
template <int kBytes, int kSubs>
class LinesAhead {
 public:
  inline __attribute__((always_inline)) LinesAhead(const std::byte* panel, int64_t q, const DotTokens& x) {
    if (x.ahead == 0 || (q & x.ahead_mask) != x.ahead_turn) return;
    const int64_t begin = (q * kBytes / kSubs + x.ahead + 63) & ~int64_t{63}, end = (q + 1) * kBytes / kSubs + x.ahead;
    first_ = panel + begin + (begin >= x.skip_from ? x.skip : 0);
    count_ = (end - begin + 63) / 64;
  }
  // With unit 0 to 7.
  inline __attribute__((always_inline)) void ask(int unit) const {
    for (int i = unit * kMost / 8; i < (unit + 1) * kMost / 8; ++i) {
      // Stays where it is in the source: the compiler would gather them.
      if (i < count_) asm volatile("prefetcht1 %0" ::"m"(first_[64 * i]));
    }
  }

  const std::byte* first() const { return first_; }
  int64_t count() const { return count_; }  // of lines, at most kMost
  static constexpr int kMost = (kBytes + 64 * kSubs - 1) / (64 * kSubs);

 private:
  const std::byte* first_ = nullptr;
  int64_t count_ = 0;
};

// out[16 * t + r] = sum over i of w[r, i] * x[t, i], r < rows, t < the function's tokens. out is 64-byte aligned.
//   w  float formats: dense rows; block formats: a panel of kX16, always 16 rows
// Each output's operations and their order are the same whatever the tokens and rows.
using DotFn = void (*)(const std::byte* w, int64_t rows, int64_t k, const DotTokens& x, float* out);
// The same for one token and kSidePanels panels of a block format, panel_bytes apart: out[panel][16].
inline constexpr int kSidePanels = 4;
using SideFn = void (*)(const std::byte* w, int64_t panel_bytes, int64_t k, const DotTokens& x, float* out);
// The same for some steps of kManyStep tokens each. x.ahead is shared out among them.
using ManyFn = void (*)(const std::byte* w, int64_t k, const DotTokens& x, int64_t tokens, float* out);
inline constexpr int64_t kManyStep = 4, kMany = 8;  // kMany: tokens for which what it makes ready pays
// Sums on their way to an `out`, 16 weights of a panel in a row.
struct TilesPending {
  struct Sums {
    const float *w_scale, *x_scale;
    const std::byte* sums;
    float* out;  // null: there are none
    bool first;  // nothing is in `out` yet
  };
  void (*end)(TilesPending& pending) = nullptr;  // null: nothing is pending
  Sums stored = {}, held = {};                   // in `sums`, and in the tile unit
  int turn = 0;                                  // where the sums of the tile unit will go
  alignas(64) int32_t sums[2][4 * 256];
};
// 16 or kTileTokens tokens, arranged; those of the product after this one, for which it may ask.
struct TileTokens {
  const std::byte* arranged;
  int64_t count;
  const std::byte* next;
};
// Levels with tiles: a part of panels' k is unpacked, panel by panel, 16 or kTileTokens tokens are arranged, then both
// are multiplied. Parts are multiples of 512 but for k's last.
//   unpacked  panels side by side, unpacked_bytes(part) each, 64-byte aligned: a block of all panels, then the next.
//             A panel is unpacked to the place of its first block
//   arranged  linear_tile_bytes(k), 64-byte aligned, all k; formats with the same function share what it makes
//   out       [panel][kTileTokens][16], added to but by the first part
//   pending   none at first. A product may leave its last sums there, with tiles in use: the next one with the same
//             weights, or pending.end, adds them to their `out`
using UnpackFn = void (*)(const std::byte* w, int64_t k, Range part, std::byte* unpacked, int64_t panels);
using ArrangeFn = void (*)(const DotTokens& x, int64_t tokens, int64_t k, std::byte* arranged);
using TilesFn = void (*)(const std::byte* unpacked, int64_t panels, int64_t k, Range part, const TileTokens& x,
                         float* out, TilesPending& pending);
struct Tiles {
  UnpackFn unpack = nullptr;                       // null: the level has none, with the others
  int64_t (*unpacked_bytes)(int64_t k) = nullptr;  // of one panel, whole blocks: of 256 k or more
  ArrangeFn arrange = nullptr;
  TilesFn tiles = nullptr;
};
// What makes the tokens of a DotFn, or each kManyStep of a ManyFn, one step (kernels/cpu/x16_step.h).
struct StepOf {
  ArrangeFn arrange = nullptr;
  int64_t subs = 0, block_bytes = 0;  // of a block: sub-blocks of 32 and bytes for each token

  int64_t bytes(int64_t k) const { return k / (32 * subs) * block_bytes; }  // for each token
};
struct Dots {
  static constexpr size_t kMostTokens = 8;

  DType dtype;
  std::array<DotFn, kMostTokens> of_tokens;  // of 1, 2 and so on; null behind the most that the level has
  SideFn side = nullptr;                     // null: the level has none
  ManyFn many = nullptr;                     // null: the level has none
  StepOf step = {};                          // of block formats: what their products read
  bool in_order = false;                     // the product of one token heeds DotTokens::in_order
  Tiles exact = {};                          // the bits of the others
  Tiles requantized = {};                    // faster and less exact (kernels/cpu/x16_requantized.h)

  // Tokens come in steps: first those of the ManyFn, then as few as can be, of equal size.
  int64_t many_tokens(int64_t tokens) const {
    return many != nullptr && tokens >= kMany ? tokens / kManyStep * kManyStep : 0;
  }
  int64_t steps(int64_t left) const { return (left + most_tokens() - 1) / most_tokens(); }
  // Of the step that begins with token t of `tokens`.
  int64_t step_tokens(int64_t t, int64_t tokens) const {
    if (t < many_tokens(tokens)) return kManyStep;
    return (tokens - t + steps(tokens - t) - 1) / steps(tokens - t);
  }
  int64_t most_tokens() const { return std::find(of_tokens.begin(), of_tokens.end(), nullptr) - of_tokens.begin(); }
};

// Dots::of_tokens from of.operator()<tokens>() for 1 to kMost.
template <int kMost, class Of>
constexpr std::array<DotFn, Dots::kMostTokens> dots_of_tokens(const Of& of) {
  return [&]<int... kLess>(std::integer_sequence<int, kLess...>) {
    return std::array<DotFn, Dots::kMostTokens>{of.template operator()<kLess + 1>()...};
  }
  (std::make_integer_sequence<int, kMost>());
}

// Null when the dtype is none of theirs.
using DotsOf = const Dots* (*)(DType dtype);

// Levels with tiles of bf16: products of bf16 rows with f32 tokens that are rounded to bf16 first, once a chunk of
// them.
inline constexpr int64_t kBf16Tokens = 64, kBf16Panels = 4;  // of one multiply, at most
struct Bf16Tiles {
  // Tokens as f32 rows, row_bytes apart, to `rounded`, linear_bf16_bytes(tokens, k) in the level's own order.
  void (*round)(const std::byte* x, int64_t row_bytes, int64_t tokens, int64_t k, std::byte* rounded);
  // out[m][t][r] = sum over i of w[16 * m + r, i] * x[first + t, i], m < kBf16Panels, t < kBf16Tokens, where these
  // rows and tokens exist; everything is 64-byte aligned but w.
  //   w        bf16[rows, k], dense, the weight's next rows behind them; rows up to 16 * kBf16Panels
  //   rounded  `tokens` tokens; first a multiple of kBf16Tokens
  void (*multiply)(const std::byte* w, int64_t rows, int64_t k, const std::byte* rounded, int64_t tokens, int64_t first,
                   float* out);
};

// Sums of panels with tokens: [panel][token][16], panels `distance` floats apart; 64-byte aligned.
struct PanelSums {
  const float* data;
  int64_t distance;

  const float* row(int64_t panel, int64_t token) const { return data + panel * distance + 16 * token; }
};

// Where outputs go, strides in floats. Streamed: past the caches where that is aligned for it.
struct PanelOutputs {
  float* data;
  int64_t stride;
  bool streamed;

  // With registers of so many floats.
  bool streams(int64_t floats) const {
    return streamed && reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(4 * floats) == 0 &&
           stride % floats == 0;
  }
};

// write<bias, residual, streamed>() of what there is; nobody streams with a residual.
template <class Write>
void write_as(bool bias, bool residual, bool streamed, const Write& write) {
  const auto with = [&]<bool kBias>() {
    if (residual) return write.template operator()<kBias, true, false>();
    if (streamed) return write.template operator()<kBias, false, true>();
    write.template operator()<kBias, false, false>();
  };
  bias ? with.template operator()<true>() : with.template operator()<false>();
}

// What makes outputs of sums, for panel n < panels, token t and row r < 16. Levels have the same bits.
struct Finish {
  // out[t][16 * n + r] = sums + bias[16 * n + r] + residual[t][16 * n + r]; bias and residual may be null.
  void (*write)(const PanelSums& sums, int64_t panels, int64_t tokens, const float* bias, const float* residual,
                int64_t residual_stride, const PanelOutputs& out);
  // out[t][16 * n + r] = silu(gate) * up; null: the level has none.
  void (*gated_silu)(const PanelSums& gate, const PanelSums& up, int64_t panels, int64_t tokens,
                     const PanelOutputs& out);
};

// The kernel of a level: `x16` finds the products of its block formats, `bf16` has those of bf16, `finish` makes
// outputs; null: AVX2's, as all others of float formats.
void linear_of(const KernelCall& call, LinearForm form, DotsOf x16, const Bf16Tiles* bf16 = nullptr,
               const Finish* finish = nullptr);

namespace avx2 {

const Dots* float_dots(DType dtype);        // f32, f16, bf16
const Dots* plain_x16_dots(DType dtype);    // formats of 32 with one or two factors
const Dots* grouped_x16_dots(DType dtype);  // formats of 256 with scales of groups

}  // namespace avx2
}  // namespace ll
