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

static_assert(kBf16Panels * kBf16Tokens <= kLinearChunk);  // what Scratch::sums holds

int64_t panel_count(const TensorView& w) { return (w.dim(0) + kPanelRows - 1) / kPanelRows; }

// One thread's scratch: linear_scratch_bytes (kernels/ref/linear.h).
struct Scratch {
  Scratch(const KernelCall& call, int64_t k)
      : sums{reinterpret_cast<float*>(call.scratch.data()), sums[0] + kPanelRows * kLinearChunk},
        panel(reinterpret_cast<std::byte*>(sums[1] + kPanelRows * kLinearChunk)),
        tokens(panel + linear_panel_bytes(k)) {}
  float* sums[2];     // [kLinearChunk][16], of the second weight for kGated
  std::byte* panel;   // weights made ready: two panels of f32 rows, or panels for tiles
  std::byte* tokens;  // a chunk of them, as an ArrangeFn or Bf16Tiles::round makes them
};

// The panels of one weight, ready to be multiplied one by one. Quantized weights that meet f32 tokens become f32 rows
// in `scratch` first. No graph of ours does that at this level: it is here so that every launch that check accepts
// runs.
class Panels {
 public:
  Panels(const TensorView& w, const Dots* x16, std::byte* scratch)
      : w_(w),
        dots_(x16 != nullptr ? x16 : float_dots(w.dtype)),
        bytes_(kPanelRows * row_bytes(w.dtype, w.last())),
        scratch_(scratch) {
    if (dots_ == nullptr) dots_ = float_dots(DType::kF32), dequantized_ = true;
  }

  const Dots& dots() const { return *dots_; }
  int64_t bytes() const { return bytes_; }  // of a panel
  int64_t rows(int64_t panel) const { return std::min(kPanelRows, w_.dim(0) - panel * kPanelRows); }
  // Until the next one is asked for.
  const std::byte* data(int64_t panel) const {
    if (!dequantized_) return w_.data + panel * bytes_;
    for (int64_t r = 0; r < rows(panel); ++r) {
      dequantize_row(w_.dtype, w_.layout, w_.data, panel * kPanelRows + r, w_.last(),
                     reinterpret_cast<float*>(scratch_) + r * w_.last());
    }
    return scratch_;
  }

 private:
  const TensorView& w_;
  const Dots* dots_;
  int64_t bytes_;
  std::byte* scratch_;
  bool dequantized_ = false;
};

// Few tokens wait for memory. In one step or one ManyFn, which goes through the panel once, their product asks for
// bytes as far ahead of itself as keeps memory busy; in several steps, they share the next panel, which the first then
// finds in the cache. More tokens hide the memory behind their arithmetic.
constexpr int64_t kMostAhead = 32;  // tokens
// Intel's cores, measured on a Granite Rapids; of one token, kSidePanels panels side by side, each nearer still.
constexpr int64_t kAheadOnIntel = 5120, kSideAhead = 2560;
// Others, measured on AMD's Zen 4. One token's product that reads in order leaves what is far to the processor.
constexpr int64_t kAhead = 8192, kAheadInOrder = 1024;
// Of a ManyFn.
constexpr int64_t kManyAhead = 32768;
bool is_intel() { return __builtin_cpu_is("intel") != 0; }

// A chunk of tokens times panels of one weight. In what steps tokens go does not change their bits.
class Steps {
 public:
  Steps(const Panels& panels, int64_t k, const DotTokens& x, int64_t tokens)
      : dots_(panels.dots()), k_(k), panel_bytes_(panels.bytes()), tokens_(tokens), x_(x) {
    if (tokens > dots_.most_tokens() || dots_.many_tokens(tokens) > 0) return;
    only_ = dot_of(tokens);
    x_.in_order = !is_intel() && tokens == 1 && dots_.in_order;
    x_.ahead = is_intel() ? kAheadOnIntel : x_.in_order ? kAheadInOrder : kAhead;
  }

  void run(const std::byte* panel, int64_t rows, float* out) const {
    // The work between two panels of one token interrupts the stream of their lines.
    if (only_ != nullptr) return only_(panel, rows, k_, x_, out);
    int64_t t = dots_.many_tokens(tokens_);
    const bool many = t > 0 || tokens_ > kMostAhead;
    if (t > 0) {
      DotTokens part = x_;
      if (tokens_ <= kMostAhead) part.ahead = kManyAhead;
      dots_.many(panel, k_, part, t, out);
    }
    int64_t steps = dots_.steps(tokens_ - t);
    const auto share = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(std::max<int64_t>(steps, 1))));
    for (; t < tokens_; --steps) {
      const int64_t size = dots_.step_tokens(t, tokens_);
      DotTokens part = x_.from(t);
      if (!many && steps <= share) {
        part.ahead = panel_bytes_, part.ahead_mask = share - 1, part.ahead_turn = steps - 1;
      }
      dot_of(size)(panel, rows, k_, part, out + kPanelRows * t);
      t += size;
    }
  }

 private:
  DotFn dot_of(int64_t tokens) const { return dots_.of_tokens[static_cast<size_t>(tokens - 1)]; }

  const Dots& dots_;
  const int64_t k_, panel_bytes_, tokens_;
  DotTokens x_;
  DotFn only_ = nullptr;  // of a single step
};

// Finish::write. kStreamed: past the caches, out aligned to 32. Panels side by side are one piece of an output's row.
template <bool kBias, bool kResidual, bool kStreamed>
void write_panels(const PanelSums& sums, int64_t panels, int64_t tokens, const float* bias, const float* residual,
                  int64_t residual_stride, const PanelOutputs& out) {
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t i = 0; i < 2 * panels; ++i) {
      __m256 value = _mm256_load_ps(sums.row(i / 2, t) + i % 2 * 8);
      if constexpr (kBias) value = _mm256_add_ps(value, _mm256_loadu_ps(bias + 8 * i));
      if constexpr (kResidual) value = _mm256_add_ps(value, _mm256_loadu_ps(residual + t * residual_stride + 8 * i));
      if constexpr (kStreamed) {
        _mm256_stream_ps(out.data + t * out.stride + 8 * i, value);
      } else {
        _mm256_storeu_ps(out.data + t * out.stride + 8 * i, value);
      }
    }
  }
}
void write(const PanelSums& sums, int64_t panels, int64_t tokens, const float* bias, const float* residual,
           int64_t residual_stride, const PanelOutputs& out) {
  write_as(bias != nullptr, residual != nullptr, out.streams(8), [&]<bool kBias, bool kResidual, bool kStreamed>() {
    write_panels<kBias, kResidual, kStreamed>(sums, panels, tokens, bias, residual, residual_stride, out);
  });
}
constexpr Finish kFinish = {write, nullptr};

const Dots* x16_dots(DType dtype) {
  const Dots* dots = plain_x16_dots(dtype);
  return dots != nullptr ? dots : grouped_x16_dots(dtype);
}

// Threads are `groups` groups: a group takes tokens of its own, a thread of it panels of its own. Few panels a thread
// unpack few weights; few tokens are arranged fast, and with one thread a group it reads tokens that it wrote itself as
// a rule, and so do readers of the outputs: lines that another core wrote come at a tenth of the rate of its own.
//
// The time of one thread, in that of a panel's product with one token and one k, as seen on tiles (docs/kernels.md):
// unpacking a panel is as much as 145 tokens, arranging a token that is not in a slab as nine panels, an output that
// others read as 360 k.
int64_t share_cost(int64_t tokens, int64_t panels, int64_t k, int64_t groups, int64_t threads, bool slabs) {
  constexpr int64_t kUnpack = 145, kForeign = 360;
  const int64_t arrange = slabs ? 0 : 9;
  const auto up = [](int64_t n, int64_t by) { return (n + by - 1) / by; };
  tokens = up(up(tokens, groups), kTileTokens) * kTileTokens;
  panels = up(panels, threads / groups);
  const int64_t foreign = groups < threads ? kForeign : 0;
  return k * (tokens * (panels + arrange) + panels * kUnpack) + foreign * tokens * panels;
}

int64_t token_groups(int64_t tokens, int64_t panels, int64_t k, int64_t threads, bool slabs) {
  constexpr int64_t kLeastTokens = 64;  // of a group
  int64_t best = 1;
  for (int64_t groups = 2; groups <= threads && tokens >= kLeastTokens * groups; ++groups) {
    const auto cost = [&](int64_t n) { return share_cost(tokens, panels, k, n, threads, slabs); };
    if (threads % groups == 0 && cost(groups) < cost(best)) best = groups;
  }
  return best;
}

bool is_requantized(const KernelCall& call) {
  return !call.deterministic && call.in[0].dim(0) / 16 * 16 >= kRequantizedTokens;
}

// linear_of for a group's tokens: a thread's panels are those of `call`.
class LinearShare {
 public:
  // `requantized`: tokens in tiles meet weights rounded anew.
  LinearShare(const KernelCall& call, LinearForm form, const LinearRoles& roles, DotsOf x16, const Bf16Tiles* bf16,
              const Finish& finish, bool requantized);
  void run();

 private:
  // What of the outputs comes from one weight, or from gate and up: its first weight, its first output, and this
  // thread's panels [begin, end) of it.
  struct Part {
    size_t weight;
    int64_t column, begin, end;
  };
  // Tokens [first, first + count).
  struct Tokens {
    int64_t first, count;
  };

  const TensorView& weight(size_t i) const { return call_.in[1 + i]; }
  const float* bias_of(size_t weight, int64_t row) const {
    return roles_.bias > 0 ? reinterpret_cast<const float*>(call_.in[roles_.bias + weight].data) + row : nullptr;
  }
  template <class Works>
  bool any_weight(Works works) const {
    return std::any_of(call_.in.begin() + 1, call_.in.begin() + 1 + static_cast<ptrdiff_t>(roles_.weights), works);
  }
  bool has_tiles(const TensorView& w) const {
    const Dots* const dots = q8_ ? x16_(w.dtype) : nullptr;
    return dots != nullptr && (requantized_ ? dots->requantized : dots->exact).tiles != nullptr;
  }
  bool is_rounded(const TensorView& w) const { return bf16_ != nullptr && !q8_ && w.dtype == DType::kBF16; }
  bool streams() const;
  // Token t of a chunk and those that are arranged with it: where quantization wrote them, or in the scratch.
  std::byte* slab_of(const Tokens& of, int64_t t) const {
    if (of.first + t < in_slabs_) return x_.row<std::byte>(of.first + t);
    return scratch_.tokens + t / kTileTokens * (requantized_ ? linear_slab_bytes(k_) : linear_tile_bytes(k_));
  }

  // work(part) for each part of which this thread has panels.
  template <class Work>
  void for_parts(const Work& work) const;
  DotTokens in_steps(const Dots* dots, const Tokens& of, bool up);
  void arrange(ArrangeFn fn, const Tokens& of, int64_t t) const;
  void multiply_tiles(const Part& part, const Tokens& of);
  void multiply_rounded(const Part& part, const Tokens& of) const;
  void multiply_chunk(const Part& part, int64_t first);
  void finish(const Part& part, int64_t i, int64_t n, const Tokens& of, const PanelSums& sums, const PanelSums& up_sums,
              bool streamed) const;
  void finish_panel(const Part& part, int64_t i, const Tokens& of, const float* sums, const float* up_sums,
                    bool streamed) const;

  const KernelCall& call_;
  const TensorView &x_, &y_;
  const LinearForm form_;
  const LinearRoles roles_;
  const DotsOf x16_;
  const Bf16Tiles* const bf16_;
  const Finish& finish_;
  const bool q8_, gated_, requantized_;
  const Activation act_;
  const size_t parts_;
  const int64_t k_;
  const Scratch scratch_;
  Range range_;  // of all parts' panels
  // Tokens in tiles, and of them those that came in slabs. A chunk of the others is arranged in the scratch; behind the
  // place for it are sums with a group of panels: of kTileTokens and the next ones, or, where they wait for the next
  // part of k, of the chunk.
  int64_t in_tiles_ = 0, in_slabs_ = 0;
  ArrangeFn arranged_by_ = nullptr;
  float* tile_sums_ = nullptr;
  // The chunk of tokens from `first` on, in steps for `dots`; the second where up wants others than gate.
  struct InSteps {
    std::byte* tokens;
    const Dots* dots;
    int64_t first;
  };
  InSteps steps_[2] = {};
};

LinearShare::LinearShare(const KernelCall& call, LinearForm form, const LinearRoles& roles, DotsOf x16,
                         const Bf16Tiles* bf16, const Finish& finish, bool requantized)
    : call_(call),
      x_(call.in[0]),
      y_(call.out[0]),
      form_(form),
      roles_(roles),
      x16_(x16),
      bf16_(bf16),
      finish_(finish),
      q8_(is_q8a(x_.dtype)),
      gated_(form == LinearForm::kGated),
      requantized_(requantized),
      act_(gated_ ? *find_activation(call.attrs.text("act")) : Activation::kRelu),
      parts_(gated_ ? 1 : roles.weights),
      k_(x_.last()),
      scratch_(call, k_) {
  int64_t panels = 0;
  for (size_t p = 0; p < parts_; ++p) panels += panel_count(weight(p));
  // One token's panels are read side by side.
  const int64_t grain = x_.dim(0) == 1 && panels >= kSidePanels * call.threads ? kSidePanels : 1;
  range_ = split(panels, grain, call.thread, call.threads);
  if (!any_weight([&](const TensorView& w) { return !has_tiles(w); })) in_tiles_ = x_.dim(0) / 16 * 16;
  if (in_tiles_ > 0 && requantized_ && call.slabs) in_slabs_ = slab_tokens(x_.dim(0), k_);
  const int64_t most = (std::min(in_tiles_, linear_tile_chunk(k_)) + kTileTokens - 1) / kTileTokens;
  tile_sums_ = reinterpret_cast<float*>(scratch_.tokens + most * linear_tile_bytes(k_));
  steps_[0].tokens = scratch_.tokens + (in_tiles_ > 0 ? linear_arranged_bytes(x_.dim(0), k_) : 0);
  steps_[1].tokens = steps_[0].tokens + linear_step_bytes(x_.dim(0) - in_tiles_, k_);
}

// Outputs of a megabyte and more a thread are written past the caches. Panels' outputs begin at multiples of 32 bytes.
// A residual's lines are in the cache anyway.
bool LinearShare::streams() const {
  bool aligned = reinterpret_cast<uintptr_t>(y_.data) % 32 == 0 && y_.row_bytes % 32 == 0;
  for (size_t p = 0; p + 1 < parts_; ++p) aligned = aligned && weight(p).dim(0) % 8 == 0;
  const int64_t bytes = x_.dim(0) * (range_.end - range_.begin) * call_.pieces * kPanelRows * 4;
  return form_ != LinearForm::kAdd && aligned && bytes >= kStreamedBytes;
}

template <class Work>
void LinearShare::for_parts(const Work& work) const {
  int64_t part_begin = 0, column = 0;
  for (size_t p = 0; p < parts_; ++p) {
    const int64_t count = panel_count(weight(p));
    const int64_t begin = std::max<int64_t>(range_.begin - part_begin, 0),
                  end = std::min(range_.end - part_begin, count);
    if (begin < end) work(Part{p, column, begin, end});
    part_begin += count;
    column += weight(p).dim(0);
  }
}

void LinearShare::run() {
  if (in_tiles_ > 0) {
    for (int64_t chunk = 0; chunk < in_tiles_; chunk += linear_tile_chunk(k_)) {
      const Tokens of = {chunk, std::min(linear_tile_chunk(k_), in_tiles_ - chunk)};
      arranged_by_ = nullptr;
      for_parts([&](const Part& part) { multiply_tiles(part, of); });
    }
    if (streams()) _mm_sfence();
    return;
  }
  if (any_weight([&](const TensorView& w) { return is_rounded(w); })) {
    for (int64_t chunk = 0; chunk < x_.dim(0) && range_.begin < range_.end; chunk += linear_bf16_chunk(k_)) {
      const Tokens of = {chunk, std::min(linear_bf16_chunk(k_), x_.dim(0) - chunk)};
      bf16_->round(x_.row<std::byte>(chunk), x_.row_bytes, of.count, k_, scratch_.tokens);
      for_parts([&](const Part& part) { multiply_rounded(part, of); });
    }
    return;
  }
  for (int64_t chunk = 0; chunk < x_.dim(0); chunk += kLinearChunk) {
    for_parts([&](const Part& part) { multiply_chunk(part, chunk); });
  }
}

// Token t of a chunk and those that are arranged with it, unless they are.
void LinearShare::arrange(ArrangeFn fn, const Tokens& of, int64_t t) const {
  if (of.first + t < in_slabs_) return;
  const DotTokens from = {x_.row<std::byte>(of.first + t), x_.row_bytes};
  fn(from, std::min(kTileTokens, of.count - t), k_, slab_of(of, t));
}

// A part of the k of a group of panels is unpacked into the L2 cache, where the chunk comes to meet it. Gate and up of
// one type are one group.
void LinearShare::multiply_tiles(const Part& part, const Tokens& of) {
  const int64_t weights = gated_ ? 2 : 1, group = (requantized_ ? kRequantizedPanels : kTilePanels) / weights;
  const Tiles* by[2] = {};
  for (int64_t j = 0; j < weights; ++j) {
    const Dots& dots = *x16_(weight(part.weight + static_cast<size_t>(j)).dtype);
    by[j] = requantized_ ? &dots.requantized : &dots.exact;
  }
  const bool together = gated_ && by[0]->tiles == by[1]->tiles, shared = !gated_ || by[0]->arrange == by[1]->arrange;
  const bool streamed = streams();
  if (shared && arranged_by_ != by[0]->arrange) {
    for (int64_t t = 0; t < of.count; t += kTileTokens) arrange(by[0]->arrange, of, t);
  }
  arranged_by_ = shared ? by[0]->arrange : nullptr;
  bool forth = true;
  for (int64_t i = part.begin; i < part.end; i += group) {
    const int64_t n = std::min(group, part.end - i);
    for (int64_t from = 0; from < k_; from += kTilePart) {
      const Range ks = {from, std::min(k_, from + kTilePart)};
      std::byte* unpacked[2] = {scratch_.panel, scratch_.panel};
      for (int64_t j = 0; j < weights; ++j) {
        const TensorView& w = weight(part.weight + static_cast<size_t>(j));
        const int64_t side = by[j]->unpacked_bytes(1), bytes = x16_panel_bytes(w.dtype, k_);
        if (j > 0) unpacked[1] += n * (together ? side : by[0]->unpacked_bytes(ks.end - ks.begin));
        for (int64_t m = 0; m < n; ++m) {
          by[j]->unpack(w.data + (i + m) * bytes, k_, ks, unpacked[j] + m * side, together ? 2 * n : n);
        }
      }
      const int64_t distance = kTileTokens * kPanelRows;
      const auto sums_of = [&](int64_t t) {
        return tile_sums_ + (k_ > kTilePart ? t / kTileTokens : t / kTileTokens % 2) * kRequantizedPanels * distance;
      };
      const auto finish_tokens = [&](int64_t t) {
        const Tokens now = {of.first + t, std::min(kTileTokens, of.count - t)};
        if (ks.end == k_) {
          finish(part, i, n, now, {sums_of(t), distance}, {sums_of(t) + n * distance, distance}, streamed);
        }
      };
      TilesPending pending;
      const auto end_pending = [&] {
        if (pending.end != nullptr) pending.end(pending);
      };
      // Back and forth, so that each pass begins with what the last one left in the cache.
      const int64_t last = (of.count - 1) / kTileTokens * kTileTokens, step = forth ? kTileTokens : -kTileTokens;
      const int64_t begin = forth ? 0 : last, end = last - begin;
      forth = !forth;
      for (int64_t t = begin; t != end + step; t += step) {
        const TileTokens x = {slab_of(of, t), std::min(kTileTokens, of.count - t),
                              slab_of(of, t == end ? t : t + step)};
        for (int64_t j = 0; j < (together ? 1 : weights); ++j) {
          if (!shared) arrange(by[j]->arrange, of, t);
          by[j]->tiles(unpacked[j], together ? 2 * n : n, k_, ks, x, sums_of(t) + j * n * distance, pending);
          if (!together && gated_) end_pending();
        }
        if (t != begin) finish_tokens(t - step);
      }
      end_pending();
      finish_tokens(end);
    }
    // The last tokens, fewer than a tile.
    if (of.first + of.count == in_tiles_ && in_tiles_ < x_.dim(0)) {
      multiply_chunk({part.weight, part.column, i, i + n}, in_tiles_);
    }
  }
}

// A few panels meet a few tokens of a rounded chunk at a time. Weights of other types beside those of bf16 keep the
// bits that they have alone.
void LinearShare::multiply_rounded(const Part& part, const Tokens& of) const {
  for (int64_t i = part.begin; i < part.end; i += kBf16Panels) {
    const int64_t n = std::min(kBf16Panels, part.end - i);
    for (int64_t t = 0; t < of.count; t += kBf16Tokens) {
      const Tokens now = {of.first + t, std::min(kBf16Tokens, of.count - t)};
      for (size_t j = 0; j < (gated_ ? 2 : 1); ++j) {
        const TensorView& w = weight(part.weight + j);
        if (is_rounded(w)) {
          bf16_->multiply(w.data + i * kPanelRows * row_bytes(w.dtype, k_),
                          std::min(n * kPanelRows, w.dim(0) - i * kPanelRows), k_, scratch_.tokens, of.count, t,
                          scratch_.sums[j]);
          continue;
        }
        const Panels panels(w, nullptr, scratch_.panel);
        const Steps steps(panels, k_, {x_.row<std::byte>(now.first), x_.row_bytes}, now.count);
        for (int64_t m = 0; m < n; ++m) {
          steps.run(panels.data(i + m), panels.rows(i + m), scratch_.sums[j] + m * kBf16Tokens * kPanelRows);
        }
      }
      const int64_t distance = kBf16Tokens * kPanelRows;
      finish(part, i, n, now, {scratch_.sums[0], distance}, {scratch_.sums[1], distance}, false);
    }
  }
}

// Tokens as `dots` reads them: in steps, which all panels then meet, or as they are.
DotTokens LinearShare::in_steps(const Dots* dots, const Tokens& of, bool up) {
  const DotTokens rows = {x_.row<std::byte>(of.first), x_.row_bytes};
  if (dots == nullptr || dots->step.arrange == nullptr) return rows;
  InSteps& to = steps_[up && dots != steps_[0].dots ? 1 : 0];
  const DotTokens steps = {to.tokens, dots->step.bytes(k_)};
  if (to.dots == dots && to.first == of.first) return steps;
  to.dots = dots, to.first = of.first;
  for (int64_t t = 0, n; t < of.count; t += n) {
    n = dots->step_tokens(t, of.count);
    dots->step.arrange(rows.from(t), n, k_, to.tokens + t * steps.row_bytes);
  }
  return steps;
}

// The chunk of tokens from `first` on, none of them in tiles.
void LinearShare::multiply_chunk(const Part& part, int64_t first) {
  const Tokens of = {first, std::min(kLinearChunk, x_.dim(0) - first)};
  const TensorView &w = weight(part.weight), &up = weight(gated_ ? 1 : part.weight);
  const Dots* const dots = q8_ ? x16_(w.dtype) : nullptr;
  const Dots* const up_dots = q8_ ? x16_(up.dtype) : nullptr;
  const auto has_side = [](const Dots* d) { return d != nullptr && d->side != nullptr; };
  const bool side = of.count == 1 && is_intel() && has_side(dots) && has_side(up_dots);
  const Panels panels(w, dots, scratch_.panel), up_panels(up, up_dots, scratch_.panel);
  // A weight's panels follow each other in memory, and so that what is asked for ahead is what comes next, they are
  // multiplied one after another; gate's, then up's. Outputs are made for as many panels as there is room for: lines
  // that are not in the cache, one after another, interrupt the stream of weights more than all at once.
  const int64_t distance = kPanelRows * of.count;
  const DotTokens gate_x = in_steps(dots, of, false), up_x = in_steps(up_dots, of, true);
  const auto multiply = [&](const Panels& some, const DotTokens& x, int64_t begin, int64_t end, float* sums) {
    const Steps steps(some, k_, x, of.count);
    DotTokens beside = x;
    beside.ahead = kSideAhead, beside.skip_from = some.bytes(), beside.skip = (kSidePanels - 1) * some.bytes();
    for (int64_t i = begin, n; i < end; i += n, sums += n * distance) {
      n = side && i + kSidePanels <= end ? kSidePanels : 1;
      if (n == kSidePanels) {
        some.dots().side(some.data(i), some.bytes(), k_, beside, sums);
      } else {
        steps.run(some.data(i), some.rows(i), sums);
      }
    }
  };
  for (int64_t begin = part.begin, end; begin < part.end; begin = end) {
    end = std::min(part.end, begin + kLinearChunk / of.count);
    multiply(panels, gate_x, begin, end, scratch_.sums[0]);
    if (gated_) multiply(up_panels, up_x, begin, end, scratch_.sums[1]);
    finish(part, begin, end - begin, of, {scratch_.sums[0], distance}, {scratch_.sums[1], distance}, false);
  }
}

// The outputs of panels [i, i + n), from sums of their weight and, gated, of the second.
void LinearShare::finish(const Part& part, int64_t i, int64_t n, const Tokens& of, const PanelSums& sums,
                         const PanelSums& up_sums, bool streamed) const {
  const int64_t row = i * kPanelRows;
  const float* const bias = bias_of(part.weight, row);
  float* const out = y_.row<float>(of.first) + part.column + row;
  int64_t done = 0;  // whole panels that had a faster way
  const int64_t whole = std::min(n, (weight(part.weight).dim(0) - row) / kPanelRows);
  const PanelOutputs to = {out, y_.row_bytes / 4, streamed};
  if (finish_.gated_silu != nullptr && gated_ && act_ == Activation::kSilu && bias == nullptr) {
    finish_.gated_silu(sums, up_sums, whole, of.count, to);
    done = whole;
  } else if (!gated_) {
    const bool adds = form_ == LinearForm::kAdd;
    const TensorView& residual = call_.in[adds ? roles_.residual : 0];
    finish_.write(sums, whole, of.count, bias, adds ? residual.row<float>(of.first) + row : nullptr,
                  residual.row_bytes / 4, to);
    done = whole;
  }
  for (; done < n; ++done) {
    finish_panel(part, i + done, of, sums.row(done, 0), up_sums.row(done, 0), streamed);
  }
}

// Panel i the general way, for what finish has no other.
void LinearShare::finish_panel(const Part& part, int64_t i, const Tokens& of, const float* sums, const float* up_sums,
                               bool streamed) const {
  const int64_t row = i * kPanelRows, rows = std::min(kPanelRows, weight(part.weight).dim(0) - row);
  const float* const bias = bias_of(part.weight, row);
  const float* const up_bias = gated_ ? bias_of(1, row) : nullptr;
  for (int64_t t = 0; t < of.count; ++t) {
    float* const out = y_.row<float>(of.first + t) + part.column + row;
    const float* const residual =
        form_ == LinearForm::kAdd ? call_.in[roles_.residual].row<float>(of.first + t) + row : nullptr;
    for (int64_t r = 0; r < rows; r += 8) {
      const int64_t n = rows - r;
      __m256 value = _mm256_load_ps(sums + kPanelRows * t + r);
      if (bias != nullptr) value = _mm256_add_ps(value, load_part(bias + r, n));
      if (gated_) {
        __m256 factor = _mm256_load_ps(up_sums + kPanelRows * t + r);
        if (up_bias != nullptr) factor = _mm256_add_ps(factor, load_part(up_bias + r, n));
        value = _mm256_mul_ps(activate(act_, value), factor);
      }
      if (residual != nullptr) value = _mm256_add_ps(value, load_part(residual + r, n));
      if (streamed && n >= 8) {
        _mm256_stream_ps(out + r, value);
      } else {
        store_part(out + r, n, value);
      }
    }
  }
}

}  // namespace

void linear(const KernelCall& call, LinearForm form) { linear_of(call, form, x16_dots); }

}  // namespace avx2

void linear_of(const KernelCall& call, LinearForm form, DotsOf x16, const Bf16Tiles* bf16, const Finish* of_level) {
  using namespace avx2;  // NOLINT(google-build-using-namespace)
  const Finish& finish = of_level != nullptr ? *of_level : kFinish;
  const LinearRoles roles = linear_roles(form, call.in.size(), call.attrs);
  // Weights laid out for a GPU have no SIMD kernel: no CPU plan of ours has them, but check accepts them.
  int64_t panels = 0;
  for (size_t i = 1; i <= roles.weights; ++i) {
    if (call.in[i].layout == Layout::kTile8) return ref::linear(call, form);
    panels += panel_count(call.in[i]);
  }
  const TensorView& x = call.in[0];
  const bool slabs = call.slabs && slab_tokens(x.dim(0), x.last()) > 0;
  const auto groups = static_cast<int>(token_groups(x.dim(0), panels, x.last(), call.threads, slabs));
  const bool requantized = is_requantized(call);
  if (groups == 1) return LinearShare(call, form, roles, x16, bf16, finish, requantized).run();

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
  LinearShare(part, form, roles, x16, bf16, finish, requantized).run();
}

}  // namespace ll
