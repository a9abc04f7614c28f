// Products of attention in floats: queries with a page's keys, weights with its values. Include only from
// kernels/cpu/attention_pages.h; everything has internal linkage.
//
// Words W of a level:
//   kLanes, Floats        floats of a register, 8 or 16
//   kVectors<rows>        registers of keys, or of a row of values, that so many query rows meet at once
//   zeros(), load(p), store(p, v), broadcast(p), mul(a, b), add(a, b), fma(a, b, c)
//   halves(p)             kLanes f16 as floats
//   pinned(v)             v, kept in a register: the compiler does not load or convert it once more
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/attention.h"

namespace ll {
namespace {

// Keys of a page by column. at<W>(d, i, j): element d + i (d a multiple of 4, i below 4) of keys j, j + 1, ....
struct FloatKeys {
  const float* columns;
  template <class W>
  typename W::Floats at(int64_t d, int64_t i, int64_t j) const {
    return W::load(columns + (d + i) * kKvPageSize + j);
  }
};
struct HalfKeys {
  const uint16_t* columns;
  template <class W>
  typename W::Floats at(int64_t d, int64_t i, int64_t j) const {
    return W::halves(columns + (d + i) * kKvPageSize + j);
  }
};
struct CodeKeys {
  const std::byte* plane;  // i8, as the cache holds it
};

// Values of a page: rows `bytes` apart. at<W>(row, d): elements d, d + 1, ... of a row.
struct FloatValues {
  const std::byte* rows;
  int64_t bytes;
  template <class W>
  static typename W::Floats at(const std::byte* row, int64_t d) {
    return W::load(reinterpret_cast<const float*>(row) + d);
  }
};
struct HalfValues {
  const std::byte* rows;
  int64_t bytes;
  template <class W>
  static typename W::Floats at(const std::byte* row, int64_t d) {
    return W::halves(reinterpret_cast<const uint16_t*>(row) + d);
  }
};
// scores[r * kAttentionStep + j ..] = dot products of query r with kVectors registers of keys from j on.
template <class W, int kRows, int kVectors, class P>
inline __attribute__((always_inline)) void dot_keys(const float* queries, int64_t row, int64_t head_dim, const P& keys,
                                                    int64_t j, float* scores) {
  for (int64_t group = 0; group < head_dim; group += kKvGroup) {
    typename W::Floats sum[kRows][kVectors];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) sum[r][i] = W::zeros();
    }
    const auto add = [&](int64_t d, int64_t place) __attribute__((always_inline)) {
      typename W::Floats key[kVectors];
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) {
        key[i] = W::pinned(keys.template at<W>(d, place, j + W::kLanes * i));
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const typename W::Floats query = W::broadcast(queries + r * row + d + place);
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; ++i) sum[r][i] = W::fma(query, key[i], sum[r][i]);
      }
    };
    const int64_t end = std::min(head_dim, group + kKvGroup), whole = end & ~int64_t{3};
    for (int64_t d = group; d < whole; d += 4) {
#pragma GCC unroll 4
      for (int64_t place = 0; place < 4; ++place) add(d, place);
    }
    for (int64_t place = 0; whole + place < end; ++place) add(whole, place);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        float* out = scores + r * kAttentionStep + j + W::kLanes * i;
        W::store(out, group == 0 ? sum[r][i] : W::add(sum[r][i], W::load(out)));
      }
    }
  }
}

// Asks for the lines of what is wanted soon, planes that lie side by side in each of a step's pages, a few at a time
// between the work on others: all at once would fill what holds lines on their way. Without it each plane starts with
// cold misses: they lie far apart, so the hardware does not see them coming.
class Prefetch {
 public:
  static constexpr int64_t kLine = 64;

  // Planes of `bytes` together in each page, in about so many parts. `any`: an address that may be asked for in vain.
  Prefetch(const std::byte* any, int64_t bytes, int64_t parts) : at_(any), bytes_(bytes), parts_(parts) {}
  void add_page(const std::byte* planes) {
    pages_[count_++] = planes;
    if (count_ == 1) at_ = planes;
    part_ = lines_in_all() / parts_ + 1;
  }

  // The next part.
  void next() { ask(part_); }
  // The next `count` lines, each for line(), of one page: fewer than that before its end are asked for with others.
  const std::byte* lines(int64_t count) {
    if (page_ == count_) return at_;
    const std::byte* const first = std::max(pages_[page_], std::min(at_, end() - kLine * count));
    move_to(first + kLine * count);
    return first;
  }
  // As many as are due when `done` of `all` pieces of the work are done.
  void keep_up(int64_t done, int64_t all) { ask(lines_in_all() * done / all - asked_); }
  // Inlined at once: the compiler drops calls of what only prefetches.
  static __attribute__((always_inline)) void line(const std::byte* at) {
    _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T1);
  }

 private:
  int64_t lines_in_all() const { return bytes_ / kLine * count_; }
  const std::byte* end() const { return pages_[page_] + bytes_; }
  void move_to(const std::byte* next) {
    asked_ += (std::min(next, end()) - at_) / kLine;
    at_ = next;
    if (next >= end()) at_ = pages_[++page_ < count_ ? page_ : page_ - 1];
  }
  void ask(int64_t count) {
    while (count > 0 && page_ < count_) {
      const std::byte* const until = std::min(at_ + kLine * count, end());
      count -= (until - at_ + kLine - 1) / kLine;
      for (const std::byte* at = at_; at < until; at += kLine) line(at);
      move_to(until);
    }
  }

  const std::byte* pages_[kAttentionStep / kKvPageSize] = {};
  const std::byte* at_;
  int64_t bytes_, parts_, part_ = 0, count_ = 0, page_ = 0, asked_ = 0;
};

// For kRows query rows r: sums[r][d] = sums[r][d] * corrections[r] + sum over j in [begin, end) of
// weights[r * distance + j] * values[j][d], for kVectors registers of d.
template <class W, int kRows, int kVectors, class P>
inline __attribute__((always_inline)) void add_values(const P& values, int64_t d, const float* weights,
                                                      int64_t distance, int64_t begin, int64_t end,
                                                      const float* corrections, float* sums, int64_t row) {
  typename W::Floats sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const typename W::Floats correction = W::broadcast(corrections + r);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) sum[r][i] = W::mul(W::load(sums + r * row + d + W::kLanes * i), correction);
  }
  const std::byte* place = values.rows + begin * values.bytes;
  weights += begin;
  for (int64_t j = begin; j < end; ++j, place += values.bytes, ++weights) {
    typename W::Floats value[kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      value[i] = W::pinned(P::template at<W>(place, d + W::kLanes * i));
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const typename W::Floats weight = W::broadcast(weights + r * distance);
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) sum[r][i] = W::fma(weight, value[i], sum[r][i]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) W::store(sums + r * row + d + W::kLanes * i, sum[r][i]);
  }
}

}  // namespace
}  // namespace ll
