// Attention over a paged f16 KV cache on tiles (TDPBF16PS; Intel's Software Developer's Manual, volume 2): written once
// over the words of a level. Include only from kernels/cpu/LEVEL/ and from tests, once a file; everything has internal
// linkage.
//
// An f16 is exactly the sum of two bf16: its upper 8 bits and the 3 below them. Queries (times scale) and weights are
// taken as sums of two bf16 as well, 16 bits of them. A product is then three of bf16, summed in f32: first * first,
// first * second and second * first. What is lost is about 2^-16 of each term, of either sign. Where a call's products
// round weights anew (KernelCall::slabs) and it has 64 tokens or more, an operand is one bf16, the nearest, and a
// product one: about 2^-9 of each term.
//
// Scores come out as [key][query row]: the first operand is keys as they lie in memory, the second queries. So lanes of
// what follows are query rows, and neither the largest score nor the sum of weights goes over lanes. Weights are turned
// to [query row][key], 16 by 16 words at a time, as the first operand of their product with values, which too are taken
// as they lie. A pair in a word of a tile is two elements, or two keys, 16 apart: then no pair needs a shuffle.
//
// One unit of work is up to kAttentionTiles groups of 16 query rows of one sequence and one KV head; or one group of
// several KV heads where a step has few tokens, for which queries stand in a tile of their KV head alone, with zeros
// for the others. Each page becomes bf16 once a unit. The last group may be narrower; the rows that are none repeat its
// last one.
//
// For each query row the arithmetic is fixed: a score is a sum over groups of 32 elements, in each the three products
// in one order; one online softmax step every kAttentionStep positions; weighted values, added page by page. Places
// that a row does not see get the weight 0, and a sum plus 0 is that sum; so results do not depend on batch, chunk or
// threads. But 0 times infinity is NaN: rows that did not come out finite are computed once more, each token and KV
// head alone, with zeros for values that it does not see. What still is not finite has to do with what the row does
// see, and is computed as the scalar level does it, since infinity is no sum of two bf16.
//
// Words W of a level, 16 lanes:
//   Floats, Ints, Mask            registers; of lanes
//   load(p), store(p, v), set(f), zeros(), add(a, b), sub(a, b), mul(a, b), div(a, b), fma(a, b, c)
//   max(a, b)                     b where either is NaN
//   stream(p, v), streams_end()   stores past the caches, p aligned to 64; after the last of them
//   load_ints(p), store(p, v), set_ints(i), add(a, b), both(a, b), either(a, b), left<n>(v), right<n>(v)
//   ints(v), floats(v)            the bits
//   halves(p)                     16 f16 as floats
//   inside(first, last, i)        lanes with first <= i <= last
//   above(a, b)                   lanes with a > b
//   choose(mask, a, b)            a where set
//   same(a, b)                    whether all lanes are equal
//   turn(from, to)                [16][16] words of a tile: to[i][j] = from[j][i]
//   tiles_begin(rows), tiles_end()
//                                 this thread multiplies tiles from here to there; weights and sums have that many rows
//   clear_scores(), store_scores(p)
//                                 the scores [2][16][16] of a page, in two tiles
//   add_scores(part, keys, other, queries)
//                                 += the products of one step, in parts 0, 1 and 2: of keys [2] and of those `other`
//                                 bytes behind with queries [2]; kOnePart: of the first of each alone
//   load_sums<tiles>(p), store_sums<tiles>(p)
//                                 sums [tiles][16][16], 1 or 2
//   add_values<tiles>(part, weights, values)
//                                 += the products of weights [2] and values [tiles][2], in parts 0, 1 and 2 or
//                                 kOnePart
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numbers>
#include <type_traits>

#include "kernels/attention.h"
#include "kernels/cpu/attention_units.h"
#include "kernels/cpu/streamed.h"
#include "kernels/kernel.h"
#include "kernels/quant/half.h"
#include "kernels/quant/q8a_slabs.h"

namespace ll {
namespace {

inline constexpr int64_t kTileBytes = 1024;  // 16 rows of 64 bytes
inline constexpr int64_t kTileFloats = 256;
inline constexpr int64_t kTileRows = 16;
inline constexpr int kOnePart = 3;
inline constexpr int64_t kStepPages = kAttentionStep / kKvPageSize;

// A row's weights are at most 2 to this power, against a score of its own that is seldom another one.
inline constexpr float kTileMostWeight = 10.0f;

// 2^x for x <= kTileMostWeight; kernels/cpu/avx2/exp.h in 16 lanes, but that it ends at 2^-100: the second bf16 of that
// is no subnormal. x is rounded by adding 1.5 * 2^23, whose sum has the integer in its lowest bits.
template <class W>
inline __attribute__((always_inline)) typename W::Floats tile_exp2(typename W::Floats x) {
  const auto shift = W::set(0x1.8p23f);
  x = W::max(W::set(-100.0f), x);
  const auto shifted = W::add(x, shift);
  const auto r = W::sub(x, W::sub(shifted, shift));
  auto q = W::fma(W::set(0x1.44138ap-13f), r, W::set(0x1.5f0890p-10f));
  q = W::fma(q, r, W::set(0x1.3b2a54p-7f));
  q = W::fma(q, r, W::set(0x1.c6af6cp-5f));
  q = W::fma(q, r, W::set(0x1.ebfbe0p-3f));
  q = W::fma(q, r, W::set(0x1.62e430p-1f));
  q = W::fma(q, r, W::set(1.0f));
  return W::floats(W::add(W::ints(q), W::template left<23>(W::ints(shifted))));
}

// The upper halves of a and b as pairs.
template <class W>
inline __attribute__((always_inline)) typename W::Ints upper_pairs(typename W::Ints a, typename W::Ints b) {
  return W::either(W::template right<16>(a), W::both(b, W::set_ints(static_cast<int32_t>(0xffff0000u))));
}

// To the nearest float of 8 bits (Veltkamp's splitting).
template <class W>
inline __attribute__((always_inline)) typename W::Floats nearest_upper(typename W::Floats v) {
  const auto large = W::mul(v, W::set(65537.0f));
  return W::sub(large, W::sub(large, v));
}

// Two registers of floats as two pairs of bf16 each: what is in the first and, kTileBytes behind it, the rest, where a
// product has several parts. `upper` makes the first of a float.
template <class W, int kParts, class Upper>
inline __attribute__((always_inline)) void split_pairs(typename W::Floats a, typename W::Floats b, std::byte* to,
                                                       const Upper& upper) {
  const auto a1 = upper(a), b1 = upper(b);
  W::store(to, upper_pairs<W>(a1, b1));
  if constexpr (kParts == 1) return;
  W::store(to + kTileBytes, upper_pairs<W>(W::ints(W::sub(a, W::floats(a1))), W::ints(W::sub(b, W::floats(b1)))));
}

// As above of f16: cut off, so that the rest is what is behind; then both are exact. One part is the nearest.
template <class W, int kParts>
inline __attribute__((always_inline)) void split_halves(const std::byte* a, const std::byte* b, std::byte* to) {
  split_pairs<W, kParts>(
      W::halves(a), W::halves(b), to, [](typename W::Floats v) __attribute__((always_inline)) {
        if constexpr (kParts == 1) return W::ints(nearest_upper<W>(v));
        return W::both(W::ints(v), W::set_ints(static_cast<int32_t>(0xffff0000u)));
      });
}

// Each asks for one line of what comes `ahead` of the rows with one of theirs.
inline void ask_for(const std::byte* p) { __builtin_prefetch(p, 0, 2); }

// `count` keys, rows of 32 * steps halves `bytes` apart, as rows of tiles [steps][2].
template <class W, int kParts>
[[gnu::noinline]] void split_keys(const std::byte* rows, int64_t bytes, int64_t count, int64_t steps,
                                  const std::byte* ahead, std::byte* to) {
  for (int64_t key = 0; key < count; ++key, rows += bytes, ahead += bytes, to += 64) {
    for (int64_t s = 0; s < steps; ++s) {
      ask_for(ahead + 64 * s);
      split_halves<W, kParts>(rows + 64 * s, rows + 64 * s + 32, to + 2 * s * kTileBytes);
    }
  }
}

// `count` values and those 16 places behind them, rows of 16 * tiles halves, as rows of tiles [tiles][2].
template <class W, int kParts>
[[gnu::noinline]] void split_values(const std::byte* rows, int64_t bytes, int64_t count, int64_t tiles,
                                    const std::byte* ahead, std::byte* to) {
  const int64_t other = kTileRows * bytes;
  for (int64_t key = 0; key < count; ++key, rows += bytes, ahead += 2 * bytes, to += 64) {
    for (int64_t n = 0; n < tiles; ++n) {
      ask_for(ahead + 64 * n);
      split_halves<W, kParts>(rows + 32 * n, rows + other + 32 * n, to + 2 * n * kTileBytes);
    }
  }
}

// What one thread keeps while it works on a unit. Products have 1 or 3 parts.
template <class W, int kParts>
class TileUnit {
 public:
  explicit TileUnit(const KernelCall& call)
      : q_(call.in[0]),
        kv_(call.in[1]),
        y_(call.out[0]),
        head_dim_(kv_.dim(3)),
        bytes_(kv_row_bytes(DType::kF16, head_dim_)),
        steps_((head_dim_ + 31) / 32),
        tiles_((head_dim_ + 15) / 16),
        group_(call.attrs.i64("heads") / call.attrs.i64("kv_heads")),
        scale_(call.attrs.f64("scale")),
        keys_(call.scratch.data()),
        values_(keys_ + 4 * kStepPages * steps_ * kTileBytes),
        queries_(values_ + 4 * kStepPages * steps_ * kTileBytes),
        sums_(reinterpret_cast<float*>(queries_ + 2 * kAttentionTiles * steps_ * kTileBytes)),
        page_(reinterpret_cast<std::byte*>(sums_ + 2 * kAttentionTiles * steps_ * kTileFloats)),
        scores_(reinterpret_cast<float*>(page_ + 2 * steps_ * kTileBytes)),
        weights_(reinterpret_cast<std::byte*>(scores_ + 2 * kAttentionStep * kTileRows)),
        turned_(weights_ + 2 * 2 * kStepPages * kTileBytes),
        streamed_(y_.dim(0) * y_.row_bytes / call.threads >= kStreamedBytes && head_dim_ % kTileRows == 0 &&
                  reinterpret_cast<uintptr_t>(y_.data) % 64 == 0 && y_.row_bytes % 64 == 0) {}

  bool streamed() const { return streamed_; }  // whether outputs are written past the caches

  // Adds query rows of one token, heads [head, head + count), which see positions [first, last].
  void add_token(int64_t token, int64_t head, int64_t count, int64_t first, int64_t last) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t n = size_++;
      token_[n] = token, head_[n] = head + i;
      first_[n] = static_cast<int32_t>(first), last_[n] = static_cast<int32_t>(last);
    }
  }

  // Works through the pages and writes the outputs; the unit is empty afterwards. Its rows are those of `heads` kv
  // heads from kv_head on, the same tokens' for each; of more than one, at most 16 in all.
  void run(const int32_t* pages, int64_t kv_head, int64_t heads) {
    multiply(pages, kv_head, heads);
    const int64_t size = size_;
    size_ = 0;
    bool finite[kRows];
    bool all = true;
    for (int64_t n = 0; n < size; ++n) all = (finite[n] = write(n)) && all;
    if (all) return;
    // A token's heads of one KV head see the same places.
    const bool alone = heads == 1 && token_[0] == token_[size - 1];
    if (alone) {
      for (int64_t n = 0; n < size; ++n) {
        if (!finite[n]) write_as_defined(n, pages, kv_head);
      }
      return;
    }
    struct Rows {
      int64_t token, head, count, first, last;
      bool finite;
    } parts[kRows];
    int64_t count = 0;
    for (int64_t n = 0; n < size; ++n) {
      if (count > 0 && parts[count - 1].token == token_[n] && parts[count - 1].head / group_ == head_[n] / group_) {
        Rows& part = parts[count - 1];
        ++part.count, part.finite = part.finite && finite[n];
      } else {
        parts[count++] = {token_[n], head_[n], 1, first_[n], last_[n], finite[n]};
      }
    }
    for (const Rows* part = parts; part < parts + count; ++part) {
      if (part->finite) continue;
      add_token(part->token, part->head, part->count, part->first, part->last);
      run(pages, part->head / group_, 1);
    }
  }

 private:
  using Floats = typename W::Floats;
  using Ints = typename W::Ints;
  static constexpr int64_t kRows = kAttentionTiles * kTileRows;
  static constexpr int kPlanePieces = 4;  // in which a page's keys or values become bf16

  struct Pages {
    int64_t begin, end;  // of a step
    bool none() const { return begin >= end; }
  };
  static Pages pages_of(int64_t first, int64_t last, int64_t step) {
    return {std::max<int64_t>(first - step, 0) / kKvPageSize,
            last < step ? 0 : std::min(last - step, kAttentionStep - 1) / kKvPageSize + 1};
  }

  const std::byte* plane(int64_t page, int64_t index) const {
    return kv_.data + kv_row_offset(bytes_, kv_.dim(1), page * kKvPageSize, index);
  }

  // Products of a group's queries with keys, or weights with values, of which a part is done at a time between other
  // work, so that tiles and vectors are busy at once: a part is one product for each of two sums, since more would wait
  // for each other for longer than a core looks ahead. What is done is stored as the next is begun: a store waits for
  // its product and keeps everything behind it waiting.
  struct ScoreWork {
    const std::byte *keys = nullptr, *queries = nullptr;
    float* scores = nullptr;
    int64_t pages = 0;
    bool begins = true, ends = true;  // else a page's scores began with another kv head, or go on with one
    int64_t page = 0, step = 0;
    int part = 0;
    float* done = nullptr;  // where what lies in tiles belongs
  };
  struct ValueWork {
    const std::byte *weights = nullptr, *values = nullptr;
    float* sums = nullptr;
    int64_t pages = 0;
    int64_t tile = 0, page = 0;
    int part = 0;
    float* done = nullptr;
    bool done_both = false;
  };

  __attribute__((always_inline)) void go_on(ScoreWork& w, int64_t parts) {
    for (; parts > 0 && w.page < w.pages; --parts) {
      if (w.part == 0 && w.step == 0 && w.begins) {
        if (w.done != nullptr) W::store_scores(w.done);
        w.done = nullptr;
        W::clear_scores();
      }
      W::add_scores(kParts == 1 ? kOnePart : w.part, w.keys + (2 * w.page * steps_ + w.step) * 2 * kTileBytes,
                    2 * steps_ * kTileBytes, w.queries + w.step * 2 * kTileBytes);
      if (++w.part < kParts) continue;
      w.part = 0;
      if (++w.step < steps_) continue;
      if (w.ends) w.done = w.scores + w.page * 2 * kTileFloats;
      w.step = 0, ++w.page;
    }
  }
  [[gnu::noinline]] void finish(ScoreWork& w) {
    go_on(w, std::numeric_limits<int64_t>::max());
    if (w.done != nullptr) W::store_scores(w.done);
    w.done = nullptr;
  }

  void store_done(ValueWork& w) {
    if (w.done == nullptr) return;
    if (w.done_both) {
      W::template store_sums<2>(w.done);
    } else {
      W::template store_sums<1>(w.done);
    }
    w.done = nullptr;
  }
  __attribute__((always_inline)) void go_on(ValueWork& w, int64_t parts) {
    for (; parts > 0 && w.pages > 0 && w.tile < tiles_; --parts) {
      const bool both = w.tile + 2 <= tiles_;
      float* sums = w.sums + w.tile * kTileFloats;
      const std::byte* weights = w.weights + 2 * w.page * kTileBytes;
      const std::byte* values = w.values + 2 * (w.page * tiles_ + w.tile) * kTileBytes;
      const bool begins = w.page == 0 && w.part == 0;
      if (begins) store_done(w);
      if (both) {
        if (begins) W::template load_sums<2>(sums);
        W::template add_values<2>(kParts == 1 ? kOnePart : w.part, weights, values);
      } else {
        if (begins) W::template load_sums<1>(sums);
        W::template add_values<1>(kParts == 1 ? kOnePart : w.part, weights, values);
      }
      if (++w.part < kParts) continue;
      w.part = 0;
      if (++w.page == w.pages) w.page = 0, w.tile += 2, w.done = sums, w.done_both = both;
    }
  }
  [[gnu::noinline]] void finish(ValueWork& w) {
    go_on(w, std::numeric_limits<int64_t>::max());
    store_done(w);
  }

  // Finishes what is under way but for its last store, and begins other work.
  template <class Work>
  [[gnu::noinline]] void follow(Work& w, const Work& next) {
    go_on(w, std::numeric_limits<int64_t>::max());
    const Work before = w;
    w = next;
    w.done = before.done;
    if constexpr (std::is_same_v<Work, ValueWork>) w.done_both = before.done_both;
  }

  // How many of `parts` belong behind each of kPieces pieces of other work.
  template <int kPieces>
  struct Shares {
    explicit Shares(int64_t parts) {
      for (int i = 0; i < kPieces; ++i) {
        of[i] = static_cast<int8_t>(parts * (i + 1) / kPieces - parts * i / kPieces);
      }
    }
    int8_t of[kPieces];
  };

  // The products of group g with the keys of kv head i of the unit.
  ScoreWork scores_of(int64_t g, int64_t i, const std::byte* keys, Pages pages) const {
    ScoreWork w;
    w.keys = keys;
    w.queries = queries_ + 2 * (g + i) * steps_ * kTileBytes;
    w.scores = scores_ + (g % 2 * kAttentionStep + pages.begin * kKvPageSize) * kTileRows;
    w.pages = pages.end - pages.begin;
    return w;
  }
  // The weighted values of a step for group g's rows from `row` on.
  ValueWork values_of(int64_t g, int64_t row, const std::byte* values, Pages pages) const {
    ValueWork w;
    w.weights = weights_ + (g % 2 * kStepPages + pages.begin) * 2 * kTileBytes + 64 * row;
    w.values = values;
    w.sums = sums_ + g * tiles_ * kTileFloats + kTileRows * row;
    w.pages = pages.end - pages.begin;
    return w;
  }

  void multiply(const int32_t* pages, int64_t kv_head, int64_t heads) {
    begin(heads);
    const int64_t planes = kv_.dim(1) / 2, width = size_ / heads, pairs = (tiles_ + 1) / 2;
    const int64_t first = *std::min_element(first_, first_ + size_), last = *std::max_element(last_, last_ + size_);
    ScoreWork scores;
    ValueWork values;
    const Shares<kPlanePieces> some_scores(kParts * steps_), some_values(kParts * pairs);
    const Shares<kTileRows> few_scores(kParts * steps_), few_values(kParts * pairs);
    const auto score = [&](int64_t i) __attribute__((always_inline)) { go_on(scores, some_scores.of[i]); };
    const auto value = [&](int64_t i) __attribute__((always_inline)) { go_on(values, some_values.of[i]); };
    W::tiles_begin(kTileRows);
    for (int64_t step = first / kAttentionStep * kAttentionStep; step <= last; step += kAttentionStep) {
      const Pages range = pages_of(first, last, step);
      const int32_t* table = pages + step / kKvPageSize;
      // Work on a page's keys asks for its values, work on its values for the next step's keys.
      const auto take_keys = [&](int64_t p, int64_t i, std::byte* to, const auto& between) {
        const std::byte *rows = plane(table[p], kv_head + i), *ahead = plane(table[p], planes + kv_head + i);
        int64_t bytes = bytes_;
        if (head_dim_ % 32 != 0) rows = ahead = whole_rows(rows, 0, kKvPageSize, bytes);
        constexpr int64_t kKeys = kKvPageSize / kPlanePieces;
        for (int64_t key = 0; key < kKvPageSize; key += kKeys) {
          split_keys<W, kParts>(rows + key * bytes, bytes, kKeys, steps_, ahead + key * bytes,
                                to + key / kTileRows * 2 * steps_ * kTileBytes + 64 * (key % kTileRows));
          between(key / kKeys);
        }
      };
      const auto take_values = [&](int64_t p, int64_t i, std::byte* to, const auto& between) {
        const int64_t start = step + p * kKvPageSize, further = p + kStepPages;
        const int64_t from = std::max<int64_t>(first - start, 0), end = std::min(last + 1 - start, kKvPageSize);
        const std::byte *rows = plane(table[p], planes + kv_head + i), *ahead = rows;
        int64_t bytes = bytes_;
        if (step + further * kKvPageSize <= last) ahead = plane(table[further], kv_head + i);
        if (head_dim_ % 16 != 0 || from > 0 || end < kKvPageSize) rows = ahead = whole_rows(rows, from, end, bytes);
        constexpr int64_t kKeys = kTileRows / kPlanePieces;
        for (int64_t key = 0; key < kTileRows; key += kKeys) {
          split_values<W, kParts>(rows + key * bytes, bytes, kKeys, tiles_, ahead + 2 * key * bytes, to + 64 * key);
          between(key / kKeys);
        }
      };

      if (groups_ > 1) {
        const auto keys_at = [&](int64_t p) { return keys_ + 4 * p * steps_ * kTileBytes; };
        const auto values_at = [&](int64_t p) { return values_ + 2 * p * tiles_ * kTileBytes; };
        const auto seen = [&](int64_t g) { return pages_of(earliest_[g], latest_[g], step); };
        for (int64_t p = range.begin; p < range.end; ++p) take_keys(p, 0, keys_at(p), value);
        finish(values);
        scores = scores_of(0, 0, keys_at(seen(0).begin), seen(0));
        for (int64_t p = range.begin; p < range.end; ++p) take_values(p, 0, values_at(p), score);
        for (int64_t g = 0; g < groups_; ++g) {
          finish(scores);
          if (g + 1 < groups_) scores = scores_of(g + 1, 0, keys_at(seen(g + 1).begin), seen(g + 1));
          weigh(
              g, step, seen(g), [&](int64_t i) __attribute__((always_inline)) {
                go_on(scores, few_scores.of[i]);
                go_on(values, few_values.of[kTileRows - 1 - i]);
              });
          finish(values);
          values = values_of(g, 0, values_at(seen(g).begin), seen(g));
        }
        continue;
      }
      // Few query rows: a page is multiplied while the next one becomes bf16, beside it in the L1 cache.
      int64_t turn = 0;
      for (int64_t p = range.begin; p < range.end; ++p) {
        for (int64_t i = 0; i < heads; ++i) {
          std::byte* const keys = keys_ + turn++ % 2 * 4 * steps_ * kTileBytes;
          take_keys(p, i, keys, score);
          follow(scores, scores_of(0, i, keys, {p, p + 1}));
          scores.begins = i == 0, scores.ends = i + 1 == heads;
        }
      }
      finish(scores);
      weigh(0, step, range, [](int64_t) {});
      W::tiles_begin(static_cast<int>(width));
      for (int64_t p = range.begin; p < range.end; ++p) {
        for (int64_t i = 0; i < heads; ++i) {
          std::byte* const tiles = values_ + turn++ % 2 * 4 * steps_ * kTileBytes;
          take_values(p, i, tiles, value);
          follow(values, values_of(0, i * width, tiles, {p, p + 1}));
        }
      }
      finish(values);
      W::tiles_begin(kTileRows);
    }
    finish(values);
    W::tiles_end();
  }

  // Queries as tiles, of one kv head [groups][steps][2], of several [heads][steps][2]; nothing summed yet.
  void begin(int64_t heads) {
    groups_ = (size_ + kTileRows - 1) / kTileRows;
    for (int64_t n = 0; n < size_; ++n) {
      const float* query = q_.row<float>(token_[n]) + head_[n] * head_dim_;
      for (int64_t d = 0; d < head_dim_; d += 16) ask_for(reinterpret_cast<const std::byte*>(query + d));
    }
    for (int64_t n = size_; n < groups_ * kTileRows; ++n) first_[n] = first_[size_ - 1], last_[n] = last_[size_ - 1];
    std::fill(bases_, bases_ + groups_ * kTileRows, -std::numeric_limits<float>::infinity());
    std::fill(totals_, totals_ + groups_ * kTileRows, 0.0f);
    std::fill(sums_, sums_ + groups_ * tiles_ * kTileFloats, 0.0f);
    for (int64_t g = 0; g < groups_; ++g) {
      const int32_t *first = first_ + g * kTileRows, *last = last_ + g * kTileRows;
      earliest_[g] = *std::min_element(first, first + kTileRows),
      latest_[g] = *std::max_element(last, last + kTileRows);
      all_from_[g] = *std::max_element(first, first + kTileRows),
      all_to_[g] = *std::min_element(last, last + kTileRows);
    }
    const Floats scale = W::set(static_cast<float>(scale_ * std::numbers::log2e));
    const int64_t width = size_ / heads;
    for (int64_t i = 0; i < (heads == 1 ? groups_ : heads); ++i) {
      const int64_t start = heads == 1 ? i * kTileRows : 0;  // of the group
      const int64_t from = heads == 1 ? 0 : i * width,
                    to = heads == 1 ? std::min(kTileRows, size_ - start) : from + width;
      for (int64_t s = 0; s < steps_; ++s) {
        for (int64_t n = 0; n < kTileRows; ++n) {
          static constexpr float kNone[32] = {};
          float rest[32];
          const float* query = kNone;
          if (n >= from && n < to) {
            query = q_.row<float>(token_[start + n]) + head_[start + n] * head_dim_ + 32 * s;
            if (head_dim_ - 32 * s < 32) {
              std::fill(std::copy_n(query, head_dim_ - 32 * s, rest), rest + 32, 0.0f);
              query = rest;
            }
          }
          const Floats a = W::mul(W::load(query), scale), b = W::mul(W::load(query + 16), scale);
          const Floats a1 = nearest_upper<W>(a), b1 = nearest_upper<W>(b);
          W::store(turned_ + 64 * n, upper_pairs<W>(W::ints(a1), W::ints(b1)));
          if constexpr (kParts == 1) continue;
          W::store(turned_ + kTileBytes + 64 * n,
                   upper_pairs<W>(W::ints(nearest_upper<W>(W::sub(a, a1))), W::ints(nearest_upper<W>(W::sub(b, b1)))));
        }
        std::byte* query_tiles = queries_ + 2 * (i * steps_ + s) * kTileBytes;
        W::turn(turned_, query_tiles);
        if constexpr (kParts > 1) W::turn(turned_ + kTileBytes, query_tiles + kTileBytes);
      }
    }
  }

  // Rows [from, to) of a plane with zeros behind their elements, and zeros for the other rows; `bytes` becomes their
  // distance.
  const std::byte* whole_rows(const std::byte* rows, int64_t from, int64_t to, int64_t& bytes) {
    std::fill(page_, page_ + 2 * steps_ * kTileBytes, std::byte{0});
    bytes = 64 * steps_;
    for (int64_t j = from; j < to; ++j) std::memcpy(page_ + j * bytes, rows + j * bytes_, static_cast<size_t>(bytes_));
    return page_;
  }

  // Turns group g's scores of a step into weights, and corrects its sums where a score is far above those so far. Calls
  // between(i) after piece i of kTileRows of each page.
  template <class Between>
  [[gnu::noinline]] void weigh(int64_t g, int64_t step, Pages pages, const Between& between) {
    float* const scores = scores_ + g % 2 * kAttentionStep * kTileRows;
    const Ints first = W::load_ints(first_ + g * kTileRows), last = W::load_ints(last_ + g * kTileRows);
    const Floats before = W::load(bases_ + g * kTileRows), none = W::set(-std::numeric_limits<float>::infinity());
    const auto start_of = [&](int64_t p) { return step + p * kKvPageSize; };
    const auto all_see = [&](int64_t p) {
      return all_from_[g] <= start_of(p) && start_of(p) + kKvPageSize - 1 <= all_to_[g];
    };
    Floats top[4] = {none, none, none, none};
    for (int64_t p = pages.begin; p < pages.end; ++p) {
      float* of = scores + p * kKvPageSize * kTileRows;
      if (!all_see(p)) {
        for (int64_t j = 0; j < kKvPageSize; ++j, of += kTileRows) {
          W::store(of, W::choose(W::inside(first, last, static_cast<int32_t>(start_of(p) + j)), W::load(of), none));
        }
        of = scores + p * kKvPageSize * kTileRows;
      }
      for (int64_t j = 0; j < kKvPageSize; j += 4, of += 4 * kTileRows) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) top[i] = W::max(top[i], W::load(of + i * kTileRows));
      }
    }
    const Floats largest = W::max(W::max(top[0], top[1]), W::max(top[2], top[3]));
    // Sums are corrected only where weights would become large: most steps correct none.
    const Floats after = W::choose(W::above(largest, W::add(before, W::set(kTileMostWeight))), largest, before);
    W::store(bases_ + g * kTileRows, after);
    // Before a row sees anything, a number all the same.
    const Floats base = W::max(after, W::set(std::numeric_limits<float>::lowest()));
    const Floats correction = tile_exp2<W>(W::sub(before, base));

    Floats total[2] = {W::zeros(), W::zeros()};
    for (int64_t p = pages.begin; p < pages.end; ++p) {
      const float* of = scores + p * kKvPageSize * kTileRows;
      const bool all = all_see(p);
      for (int64_t j = 0; j < kTileRows; ++j, of += kTileRows) {
        Floats a = tile_exp2<W>(W::sub(W::load(of), base));
        Floats b = tile_exp2<W>(W::sub(W::load(of + kTileRows * kTileRows), base));
        if (!all) {
          a = W::choose(W::inside(first, last, static_cast<int32_t>(start_of(p) + j)), a, W::zeros());
          b = W::choose(W::inside(first, last, static_cast<int32_t>(start_of(p) + j + kTileRows)), b, W::zeros());
        }
        total[0] = W::add(total[0], a), total[1] = W::add(total[1], b);
        // To the nearest, so that the rest has either sign: what is left out of the products then has too.
        split_pairs<W, kParts>(
            a, b, turned_ + 64 * j, [](Floats v) __attribute__((always_inline)) {
              return W::both(W::add(W::ints(v), W::set_ints(0x8000)), W::set_ints(static_cast<int32_t>(0xffff0000u)));
            });
        between(j);
      }
      std::byte* weights = weights_ + (g % 2 * kStepPages + p) * 2 * kTileBytes;
      W::turn(turned_, weights);
      if constexpr (kParts > 1) W::turn(turned_ + kTileBytes, weights + kTileBytes);
    }
    float* totals = totals_ + g * kTileRows;
    W::store(totals, W::fma(W::load(totals), correction, W::add(total[0], total[1])));

    if (W::same(correction, W::set(1.0f))) return;
    alignas(64) float factors[kTileRows];
    W::store(factors, correction);
    float* sums = sums_ + g * tiles_ * kTileFloats;
    for (int64_t n = 0; n < tiles_; ++n) {
      for (int64_t r = 0; r < kTileRows; ++r, sums += kTileRows) {
        W::store(sums, W::mul(W::load(sums), W::set(factors[r])));
      }
    }
  }

  // Writes row n; whether it is finite.
  bool write(int64_t n) const { return streamed_ ? write_by<true>(n) : write_by<false>(n); }
  template <bool kStreamed>
  bool write_by(int64_t n) const {
    const float* sums = sums_ + (n / kTileRows * tiles_ * kTileRows + n % kTileRows) * kTileRows;
    float* y = y_.row<float>(token_[n]) + head_[n] * head_dim_;
    const Floats total = W::set(totals_[n]);
    Floats zeros = W::zeros();
    const auto divide = [&](float* to) __attribute__((always_inline)) {
      const Floats v = W::div(W::load(sums), total);
      zeros = W::fma(v, W::zeros(), zeros);
      if constexpr (kStreamed) {
        W::stream(to, v);
      } else {
        W::store(to, v);
      }
      sums += kTileFloats;
    };
    int64_t d = 0;
    for (; d + kTileRows <= head_dim_; d += kTileRows) divide(y + d);
    if (d < head_dim_) {
      alignas(64) float rest[kTileRows];
      divide(rest);
      std::copy_n(rest, head_dim_ - d, y + d);
    }
    return W::same(zeros, W::zeros());
  }

  // kernels/ref/attention.cc for row n.
  [[gnu::noinline]] void write_as_defined(int64_t n, const int32_t* pages, int64_t kv_head) {
    const float* query = q_.row<float>(token_[n]) + head_[n] * head_dim_;
    double* sums = reinterpret_cast<double*>(keys_);
    const auto element = [&](int64_t j, int64_t index, int64_t d) {
      uint16_t bits;
      std::memcpy(&bits, plane(pages[j / kKvPageSize], index) + j % kKvPageSize * bytes_ + 2 * d, 2);
      return static_cast<double>(f16_to_f32(bits));
    };
    const auto score = [&](int64_t j) {
      double sum = 0;
      for (int64_t d = 0; d < head_dim_; ++d) sum += static_cast<double>(query[d]) * element(j, kv_head, d);
      return scale_ * sum;
    };
    double largest = -std::numeric_limits<double>::infinity(), total = 0;
    for (int64_t j = first_[n]; j <= last_[n]; ++j) largest = std::max(largest, score(j));
    std::fill(sums, sums + head_dim_, 0.0);
    for (int64_t j = first_[n]; j <= last_[n]; ++j) {
      const double weight = std::exp(score(j) - largest);
      total += weight;
      for (int64_t d = 0; d < head_dim_; ++d) sums[d] += weight * element(j, kv_.dim(1) / 2 + kv_head, d);
    }
    float* y = y_.row<float>(token_[n]) + head_[n] * head_dim_;
    for (int64_t d = 0; d < head_dim_; ++d) y[d] = static_cast<float>(sums[d] / total);
  }

  const TensorView &q_, &kv_, &y_;
  int64_t head_dim_, bytes_, steps_, tiles_;  // steps of 32 elements and tiles of 16 that a row takes
  int64_t group_;                             // query heads of a KV head
  double scale_;
  std::byte *keys_, *values_, *queries_;  // scratch: kernels/attention.h
  float* sums_;
  std::byte* page_;
  float* scores_;
  std::byte *weights_, *turned_;
  bool streamed_;
  int64_t size_ = 0, groups_ = 0;  // query rows, and groups of 16, in the unit
  int64_t token_[kRows], head_[kRows];
  alignas(64) int32_t first_[kRows];
  alignas(64) int32_t last_[kRows];
  alignas(64) float bases_[kRows];  // scores whose weight is 1
  alignas(64) float totals_[kRows];
  // Of each group: what some row sees is within the first two, what is within the others all rows see.
  int64_t earliest_[kAttentionTiles], latest_[kAttentionTiles], all_from_[kAttentionTiles], all_to_[kAttentionTiles];
};

template <class W, int kParts>
void tile_attention_of(const KernelCall& call) {
  constexpr int64_t kMost = kAttentionTiles * kTileRows;
  const int64_t units = call.in[0].dim(0) * call.attrs.i64("kv_heads") / (4 * call.threads);
  // Large units make fewer pages bf16; several for each thread end together.
  const auto block_of = [&](int64_t part) {
    const int64_t least = (kTileRows + part - 1) / part;
    return std::clamp(units, least, std::max(kMost / part, least));
  };
  TileUnit<W, kParts> work(call);
  attention_units(call, {kMost, kTileRows, kAttentionTiles}, block_of, work);
  if (work.streamed()) W::streams_end();
}

template <class W>
void tile_attention(const KernelCall& call) {
  const bool rounded = call.slabs && has_slabs(call.in[0].dim(0));
  rounded ? tile_attention_of<W, 1>(call) : tile_attention_of<W, 3>(call);
}

}  // namespace
}  // namespace ll
