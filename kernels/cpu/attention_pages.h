// Attention over the paged KV cache, written once over the words of a level. Include only from kernels/cpu/LEVEL/;
// everything has internal linkage.
//
// One unit of work is a block of query rows (tokens of one sequence x query heads of one kv head, or of a few) against
// the pages they see, in order. A page's keys are turned by column once (of i8 they lie so), so that the lanes of a
// product with a query are keys; its values are read as they lie, so that the lanes of a weighted sum are elements.
// Either way up to kAttentionRowsAtOnce query rows share each key or value that was loaded, and no lanes are summed.
//
// For each query row the arithmetic is fixed: a score is the sum over groups of kKvGroup elements of the group's
// products, added in order (for i8 exactly, times the group's scale); one online softmax step every kAttentionStep
// positions; weighted values, added in order of position (for i8 exactly in a step, then step by step). Which rows
// share a block changes nothing in it, so results do not depend on batch, chunk or threads.
//
// The words W of a level: kernels/cpu/attention_products.h.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <numbers>
#include <type_traits>
#include <utility>

#include "kernels/attention.h"
#include "kernels/cpu/attention_codes.h"
#include "kernels/cpu/attention_products.h"
#include "kernels/cpu/attention_units.h"
#include "kernels/cpu/avx2/exp.h"
#include "kernels/cpu/avx2/kv_rows.h"
#include "kernels/cpu/key_columns.h"
#include "kernels/kernel.h"

namespace ll {
namespace {

// What one thread keeps while it works on a unit.
template <class W>
class Block {
 public:
  explicit Block(const KernelCall& call)
      : q_(call.in[0]),
        kv_(call.in[1]),
        y_(call.out[0]),
        head_dim_(kv_.dim(3)),
        row_(attention_row(head_dim_)),
        bytes_(kv_row_bytes(kv_.dtype, head_dim_)),
        groups_((head_dim_ + kKvGroup - 1) / kKvGroup),
        codes_(kv_.dtype == DType::kI8),
        direct_(head_dim_ == row_),
        scale_(static_cast<float>(call.attrs.f64("scale") * std::numbers::log2e)),
        queries_(reinterpret_cast<float*>(call.scratch.data())),
        sums_(queries_ + kAttentionQueries * row_),
        page_(sums_ + kAttentionQueries * row_),
        columns_(page_ + kKvPageSize * row_),
        weights_(columns_ + kKvPageSize / 2 * row_),
        weight_codes_(reinterpret_cast<int16_t*>(weights_ + kAttentionQueries * kAttentionStep)),
        scale_units_(weights_ + (kAttentionQueries + groups_ * kAttentionRowsAtOnce / 2) * kAttentionStep),
        totals_(scale_units_ + groups_ * kAttentionStep),
        units_(totals_ + 8 * kAttentionQueries),
        row_units_(units_ + groups_) {}

  // Adds query rows of one token, heads [head, head + count), which see positions [first, last].
  void add_token(int64_t token, int64_t head, int64_t count, int64_t first, int64_t last) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t n = size_++;
      token_[n] = token, head_[n] = head + i, first_[n] = first, last_[n] = last;
      largest_[n] = -std::numeric_limits<float>::infinity();
      const float* query = q_.row<float>(token) + (head + i) * head_dim_;
      scales_[n] = scale_;
      if (codes_) {
        scales_[n] *= code_query(query, head_dim_, query_codes(n));
      } else {
        std::memcpy(queries_ + n * row_, query, static_cast<size_t>(4 * head_dim_));
      }
      std::fill(sums_ + n * row_, sums_ + (n + 1) * row_, 0.0f);
      std::fill(totals_ + n * 8, totals_ + (n + 1) * 8, 0.0f);
    }
  }

  // Works through the pages and writes the outputs; the block is empty afterwards. Its rows are those of `heads` kv
  // heads from kv_head on, the same tokens' for each. Their planes lie side by side in a page, and memory delivers what
  // lies together sooner: a step takes its keys page by page through all heads, and asks for all planes in that order.
  void run(const int32_t* pages, int64_t kv_head, int64_t heads) {
    const Heads of = {pages, kv_head, heads, *std::min_element(first_, first_ + size_),
                      *std::max_element(last_, last_ + size_)};
    for (int64_t step = of.first / kAttentionStep * kAttentionStep; step <= of.last; step += kAttentionStep) {
      find_scores(of, step);
      add_weighted(of, step);
    }
    for (int64_t n = 0; n < size_; ++n) write(n);
    size_ = 0;
  }

 private:
  const std::byte* plane(int64_t page, KvPart part, int64_t head) const {
    return kv_.data + kv_plane_offset(bytes_, kv_.dim(1), page * kKvPageSize, part, head);
  }

  struct Rows {
    int64_t begin, end;
    // Of those that share keys and values.
    int64_t groups() const { return (end - begin + kAttentionRowsAtOnce - 1) / kAttentionRowsAtOnce; }
  };

  // Calls work(rows, n) for rows [n, n + rows) of the block; rows is a constant.
  template <class F>
  static void for_rows(Rows rows, F work) {
    int64_t n = rows.begin;
    for (; n + kAttentionRowsAtOnce <= rows.end; n += kAttentionRowsAtOnce)
      work(std::integral_constant<int, kAttentionRowsAtOnce>(), n);
    for (; n + 2 <= rows.end; n += 2) work(std::integral_constant<int, 2>(), n);
    for (; n < rows.end; ++n) work(std::integral_constant<int, 1>(), n);
  }

  // The kv heads that a unit works on, and the positions that some row sees.
  struct Heads {
    const int32_t* pages;
    int64_t kv_head, count, first, last;

    // Pages of the step from position `step` on.
    int64_t begin(int64_t step) const { return std::max(step, first) / kKvPageSize; }
    int64_t end(int64_t step) const { return std::min(step + kAttentionStep - 1, last) / kKvPageSize + 1; }
  };
  Rows rows_of(const Heads& of, int64_t head) const { return {head * size_ / of.count, (head + 1) * size_ / of.count}; }

  // The heads' planes of a step's pages, in about so many parts for each. None behind the last page.
  Prefetch ahead_of(const Heads& of, int64_t step, KvPart part, int64_t parts) const {
    Prefetch ahead(kv_.data, of.count * kKvPageSize * bytes_,
                   std::max<int64_t>(1, parts * of.count * (of.end(step) - of.begin(step))));
    for (int64_t page = of.begin(step); page < of.end(step); ++page) {
      ahead.add_page(plane(of.pages[page], part, of.kv_head));
    }
    return ahead;
  }

  // Scores of a step, page by page, and meanwhile asks for its values.
  void find_scores(const Heads& of, int64_t step) {
    const int64_t begin = of.begin(step), end = of.end(step);
    Prefetch ahead = ahead_of(of, step, KvPart::kValues, 2 * rows_of(of, 0).groups());
    int64_t done = 0;
    for (int64_t page = begin; page < end; ++page) {
      for (int64_t head = 0; head < of.count; ++head) {
        const Rows rows = rows_of(of, head);
        with_keys(plane(of.pages[page], KvPart::kKeys, of.kv_head + head), [&](const auto& keys) {
          for_rows(rows, [&](auto count, int64_t n) {
            // Others than the first would ask in vain.
            if (n == rows.begin) {
              multiply_keys<count, true>(n, keys, page * kKvPageSize, ahead);
            } else {
              multiply_keys<count, false>(n, keys, page * kKvPageSize, ahead);
            }
          });
        });
        ahead.keep_up(++done, (end - begin) * of.count);
      }
    }
  }

  // Weights and weighted values of a step, and meanwhile asks for the next step's keys.
  void add_weighted(const Heads& of, int64_t step) {
    const int64_t begin = of.begin(step), end = of.end(step);
    // Of i8 a line for each page's weights, the others between products.
    const int64_t parts = codes_ ? kKvPageSize * bytes_ / Prefetch::kLine
                                 : (row_ + 2 * W::kLanes - 1) / (2 * W::kLanes) * rows_of(of, 0).groups();
    Prefetch ahead = ahead_of(of, step + kAttentionStep, KvPart::kKeys, parts);
    if (codes_) {
      for (int64_t head = 0; head < of.count; ++head) {
        add_codes(of, head, step, ahead);
        ahead.keep_up(head + 1, of.count);
      }
      return;
    }
    for_rows({0, size_}, [&](auto count, int64_t n) { weigh<count>(n, step, ahead); });
    int64_t done = 0;
    for (int64_t page = begin; page < end; ++page) {
      const int64_t start = page * kKvPageSize;
      const int64_t from = std::max<int64_t>(of.first - start, 0), to = std::min(of.last + 1 - start, kKvPageSize);
      for (int64_t head = 0; head < of.count; ++head) {
        with_values(plane(of.pages[page], KvPart::kValues, of.kv_head + head), from, to, [&](const auto& values) {
          for_rows(rows_of(of, head), [&](auto count, int64_t n) { accumulate<count>(n, values, start, ahead); });
        });
        ahead.keep_up(++done, (end - begin) * of.count);
      }
    }
  }

  // Calls work(keys) with the keys of a page by column; those that no row sees may be anything.
  template <class F>
  void with_keys(const std::byte* rows, F work) {
    if (kv_.dtype == DType::kF32) {
      words_by_column(rows, head_dim_, page_);
      work(FloatKeys{page_});
    } else if (kv_.dtype == DType::kF16) {
      auto* columns = reinterpret_cast<uint16_t*>(columns_);
      halves_by_column(rows, bytes_, head_dim_, columns);
      work(HalfKeys{columns});
    } else {
      work(CodeKeys{rows});
    }
  }

  // Calls work(values) with rows [begin, end) of a page; other rows may hold anything.
  template <class F>
  void with_values(const std::byte* rows, int64_t begin, int64_t end, F work) {
    if (direct_) {
      if (kv_.dtype == DType::kF32) return work(FloatValues{rows, bytes_});
      return work(HalfValues{rows, bytes_});
    }
    for (int64_t j = begin; j < end; ++j) {
      avx2::load_row(kv_.dtype, rows + j * bytes_, head_dim_, row_, page_ + j * row_);
    }
    work(FloatValues{reinterpret_cast<const std::byte*>(page_), 4 * row_});
  }

  // i8: weights and weighted values of one head's rows in a step.
  void add_codes(const Heads& of, int64_t head, int64_t step, Prefetch& ahead) {
    const int64_t first = step / kKvPageSize;
    step_values_ = {{}, of.begin(step) - first, of.end(step) - first};
    for (int64_t p = step_values_.begin; p < step_values_.end; ++p) {
      step_values_.plane[p] = plane(of.pages[first + p], KvPart::kValues, of.kv_head + head);
    }
    units_begin_ = units_end_ = 0;
    const Rows rows = rows_of(of, head);
    for_rows(rows, [&](auto count, int64_t n) {
      weigh<count>(n, step, ahead);
      if (n == rows.begin) {
        accumulate_codes<count, true>(n, step, ahead);
      } else {
        accumulate_codes<count, false>(n, step, ahead);
      }
    });
  }

  // The places of `size` from position `start` on which query row n sees.
  int64_t begin_of(int64_t n, int64_t start, int64_t size) const {
    return std::min(std::max<int64_t>(first_[n] - start, 0), size);
  }
  int64_t end_of(int64_t n, int64_t start, int64_t size) const {
    return std::min(std::max<int64_t>(last_[n] + 1 - start, 0), size);
  }

  // The pages that some of `count` query rows see of the step from `start` on, in places.
  std::pair<int64_t, int64_t> pages_of(int64_t n, int64_t count, int64_t start) const {
    int64_t first = kAttentionStep, last = 0;
    for (int64_t i = n; i < n + count; ++i) {
      const int64_t begin = begin_of(i, start, kAttentionStep), end = end_of(i, start, kAttentionStep);
      if (begin < end) first = std::min(first, begin), last = std::max(last, end);
    }
    return {first / kKvPageSize * kKvPageSize, (last + kKvPageSize - 1) / kKvPageSize * kKvPageSize};
  }

  template <int kRows, bool kAsk, class P>
  [[gnu::noinline]] void multiply_keys(int64_t n, const P& keys, int64_t start, Prefetch& ahead) {
    constexpr bool kCodes = std::is_same_v<P, CodeKeys>;
    constexpr int kVectors = kCodes ? 2 : W::template kVectors<kRows>, kWide = kVectors * W::kLanes;
    float* scores = weights_ + n * kAttentionStep + start % kAttentionStep;
    for (int64_t j = 0; j < kKvPageSize; j += kWide) {
      if constexpr (kCodes) {
        dot_key_codes<W, kRows, kVectors, kAsk>(query_codes(n), 2 * row_, head_dim_, keys.plane, j, scores, ahead);
      } else {
        ahead.next();
        dot_keys<W, kRows, kVectors>(queries_ + n * row_, row_, head_dim_, keys, j, scores);
      }
    }
  }

  // Turns the scores of a step into weights against the largest score so far; of i8, against the step's, and into
  // codes. In the pages that some of the rows see, places that a row does not see get weight 2^-100 from a score of
  // -infinity, whatever lies there, which its total loses beside the 1 of the largest, and the code 0. Of i8, asks for
  // what is ahead.
  template <int kRows>
  [[gnu::noinline]] void weigh(int64_t n, int64_t start, Prefetch& ahead) {
    const __m256 none = _mm256_set1_ps(-std::numeric_limits<float>::infinity());
    const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const auto [first, last] = pages_of(n, kRows, start);
    alignas(32) float change[8] = {};  // of the largest score; of i8, from it to the step's
    float base[kRows] = {};            // whose weight is 1
    for (int i = 0; i < kRows; ++i) {
      const int64_t begin = begin_of(n + i, start, kAttentionStep), end = end_of(n + i, start, kAttentionStep);
      if (begin >= end) continue;
      float* weights = weights_ + (n + i) * kAttentionStep;
      const __m256 scale = _mm256_set1_ps(scales_[n + i]);
      __m256 top = none;
      for (int64_t j = first; j < last; j += 8) {
        __m256 s = _mm256_mul_ps(_mm256_load_ps(weights + j), scale);
        if (j < begin || j + 8 > end) {
          const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(begin - j)), places);
          const __m256i inside = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(end - j)), places);
          s = _mm256_blendv_ps(none, s, _mm256_castsi256_ps(_mm256_andnot_si256(below, inside)));
        }
        top = _mm256_max_ps(top, s);
        _mm256_store_ps(weights + j, s);
      }
      const float of_step = avx2::max_lanes(top), largest = std::max(largest_[n + i], of_step);
      change[i] = largest_[n + i] - largest;
      largest_[n + i] = base[i] = largest;
      if (codes_ && of_step > -std::numeric_limits<float>::infinity()) {
        base[i] = of_step;
        change[4 + i] = of_step - largest;
      }
    }
    __m256 added[kRows];
    for (int i = 0; i < kRows; ++i) {
      const int64_t begin = begin_of(n + i, start, kAttentionStep), end = end_of(n + i, start, kAttentionStep);
      __m256 sum = _mm256_setzero_ps();
      if (begin < end) {
        float* weights = weights_ + (n + i) * kAttentionStep;
        const __m256 most = _mm256_set1_ps(base[i]);
        if (codes_) find_units(begin, end);
        for (int64_t j = first; j < last; j += kKvPageSize) {
          __m256 w[4];
          for (int64_t k = 0; k < 4; ++k) w[k] = _mm256_sub_ps(_mm256_load_ps(weights + j + 8 * k), most);
          avx2::exp2_below(w);
          for (int64_t k = 0; k < 4; ++k) sum = _mm256_add_ps(sum, w[k]);
          if (!codes_) {
            for (int64_t k = 0; k < 4; ++k) _mm256_store_ps(weights + j + 8 * k, w[k]);
            continue;
          }
          ahead.next();
          for (int64_t g = 0; g < groups_; ++g) {
            code_weights(w, scale_units_ + g * kAttentionStep + j,
                         weight_codes_ + (g * kAttentionRowsAtOnce + i) * kAttentionStep + j);
          }
        }
        if (codes_) {
          for (int64_t g = 0; g < groups_; ++g) row_units_[g * kAttentionRowsAtOnce + i] = units_[g];
        }
      }
      added[i] = sum;
    }
    alignas(32) float corrections[8];
    __m256 correction[1] = {_mm256_load_ps(change)};
    avx2::exp2_below(correction);
    _mm256_store_ps(corrections, correction[0]);
    for (int i = 0; i < kRows; ++i) {
      correction_[n + i] = corrections[i], factor_[n + i] = corrections[4 + i];
      float* totals = totals_ + 8 * (n + i);
      added[i] = _mm256_mul_ps(added[i], _mm256_set1_ps(factor_[n + i]));
      _mm256_store_ps(totals, _mm256_fmadd_ps(_mm256_load_ps(totals), _mm256_set1_ps(corrections[i]), added[i]));
    }
  }

  // The units of the step's value scales where a row sees places [begin, end).
  void find_units(int64_t begin, int64_t end) {
    if (begin == units_begin_ && end == units_end_) return;
    for (int64_t g = 0; g < groups_; ++g) {
      units_[g] = unit_scales(step_values_, head_dim_, g, begin, end, scale_units_ + g * kAttentionStep);
    }
    units_begin_ = begin, units_end_ = end;
  }

  // A place that a row does not see has the weight 0: codes are finite, whatever they are.
  template <int kRows, bool kAsk>
  [[gnu::noinline]] void accumulate_codes(int64_t n, int64_t step, Prefetch& ahead) {
    const auto [first, last] = pages_of(n, kRows, step);
    if (first >= last) return;
    StepValues values = step_values_;
    values.begin = first / kKvPageSize, values.end = last / kKvPageSize;
    bool visible[kRows];
    for (int r = 0; r < kRows; ++r) {
      visible[r] = begin_of(n + r, step, kAttentionStep) < end_of(n + r, step, kAttentionStep);
    }
    for (int64_t g = 0; g < groups_; ++g) {
      const int16_t* const codes = weight_codes_ + g * kAttentionRowsAtOnce * kAttentionStep;
      float units[kRows];
      for (int r = 0; r < kRows; ++r) units[r] = row_units_[g * kAttentionRowsAtOnce + r] * factor_[n + r];
      const auto add = [&](auto vectors, int64_t d) {
        add_value_codes<W, kRows, vectors, kAsk>(values, ahead, head_dim_, d, codes, units, correction_ + n, visible,
                                                 sums_ + n * row_ + d, row_);
      };
      const int64_t end = std::min(row_, (g + 1) * kKvGroup);
      int64_t d = g * kKvGroup;
      for (; d + 2 * W::kLanes <= end; d += 2 * W::kLanes) add(std::integral_constant<int, 2>(), d);
      // row_ is a multiple of 16.
      if constexpr (W::kLanes == 16) {
        if (d < end) add(std::integral_constant<int, 1>(), d);
      }
    }
  }

  // Places that all kRows rows see are added for all at once, those before and after row by row: what a row does not
  // see may be NaN, which no weight makes harmless.
  template <int kRows, class P>
  void accumulate(int64_t n, const P& values, int64_t start, Prefetch& ahead) {
    int64_t begin = 0, end = kKvPageSize;
    for (int64_t i = n; i < n + kRows; ++i) {
      begin = std::max(begin, begin_of(i, start, kKvPageSize)), end = std::min(end, end_of(i, start, kKvPageSize));
    }
    if (begin >= end) {
      for (int64_t i = n; i < n + kRows; ++i)
        add_places<1>(i, values, start, begin_of(i, start, kKvPageSize), end_of(i, start, kKvPageSize), ahead);
      return;
    }
    if constexpr (kRows > 1) {
      for (int64_t i = n; i < n + kRows; ++i)
        add_places<1>(i, values, start, begin_of(i, start, kKvPageSize), begin, ahead);
    }
    add_places<kRows>(n, values, start, begin, end, ahead);
    if constexpr (kRows > 1) {
      for (int64_t i = n; i < n + kRows; ++i)
        add_places<1>(i, values, start, end, end_of(i, start, kKvPageSize), ahead);
    }
  }

  // The first places that a row adds correct its sums.
  template <int kRows, class P>
  [[gnu::noinline]] void add_places(int64_t n, const P& values, int64_t start, int64_t begin, int64_t end,
                                    Prefetch& ahead) {
    if (begin >= end) return;
    constexpr int kVectors = W::template kVectors<kRows>, kWide = kVectors * W::kLanes;
    float* sums = sums_ + n * row_;
    const float* weights = weights_ + n * kAttentionStep + start % kAttentionStep;
    for (int64_t group = 0; group < row_; group += kKvGroup) {
      const int64_t last = std::min(row_, group + kKvGroup);
      int64_t d = group;
      for (; d + kWide <= last; d += kWide) {
        ahead.next();
        add_values<W, kRows, kVectors>(values, d, weights, kAttentionStep, begin, end, correction_ + n, sums, row_);
      }
      for (; d < last; d += W::kLanes) {
        add_values<W, kRows, 1>(values, d, weights, kAttentionStep, begin, end, correction_ + n, sums, row_);
      }
    }
    std::fill(correction_ + n, correction_ + n + kRows, 1.0f);
  }

  void write(int64_t n) const {
    const __m256 total = _mm256_set1_ps(avx2::sum_lanes(_mm256_load_ps(totals_ + 8 * n)));
    float *y = y_.row<float>(token_[n]) + head_[n] * head_dim_, *sums = sums_ + n * row_;
    for (int64_t d = 0; d < row_; d += 8) _mm256_store_ps(sums + d, _mm256_div_ps(_mm256_load_ps(sums + d), total));
    std::memcpy(y, sums, static_cast<size_t>(4 * head_dim_));
  }

  // Query row n where the cache is i8, 2 * row_ elements after the one before.
  int16_t* query_codes(int64_t n) const { return reinterpret_cast<int16_t*>(queries_ + n * row_); }

  const TensorView &q_, &kv_, &y_;
  int64_t head_dim_, row_, bytes_, groups_;
  bool codes_;   // the cache is i8
  bool direct_;  // values that are floats are read from the cache; else through page_
  float scale_;
  float *queries_, *sums_, *page_, *columns_, *weights_;  // scratch: kernels/attention.h
  int16_t* weight_codes_;
  float *scale_units_, *totals_, *units_, *row_units_;
  StepValues step_values_ = {};
  int64_t units_begin_ = 0, units_end_ = 0;  // the places for which units_ and scale_units_ hold
  int64_t size_ = 0;                         // query rows in the block
  int64_t token_[kAttentionQueries], head_[kAttentionQueries], first_[kAttentionQueries], last_[kAttentionQueries];
  float scales_[kAttentionQueries], largest_[kAttentionQueries], correction_[kAttentionQueries];
  float factor_[kAttentionQueries];  // of i8: what a weight of 1 in this step is of one against the largest so far
};

template <class W>
void attention_of(const KernelCall& call) {
  Block<W> work(call);
  attention_units(
      call, {kAttentionQueries, kAttentionQueries, std::numeric_limits<int64_t>::max()},
      [](int64_t part) { return kAttentionQueries / part; }, work);
}

}  // namespace
}  // namespace ll
