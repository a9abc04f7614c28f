// The linear family of every SIMD level. Work is divided by panels of 16 weight rows or by tokens; each panel meets a
// chunk of tokens while both are in the cache.
#include <algorithm>
#include <array>
#include <bit>

#include "kernels/cpu/avx2/activate.h"
#include "kernels/cpu/avx2/linear_dots.h"
#include "kernels/cpu/avx2/vector.h"
#include "kernels/cpu/streamed.h"
#include "kernels/quant/layouts.h"
#include "kernels/quant/q8a.h"
#include "kernels/ref/linear.h"

namespace ll {
namespace avx2 {
namespace {

static_assert(kBf16Panels * kBf16Tokens <= kLinearChunk);             // what Scratch::sums holds
static_assert(kRequantizedPanels * kTileTokens <= 2 * kLinearChunk);  // both of them
static_assert(2 * kLinearChunk / 4 <= linear_panel_bytes(1));         // Scratch::panel: sums for two weights

int64_t panel_count(const TensorView& w) { return (w.dim(0) + kPanelRows - 1) / kPanelRows; }

// One thread's scratch: linear_scratch_bytes (kernels/ref/linear.h).
struct Scratch {
  Scratch(const KernelCall& call, int64_t k)
      : sums{reinterpret_cast<float*>(call.scratch.data()), sums[0] + kPanelRows * kLinearChunk},
        panel(reinterpret_cast<std::byte*>(sums[1] + kPanelRows * kLinearChunk)),
        tokens(panel + linear_panel_bytes(k)) {}
  float* sums[2];     // [kLinearChunk][16], of the second weight for kGated
  std::byte* panel;   // weights made ready: two panels of f32 rows, or panels for tiles; else what SumsFn makes
  std::byte* tokens;  // a chunk of them, as ArrangeFn or Bf16Tiles::round makes them
};

// 1 to 16 rows of one weight, ready to be multiplied.
struct Panel {
  const std::byte* data = nullptr;
  const Dots* dots = nullptr;
  int64_t bytes = 0;  // to the next panel, block formats
};

// Quantized weights that meet f32 tokens become f32 rows in `scratch` first. No graph of ours does that at this level:
// it is here so that every launch that check accepts runs.
Panel open_panel(const TensorView& w, int64_t panel, const Dots* x16, std::byte* scratch) {
  const int64_t k = w.last(), first = panel * kPanelRows;
  if (x16 != nullptr) {
    const int64_t bytes = x16_panel_bytes(w.dtype, k);
    return {w.data + panel * bytes, x16, bytes};
  }
  if (const Dots* dots = float_dots(w.dtype)) return {w.data + first * row_bytes(w.dtype, k), dots};
  for (int64_t r = 0; r < std::min(kPanelRows, w.dim(0) - first); ++r) {
    dequantize_row(w.dtype, w.layout, w.data, first + r, k, reinterpret_cast<float*>(scratch) + r * k);
  }
  return {scratch, float_dots(DType::kF32)};
}

// Few tokens wait for memory. In one step or one ManyFn, which goes through the panel once, their product asks for
// bytes as far ahead of itself as keeps memory busy; in several steps, they share the next panel, which the first then
// finds in the cache. More tokens hide the memory behind their arithmetic.
constexpr int64_t kAhead = 32768, kMostAhead = 32;
// Intel's cores, measured on a Granite Rapids: one step's product near, but for tails a panel ahead; of one token,
// kSidePanels panels side by side, each nearer still.
constexpr int64_t kAheadOnIntel = 2560, kSideAhead = 1024;
bool is_intel() { return __builtin_cpu_is("intel") != 0; }
constexpr int64_t kMany = 8;  // tokens for which what ManyFn makes ready pays

// Tokens of the next step when `left` are left.
int64_t step_of(const Dots& dots, int64_t left) {
  return left >= 8 && dots.eight != nullptr ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

// A chunk of tokens times one panel. In what steps does not change their bits.
void multiply(const Panel& panel, int64_t rows, int64_t k, const DotTokens& x, int64_t tokens, float* out) {
  const Dots& dots = *panel.dots;
  int64_t t = 0;
  if (dots.many != nullptr && tokens >= kMany) {
    t = tokens / 4 * 4;
    DotTokens part = x;
    if (tokens <= kMostAhead) part.ahead = kAhead;
    dots.many(panel.data, k, part, t, out);
  }
  const bool many = t > 0 || tokens > kMostAhead;
  int64_t steps = 0;
  for (int64_t left = tokens - t; left > 0; left -= step_of(dots, left)) ++steps;
  const auto share = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(std::max<int64_t>(steps, 1))));
  for (int64_t left_steps = steps; t < tokens; --left_steps) {
    const int64_t step = step_of(dots, tokens - t);
    const DotFn dot = step == 8 ? dots.eight : step == 4 ? dots.four : step == 2 ? dots.two : dots.one;
    DotTokens part = x.from(t);
    if (!many && steps == 1) {
      const bool intel = is_intel();
      part.ahead = intel ? kAheadOnIntel : kAhead, part.tails_ahead = intel ? panel.bytes : 0;
    }
    if (!many && steps > 1 && left_steps <= share) {
      part.ahead = panel.bytes, part.ahead_mask = share - 1, part.ahead_turn = left_steps - 1;
    }
    dot(panel.data, rows, k, part, out + kPanelRows * t);
    t += step;
  }
}

// out[t][16 * n + r] = sums + bias[16 * n + r] + residual[t][16 * n + r] of panel n, token t and row r; strides in
// floats. kStreamed: past the caches, out aligned to 32. Panels side by side are one piece of an output's row.
template <bool kBias, bool kResidual, bool kStreamed>
void write_panels(const PanelSums& sums, int64_t panels, int64_t tokens, const float* bias, const float* residual,
                  int64_t residual_stride, float* out, int64_t stride) {
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t i = 0; i < 2 * panels; ++i) {
      __m256 value = _mm256_load_ps(sums.row(i / 2, t) + i % 2 * 8);
      if constexpr (kBias) value = _mm256_add_ps(value, _mm256_loadu_ps(bias + 8 * i));
      if constexpr (kResidual) value = _mm256_add_ps(value, _mm256_loadu_ps(residual + t * residual_stride + 8 * i));
      if constexpr (kStreamed) {
        _mm256_stream_ps(out + t * stride + 8 * i, value);
      } else {
        _mm256_storeu_ps(out + t * stride + 8 * i, value);
      }
    }
  }
}
auto write_of(bool bias, bool residual, bool streamed) {
  if (residual) return bias ? write_panels<true, true, false> : write_panels<false, true, false>;
  if (streamed) return bias ? write_panels<true, false, true> : write_panels<false, false, true>;
  return bias ? write_panels<true, false, false> : write_panels<false, false, false>;
}

const Dots* x16_dots(DType dtype) {
  const Dots* dots = plain_x16_dots(dtype);
  return dots != nullptr ? dots : grouped_x16_dots(dtype);
}

// Threads are `groups` groups: a group takes tokens of its own, a thread of it panels of its own. Few panels a thread
// unpack few weights; few tokens are arranged fast, and with one thread a group it reads tokens that it wrote itself as
// a rule, and so do readers of the outputs: lines that another core wrote come at a tenth of the rate of its own.
//
// The time of one thread, in that of a panel's product with one token and one k, as seen on tiles (docs/kernels.md):
// unpacking a panel is as much as 145 tokens, arranging a token as nine panels, an output that others read as 360 k.
int64_t share_cost(int64_t tokens, int64_t panels, int64_t k, int64_t groups, int64_t threads) {
  constexpr int64_t kUnpack = 145, kArrange = 9, kForeign = 360;
  const auto up = [](int64_t n, int64_t by) { return (n + by - 1) / by; };
  tokens = up(up(tokens, groups), kTileTokens) * kTileTokens;
  panels = up(panels, threads / groups);
  const int64_t foreign = groups < threads ? kForeign : 0;
  return k * (tokens * (panels + kArrange) + panels * kUnpack) + foreign * tokens * panels;
}

int64_t token_groups(int64_t tokens, int64_t panels, int64_t k, int64_t threads) {
  constexpr int64_t kLeastTokens = 64;  // of a group
  int64_t best = 1;
  for (int64_t groups = 2; groups <= threads && tokens >= kLeastTokens * groups; ++groups) {
    const auto cost = [&](int64_t n) { return share_cost(tokens, panels, k, n, threads); };
    if (threads % groups == 0 && cost(groups) < cost(best)) best = groups;
  }
  return best;
}

// linear_of for a group's tokens: a thread's panels are those of `call`.
struct LinearShare {
  const KernelCall& call;
  LinearForm form;
  LinearRoles roles;
  DotsOf x16;
  const Bf16Tiles* bf16;
  GatedSiluFn gated_silu;
  bool requantized;  // tokens in tiles

  void run() const;
};

bool is_requantized(const KernelCall& call) {
  return !call.deterministic && call.in[0].dim(0) / 16 * 16 >= kRequantizedTokens;
}

}  // namespace

void linear(const KernelCall& call, LinearForm form) { linear_of(call, form, x16_dots); }

}  // namespace avx2

void linear_of(const KernelCall& call, LinearForm form, DotsOf x16, const Bf16Tiles* bf16, GatedSiluFn gated_silu) {
  using namespace avx2;  // NOLINT(google-build-using-namespace)
  const LinearRoles roles = linear_roles(form, call.in.size(), call.attrs);
  const TensorView& x = call.in[0];
  const bool requantized = is_requantized(call);
  int64_t panels = 0;
  for (size_t i = 1; i <= roles.weights; ++i) panels += panel_count(call.in[i]);
  const auto groups = static_cast<int>(token_groups(x.dim(0), panels, x.last(), call.threads));
  if (groups == 1 || !call.prepared.empty())
    return LinearShare{call, form, roles, x16, bf16, gated_silu, requantized}.run();

  const int of_group = call.threads / groups;
  const Range range = split(x.dim(0), kTileTokens, call.thread / of_group, groups);
  if (range.begin == range.end) return;
  const auto rows = [range](const TensorView& of) {
    TensorView part = of;
    part.data += range.begin * of.row_bytes;
    part.dims[0] = range.end - range.begin;
    return part;
  };
  std::array<TensorView, 2 + 2 * kMaxParts> in;
  std::copy(call.in.begin(), call.in.end(), in.begin());
  in[0] = rows(x);
  if (roles.residual > 0) in[roles.residual] = rows(call.in[roles.residual]);
  const TensorView out = rows(call.out[0]);
  KernelCall part = call;
  part.in = {in.data(), call.in.size()}, part.out = {&out, 1};
  part.thread = call.thread % of_group, part.threads = of_group;
  LinearShare{part, form, roles, x16, bf16, gated_silu, requantized}.run();
}

void prepare_linear_of(const KernelCall& call, DotsOf x16) {
  if (!avx2::is_requantized(call)) return;
  const TensorView& x = call.in[0];
  const int64_t k = x.last(), tokens = x.dim(0) / 16 * 16;
  const ArrangeFn arrange = x16(call.in[1].dtype)->requantized.arrange;  // the same for all formats
  const Range range = split(tokens, kTileTokens, call.thread, call.threads);
  for (int64_t t = range.begin; t < range.end; t += kTileTokens) {
    arrange({x.row<std::byte>(t), x.row_bytes}, std::min(kTileTokens, tokens - t), k,
            call.prepared.data() + t / kTileTokens * linear_tile_bytes(k));
  }
}

void avx2::LinearShare::run() const {
  const TensorView &x = call.in[0], &y = call.out[0];
  // Weights laid out for a GPU have no SIMD kernel: no CPU plan of ours has them, but check accepts them.
  for (size_t i = 1; i <= roles.weights; ++i) {
    if (call.in[i].layout == Layout::kTile8) return ref::linear(call, form);
  }
  const bool q8 = is_q8a(x.dtype), gated = form == LinearForm::kGated;
  const Activation act = gated ? *find_activation(call.attrs.text("act")) : Activation::kRelu;
  const size_t parts = gated ? 1 : roles.weights;
  const int64_t k = x.last();
  const Scratch scratch(call, k);
  const auto bias_of = [&](size_t part, int64_t row) {
    return roles.bias > 0 ? reinterpret_cast<const float*>(call.in[roles.bias + part].data) + row : nullptr;
  };

  int64_t panels = 0;
  for (size_t p = 0; p < parts; ++p) panels += panel_count(call.in[1 + p]);
  // One token's panels are read side by side.
  const int64_t grain = x.dim(0) == 1 && panels >= kSidePanels * call.threads ? kSidePanels : 1;
  const Range range = split(panels, grain, call.thread, call.threads);

  // Work(part, its first output, its panels [begin, end)) for what of each part is this thread's.
  const auto for_parts = [&](auto work) {
    int64_t part_begin = 0, column = 0;
    for (size_t p = 0; p < parts; ++p) {
      const int64_t count = panel_count(call.in[1 + p]);
      const int64_t begin = std::max<int64_t>(range.begin - part_begin, 0),
                    end = std::min(range.end - part_begin, count);
      if (begin < end) work(p, column, begin, end);
      part_begin += count;
      column += call.in[1 + p].dim(0);
    }
  };
  // The outputs of panel i for tokens [first, first + count), from sums of its weight and, gated, of the second. The
  // general way, for what finish has no other.
  const auto finish_panel = [&](size_t p, int64_t column, int64_t i, int64_t first, int64_t count, const float* sums,
                                const float* up_sums, bool streamed) {
    const int64_t row = i * kPanelRows, rows = std::min(kPanelRows, call.in[1 + p].dim(0) - row);
    const float* bias = bias_of(p, row);
    const float* up_bias = gated ? bias_of(1, row) : nullptr;
    for (int64_t t = 0; t < count; ++t) {
      float* out = y.row<float>(first + t) + column + row;
      const float* residual = form == LinearForm::kAdd ? call.in[roles.residual].row<float>(first + t) + row : nullptr;
      for (int64_t r = 0; r < rows; r += 8) {
        const int64_t n = rows - r;
        __m256 value = _mm256_load_ps(sums + kPanelRows * t + r);
        if (bias != nullptr) value = _mm256_add_ps(value, load_part(bias + r, n));
        if (gated) {
          __m256 factor = _mm256_load_ps(up_sums + kPanelRows * t + r);
          if (up_bias != nullptr) factor = _mm256_add_ps(factor, load_part(up_bias + r, n));
          value = _mm256_mul_ps(activate(act, value), factor);
        }
        if (residual != nullptr) value = _mm256_add_ps(value, load_part(residual + r, n));
        if (streamed && n >= 8) {
          _mm256_stream_ps(out + r, value);
        } else {
          store_part(out + r, n, value);
        }
      }
    }
  };
  // Of panels [i, i + n).
  const auto finish = [&](size_t p, int64_t column, int64_t i, int64_t n, int64_t first, int64_t count,
                          const PanelSums& sums, const PanelSums& up_sums, bool streamed = false) {
    const int64_t row = i * kPanelRows;
    const float* const bias = bias_of(p, row);
    float* const out = y.row<float>(first) + column + row;
    int64_t done = 0;  // whole panels that had a faster way
    const int64_t whole = std::min(n, (call.in[1 + p].dim(0) - row) / kPanelRows);
    if (gated_silu != nullptr && gated && act == Activation::kSilu && bias == nullptr) {
      gated_silu(sums, up_sums, whole, count, out, y.row_bytes, streamed);
      done = whole;
    } else if (!gated) {
      const bool adds = form == LinearForm::kAdd;
      const TensorView& residual = call.in[adds ? roles.residual : 0];
      write_of(bias != nullptr, adds, streamed)(sums, whole, count, bias,
                                                adds ? residual.row<float>(first) + row : nullptr,
                                                residual.row_bytes / 4, out, y.row_bytes / 4);
      done = whole;
    }
    for (; done < n; ++done) {
      finish_panel(p, column, i + done, first, count, sums.row(done, 0), up_sums.row(done, 0), streamed);
    }
  };

  const auto has_tiles = [&](const TensorView& w) {
    return q8 && x16(w.dtype) != nullptr && x16(w.dtype)->exact.tiles != nullptr;
  };
  const auto is_rounded = [&](const TensorView& w) { return bf16 != nullptr && !q8 && w.dtype == DType::kBF16; };
  const auto* const first_weight = call.in.data() + 1;
  const bool tiled = std::all_of(first_weight, first_weight + roles.weights, has_tiles);
  const int64_t in_tiles = tiled ? x.dim(0) / 16 * 16 : 0;  // tokens

  // Panels' outputs begin at multiples of 32 bytes. A residual's lines are in the cache anyway.
  bool aligned = reinterpret_cast<uintptr_t>(y.data) % 32 == 0 && y.row_bytes % 32 == 0;
  for (size_t p = 0; p + 1 < parts; ++p) aligned = aligned && call.in[1 + p].dim(0) % 8 == 0;
  const bool streamed = form != LinearForm::kAdd && aligned &&
                        x.dim(0) * (range.end - range.begin) * call.pieces * kPanelRows * 4 >= kStreamedBytes;

  // Tokens [first, first + count) as `dots` reads them; their sums, where it wants some, go to `sums`.
  const auto with_sums = [&](const Dots* dots, int64_t first, int64_t count, std::byte* sums) {
    DotTokens tokens = {x.row<std::byte>(first), x.row_bytes};
    if (dots == nullptr || dots->sums == nullptr) return tokens;
    for (int64_t t = 0; t < count; ++t) dots->sums(x.row<std::byte>(first + t), k, sums + t * (k / 4));
    tokens.sums = sums, tokens.sums_bytes = k / 4;
    return tokens;
  };

  // Panels [begin, end) of part p times the tokens that are not in tiles, chunk by chunk.
  const auto multiply_chunk = [&](size_t p, int64_t column, int64_t begin, int64_t end, int64_t chunk) {
    const int64_t tokens = std::min(kLinearChunk, x.dim(0) - chunk);
    const TensorView& w = call.in[1 + p];
    const Dots* const dots = q8 ? x16(w.dtype) : nullptr;
    const Dots* const up_dots = q8 && gated ? x16(call.in[2].dtype) : nullptr;
    const DotTokens rows_of_x = with_sums(dots, chunk, tokens, scratch.panel);
    const DotTokens rows_of_up =
        up_dots == dots ? rows_of_x : with_sums(up_dots, chunk, tokens, scratch.panel + kLinearChunk * k / 4);
    int64_t i = begin;
    const auto has_side = [](const Dots* d) { return d != nullptr && d->side != nullptr; };
    const bool side = tokens == 1 && is_intel() && has_side(dots) && (!gated || has_side(up_dots));
    for (; side && i + kSidePanels <= end; i += kSidePanels) {
      const auto multiply_side = [&](const TensorView& of, const Dots& by, DotTokens one, float* sums) {
        const int64_t bytes = x16_panel_bytes(of.dtype, k);
        one.ahead = kSideAhead, one.tails_ahead = kSidePanels * bytes;
        one.skip_from = bytes, one.skip = (kSidePanels - 1) * bytes;
        by.side(of.data + i * bytes, bytes, k, one, sums);
      };
      multiply_side(w, *dots, rows_of_x, scratch.sums[0]);
      if (gated) multiply_side(call.in[2], *up_dots, rows_of_up, scratch.sums[1]);
      finish(p, column, i, kSidePanels, chunk, 1, {scratch.sums[0], kPanelRows}, {scratch.sums[1], kPanelRows});
    }
    for (; i < end; ++i) {
      const int64_t rows = std::min(kPanelRows, w.dim(0) - i * kPanelRows);
      const Panel panel = open_panel(w, i, dots, scratch.panel);
      multiply(panel, rows, k, rows_of_x, tokens, scratch.sums[0]);
      if (gated) {
        const Panel up = open_panel(call.in[2], i, up_dots, scratch.panel);
        multiply(up, rows, k, rows_of_up, tokens, scratch.sums[1]);
      }
      finish(p, column, i, 1, chunk, tokens, {scratch.sums[0], 0}, {scratch.sums[1], 0});
    }
  };

  // A chunk of tokens arranged for tiles; behind its place in the scratch their sums with a group of panels, where k
  // has several parts.
  const bool prepared = requantized && !call.prepared.empty();
  ArrangeFn arranged_by = nullptr;
  std::byte* slabs = scratch.tokens;
  const auto slab_of = [&](int64_t t) { return slabs + t / kTileTokens * linear_tile_bytes(k); };
  const int64_t most_slabs = (std::min(in_tiles, linear_tile_chunk(k)) + kTileTokens - 1) / kTileTokens;
  auto* const waiting = reinterpret_cast<float*>(slab_of(most_slabs * kTileTokens));
  const auto arrange = [&](ArrangeFn fn, int64_t chunk, int64_t t, int64_t tokens) {
    const DotTokens from = {x.row<std::byte>(chunk + t), x.row_bytes};
    fn(from, std::min(kTileTokens, tokens - t), k, slab_of(t));
  };

  // A part of the k of a group of panels is unpacked into the L2 cache, where the chunk comes to meet it. Gate and up
  // of one type are one group.
  const auto multiply_tiles = [&](size_t p, int64_t column, int64_t begin, int64_t end, int64_t chunk, int64_t tokens) {
    const int64_t weights = gated ? 2 : 1, group = (requantized ? kRequantizedPanels : kTilePanels) / weights;
    const auto weight = [&](int64_t j) -> const TensorView& { return call.in[1 + p + static_cast<size_t>(j)]; };
    const auto panel_bytes = [&](int64_t j) { return x16_panel_bytes(weight(j).dtype, k); };
    const Tiles* by[2] = {};
    for (int64_t j = 0; j < weights; ++j) {
      const Dots& dots = *x16(weight(j).dtype);
      by[j] = requantized ? &dots.requantized : &dots.exact;
    }
    const bool together = gated && by[0]->tiles == by[1]->tiles, shared = !gated || by[0]->arrange == by[1]->arrange;
    if (shared && !prepared && arranged_by != by[0]->arrange) {
      for (int64_t t = 0; t < tokens; t += kTileTokens) arrange(by[0]->arrange, chunk, t, tokens);
    }
    arranged_by = shared ? by[0]->arrange : nullptr;
    for (int64_t i = begin; i < end; i += group) {
      const int64_t n = std::min(group, end - i);
      for (int64_t from = 0; from < k; from += kTilePart) {
        const Range part = {from, std::min(k, from + kTilePart)};
        const bool whole = part.end == k;
        std::byte* unpacked[2] = {scratch.panel, scratch.panel};
        for (int64_t j = 0; j < weights; ++j) {
          const int64_t side = by[j]->unpacked_bytes(1), bytes = panel_bytes(j);
          if (j > 0) unpacked[1] += n * (together ? side : by[0]->unpacked_bytes(part.end - part.begin));
          const std::byte* data = weight(j).data + i * bytes;
          for (int64_t m = 0; m < n; ++m) {
            by[j]->unpack(data + m * bytes, k, part, unpacked[j] + m * side, together ? 2 * n : n);
          }
        }
        for (int64_t t = 0; t < tokens; t += kTileTokens) {
          const int64_t count = std::min(kTileTokens, tokens - t), of_weight = n * kTileTokens * kPanelRows;
          float* const sums = k > kTilePart ? waiting + t * kRequantizedPanels * kPanelRows : scratch.sums[0];
          for (int64_t j = 0; j < (together ? 1 : weights); ++j) {
            if (!shared) arrange(by[j]->arrange, chunk, t, tokens);
            by[j]->tiles(unpacked[j], together ? 2 * n : n, k, part, slab_of(t), count, sums + j * of_weight);
          }
          if (!whole) continue;
          const int64_t distance = kTileTokens * kPanelRows;
          finish(p, column, i, n, chunk + t, count, {sums, distance}, {sums + of_weight, distance}, streamed);
        }
      }
      // The last tokens, fewer than a tile.
      if (chunk + tokens == in_tiles && in_tiles < x.dim(0)) multiply_chunk(p, column, i, i + n, in_tiles);
    }
  };

  // A few panels meet a few tokens of a rounded chunk at a time. Weights of other types beside those of bf16 keep the
  // bits that they have alone.
  const auto multiply_rounded = [&](size_t p, int64_t column, int64_t begin, int64_t end, int64_t chunk,
                                    int64_t tokens) {
    for (int64_t i = begin; i < end; i += kBf16Panels) {
      const int64_t n = std::min(kBf16Panels, end - i);
      for (int64_t t = 0; t < tokens; t += kBf16Tokens) {
        const int64_t count = std::min(kBf16Tokens, tokens - t);
        for (size_t j = 0; j < (gated ? 2 : 1); ++j) {
          const TensorView& w = call.in[1 + p + j];
          const auto rows_left = [&](int64_t panel) { return w.dim(0) - panel * kPanelRows; };
          if (is_rounded(w)) {
            bf16->multiply(w.data + i * kPanelRows * row_bytes(w.dtype, k), std::min(n * kPanelRows, rows_left(i)), k,
                           scratch.tokens, tokens, t, scratch.sums[j]);
            continue;
          }
          const DotTokens rows_of_x = {x.row<std::byte>(chunk + t), x.row_bytes};
          for (int64_t m = 0; m < n; ++m) {
            const Panel panel = open_panel(w, i + m, nullptr, scratch.panel);
            multiply(panel, std::min(kPanelRows, rows_left(i + m)), k, rows_of_x, count,
                     scratch.sums[j] + m * kBf16Tokens * kPanelRows);
          }
        }
        const int64_t distance = kBf16Tokens * kPanelRows;
        finish(p, column, i, n, chunk + t, count, {scratch.sums[0], distance}, {scratch.sums[1], distance});
      }
    }
  };

  if (in_tiles > 0) {
    for (int64_t chunk = 0; chunk < in_tiles; chunk += linear_tile_chunk(k)) {
      const int64_t tokens = std::min(linear_tile_chunk(k), in_tiles - chunk);
      arranged_by = nullptr;
      if (prepared) slabs = call.prepared.data() + chunk / kTileTokens * linear_tile_bytes(k);
      for_parts([&](size_t p, int64_t column, int64_t begin, int64_t end) {
        multiply_tiles(p, column, begin, end, chunk, tokens);
      });
    }
    if (streamed) _mm_sfence();
    return;
  }
  if (std::any_of(first_weight, first_weight + roles.weights, is_rounded)) {
    for (int64_t chunk = 0; chunk < x.dim(0) && range.begin < range.end; chunk += linear_bf16_chunk(k)) {
      const int64_t tokens = std::min(linear_bf16_chunk(k), x.dim(0) - chunk);
      bf16->round(x.row<std::byte>(chunk), x.row_bytes, tokens, k, scratch.tokens);
      for_parts([&](size_t p, int64_t column, int64_t begin, int64_t end) {
        multiply_rounded(p, column, begin, end, chunk, tokens);
      });
    }
    return;
  }
  for (int64_t chunk = 0; chunk < x.dim(0); chunk += kLinearChunk) {
    for_parts(
        [&](size_t p, int64_t column, int64_t begin, int64_t end) { multiply_chunk(p, column, begin, end, chunk); });
  }
}

}  // namespace ll
