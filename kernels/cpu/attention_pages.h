// Attention over the paged KV cache, written once over the words of a level. Include only from kernels/cpu/LEVEL/;
// everything has internal linkage.
//
// One unit of work is a block of query rows (tokens of one sequence x query heads of one kv head) against the pages
// they see, in order. A page's keys, then its values, come into L1 as f32 once and serve all query rows of the block,
// several rows at a time, so that a loaded key or value meets more than one of them.
//
// For each query row and page the arithmetic is fixed: scores as dot products in lanes, one online softmax step,
// weighted values added in order of position. Which rows share a block changes nothing in it, so results do not depend
// on batch, chunk or threads.
//
// Words W of a level:
//   kLanes, Floats        floats of a register, 8 or 16
//   kRows, kKeys          query rows and keys (2 or 4) that are multiplied at once
//   kVectors              registers of a row of values that kRows query rows add at once
//   zeros(), load(p), store(p, v), broadcast(p), mul(a, b), fma(a, b, c)
//   halves(p), bytes(p)   kLanes f16 or int8 as floats
//   fold(v)               lanes i and i + 8 added: eight lanes
//   pin(v)                keeps v in its register, so that the compiler does not load or convert it once more
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/attention.h"
#include "kernels/cpu/avx2/exp.h"
#include "kernels/cpu/avx2/kv_rows.h"
#include "kernels/kernel.h"

namespace ll {
namespace {

// Rows of one plane of one page, as they lie in the cache or as f32. at<W>(j, d, scale<W>(j, d)): elements d .. of row
// j; a scale serves kKvGroup of them.
struct FloatPlane {
  const float* rows;
  int64_t stride;  // floats between rows
  template <class W>
  typename W::Floats scale(int64_t, int64_t) const {
    return W::zeros();
  }
  template <class W>
  typename W::Floats at(int64_t j, int64_t d, typename W::Floats) const {
    return W::load(rows + j * stride + d);
  }
};
struct HalfPlane {
  const std::byte* rows;
  int64_t bytes;  // of a row
  template <class W>
  typename W::Floats scale(int64_t, int64_t) const {
    return W::zeros();
  }
  template <class W>
  typename W::Floats at(int64_t j, int64_t d, typename W::Floats) const {
    return W::halves(rows + j * bytes + 2 * d);
  }
};
struct CodePlane {
  const std::byte* rows;
  int64_t bytes, scales;  // of a row, and where its scales begin
  template <class W>
  typename W::Floats scale(int64_t j, int64_t d) const {
    return W::broadcast(reinterpret_cast<const float*>(rows + j * bytes + scales) + d / kKvGroup);
  }
  template <class W>
  typename W::Floats at(int64_t j, int64_t d, typename W::Floats scale) const {
    return W::mul(scale, W::bytes(rows + j * bytes + d));
  }
};

// Sums of the lanes of four registers, each as ((0+1)+(2+3)) + ((4+5)+(6+7)).
inline __m128 sums_of(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 s = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
}

// out[r * kKvPageSize + i] = dot product of query r with key j + i, for kRows queries and W::kKeys keys.
template <class W, int kRows, class P>
inline __attribute__((always_inline)) void dot_keys(const float* queries, int64_t row, const P& keys, int64_t j,
                                                    float* out) {
  constexpr int kKeys = W::kKeys;
  typename W::Floats sum[kRows][kKeys];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kKeys; ++i) sum[r][i] = W::zeros();
  }
  const auto add = [&](int64_t d, const typename W::Floats(&scale)[kKeys]) __attribute__((always_inline)) {
    typename W::Floats key[kKeys];
#pragma GCC unroll 4
    for (int i = 0; i < kKeys; ++i) {
      key[i] = keys.template at<W>(j + i, d, scale[i]);
      W::pin(key[i]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const typename W::Floats query = W::load(queries + r * row + d);
#pragma GCC unroll 4
      for (int i = 0; i < kKeys; ++i) sum[r][i] = W::fma(query, key[i], sum[r][i]);
    }
  };
  for (int64_t group = 0; group < row; group += kKvGroup) {
    typename W::Floats scale[kKeys];
#pragma GCC unroll 4
    for (int i = 0; i < kKeys; ++i) scale[i] = keys.template scale<W>(j + i, group);
    if (group + kKvGroup <= row) {
#pragma GCC unroll 4
      for (int64_t d = 0; d < kKvGroup; d += W::kLanes) add(group + d, scale);
    } else {
      for (int64_t d = group; d < row; d += W::kLanes) add(d, scale);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; r += 4 / kKeys) {
    if constexpr (kKeys == 4) {
      _mm_storeu_ps(out + r * kKvPageSize,
                    sums_of(W::fold(sum[r][0]), W::fold(sum[r][1]), W::fold(sum[r][2]), W::fold(sum[r][3])));
    } else {
      const int next = r + 1 < kRows ? r + 1 : r;
      const __m128 sums = sums_of(W::fold(sum[r][0]), W::fold(sum[r][1]), W::fold(sum[next][0]), W::fold(sum[next][1]));
      _mm_storel_pi(reinterpret_cast<__m64*>(out + r * kKvPageSize), sums);
      _mm_storeh_pi(reinterpret_cast<__m64*>(out + next * kKvPageSize), sums);
    }
  }
}

// Asks for part `n` of `parts` of a plane that the work on the page kAhead further on will read. Without it each page
// starts with cold misses: pages lie far apart, so the hardware does not see them coming.
constexpr int64_t kAhead = 2;
inline void prefetch(const std::byte* plane, int64_t bytes, int64_t n, int64_t parts) {
  if (plane == nullptr) return;
  for (int64_t at = bytes * n / parts & ~int64_t{63}; at < bytes * (n + 1) / parts; at += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(plane + at), _MM_HINT_T1);
  }
}

// For kRows query rows r: sums[r][d] = sums[r][d] * corrections[r] + sum over j in [begin, end) of weights[r][j] *
// values[j][d], for kVectors registers of d.
template <class W, int kRows, int kVectors, class P>
inline __attribute__((always_inline)) void add_values(const P& values, int64_t d, const float* weights, int64_t begin,
                                                      int64_t end, const float* corrections, float* sums, int64_t row) {
  typename W::Floats sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const typename W::Floats correction = W::broadcast(corrections + r);
    for (int i = 0; i < kVectors; ++i) sum[r][i] = W::mul(W::load(sums + r * row + d + W::kLanes * i), correction);
  }
  for (int64_t j = begin; j < end; ++j) {
    // d is a multiple of the registers' elements, so that a scale changes where those of a group are complete.
    typename W::Floats value[kVectors], scale = values.template scale<W>(j, d);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      if (i > 0 && W::kLanes * i % kKvGroup == 0) scale = values.template scale<W>(j, d + W::kLanes * i);
      value[i] = values.template at<W>(j, d + W::kLanes * i, scale);
      W::pin(value[i]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const typename W::Floats weight = W::broadcast(weights + r * kKvPageSize + j);
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) sum[r][i] = W::fma(weight, value[i], sum[r][i]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    for (int i = 0; i < kVectors; ++i) W::store(sums + r * row + d + W::kLanes * i, sum[r][i]);
  }
}

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
        scale_(static_cast<float>(call.attrs.f64("scale"))),
        queries_(reinterpret_cast<float*>(call.scratch.data())),
        sums_(queries_ + kAttentionQueries * row_),
        page_(sums_ + kAttentionQueries * row_),
        weights_(page_ + kKvPageSize * row_),
        totals_(weights_ + kAttentionQueries * kKvPageSize) {}

  // Adds query rows of one token, heads [head, head + count), which see positions [first, last].
  void add_token(int64_t token, int64_t head, int64_t count, int64_t first, int64_t last) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t n = size_++;
      token_[n] = token, head_[n] = head + i, first_[n] = first, last_[n] = last;
      largest_[n] = -std::numeric_limits<float>::infinity();
      float* query = queries_ + n * row_;
      std::memcpy(query, q_.row<float>(token) + (head + i) * head_dim_, static_cast<size_t>(4 * head_dim_));
      std::fill(query + head_dim_, query + row_, 0.0f);
      std::fill(sums_ + n * row_, sums_ + (n + 1) * row_, 0.0f);
      std::fill(totals_ + n * 8, totals_ + (n + 1) * 8, 0.0f);
    }
  }

  // Works through the pages and writes the outputs; the block is empty afterwards.
  void run(const int32_t* pages, int64_t kv_head) {
    const int64_t first = *std::min_element(first_, first_ + size_), last = *std::max_element(last_, last_ + size_);
    for (int64_t page = first / kKvPageSize; page <= last / kKvPageSize; ++page) {
      const int64_t start = page * kKvPageSize;
      const int64_t begin = std::max<int64_t>(first - start, 0), end = std::min(last + 1 - start, kKvPageSize);
      const bool more = page + kAhead <= last / kKvPageSize;
      const int64_t plane_bytes = kKvPageSize * bytes_, value_plane = kv_.dim(1) / 2 + kv_head;
      const std::byte* next_keys = more ? plane(pages[page + kAhead], kv_head) : nullptr;
      const std::byte* next_values = more ? plane(pages[page + kAhead], value_plane) : nullptr;
      with_plane(pages[page], kv_head, begin, end, [&](const auto& keys) {
        for (int64_t n = 0, rows = 0; n < size_; n += rows) {
          rows = together(n, start);
          for (int64_t i = n; i < n + rows; ++i) prefetch(next_keys, plane_bytes, i, size_);
          if (rows == W::kRows) {
            multiply_keys<W::kRows>(n, keys, start);
          } else {
            multiply_keys<1>(n, keys, start);
          }
          for (int64_t i = n; i < n + rows; ++i) weigh(i, start);
        }
      });
      with_plane(pages[page], value_plane, begin, end, [&](const auto& values) {
        for (int64_t n = 0, rows = 0; n < size_; n += rows) {
          rows = together(n, start);
          for (int64_t i = n; i < n + rows; ++i) prefetch(next_values, plane_bytes, i, size_);
          if (rows == W::kRows) {
            accumulate<W::kRows>(n, values, start);
          } else {
            accumulate<1>(n, values, start);
          }
        }
      });
    }
    for (int64_t n = 0; n < size_; ++n) write(n);
    size_ = 0;
  }

 private:
  const std::byte* plane(int64_t page, int64_t index) const {
    return kv_.data + kv_row_offset(bytes_, kv_.dim(1), page * kKvPageSize, index);
  }

  // Calls work(plane) with rows [begin, end) of a plane of a page; other rows may hold anything. What few query rows
  // read is converted on the way, what many read becomes f32 first: the values are the same.
  template <class F>
  void with_plane(int64_t page, int64_t index, int64_t begin, int64_t end, F work) {
    const std::byte* rows = plane(page, index);
    const bool whole = head_dim_ == row_;  // without padding
    if (kv_.dtype == DType::kF32 && whole) return work(FloatPlane{reinterpret_cast<const float*>(rows), row_});
    if (size_ <= W::kRows && kv_.dtype == DType::kF16 && whole) return work(HalfPlane{rows, bytes_});
    if (size_ <= W::kRows && kv_.dtype == DType::kI8 && whole) {
      return work(CodePlane{rows, bytes_, kv_scales_offset(head_dim_)});
    }
    for (int64_t j = begin; j < end; ++j) {
      avx2::load_row(kv_.dtype, rows + j * bytes_, head_dim_, row_, page_ + j * row_);
    }
    work(FloatPlane{page_, row_});
  }

  // The places of a page that starts at position `start` which query row n sees.
  int64_t begin_of(int64_t n, int64_t start) const { return std::max<int64_t>(first_[n] - start, 0); }
  int64_t end_of(int64_t n, int64_t start) const { return std::min(last_[n] + 1 - start, kKvPageSize); }

  // Query rows from n on that can be worked on at once: W::kRows that see the same places of the page, or 1.
  int64_t together(int64_t n, int64_t start) const {
    if (n + W::kRows > size_) return 1;
    for (int64_t i = n + 1; i < n + W::kRows; ++i) {
      if (begin_of(i, start) != begin_of(n, start) || end_of(i, start) != end_of(n, start)) return 1;
    }
    return W::kRows;
  }

  template <int kRows, class P>
  void multiply_keys(int64_t n, const P& keys, int64_t start) {
    const int64_t end = end_of(n, start);
    for (int64_t j = begin_of(n, start) / W::kKeys * W::kKeys; j < end; j += W::kKeys) {
      dot_keys<W, kRows>(queries_ + n * row_, row_, keys, j, weights_ + n * kKvPageSize + j);
    }
  }

  // Turns scores into weights against the largest score so far. Places the row does not see get weight 0 from a score
  // of -infinity, whatever lies there.
  void weigh(int64_t n, int64_t start) {
    const int64_t begin = begin_of(n, start), end = end_of(n, start);
    if (begin >= end) return;
    float* weights = weights_ + n * kKvPageSize;
    const __m256 scale = _mm256_set1_ps(scale_), none = _mm256_set1_ps(-std::numeric_limits<float>::infinity());
    const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256 scores[kKvPageSize / 8];
    __m256 top = none;
    for (int64_t j = 0; j < kKvPageSize; j += 8) {
      scores[j / 8] = none;
      if (j + 8 <= begin || j >= end) continue;
      const __m256 s = _mm256_mul_ps(_mm256_load_ps(weights + j), scale);
      const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(begin - j)), places);
      const __m256i inside = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(end - j)), places);
      const __m256i seen = _mm256_andnot_si256(below, inside);
      scores[j / 8] = _mm256_blendv_ps(none, s, _mm256_castsi256_ps(seen));
      top = _mm256_max_ps(top, scores[j / 8]);
    }
    const float largest = std::max(largest_[n], avx2::max_lanes(top));
    const __m256 most = _mm256_set1_ps(largest);
    const __m256 correction = avx2::exp(_mm256_sub_ps(_mm256_set1_ps(largest_[n]), most));
    for (int64_t j = 0; j < kKvPageSize; j += 8) {
      scores[j / 8] = avx2::exp(_mm256_sub_ps(scores[j / 8], most));
      _mm256_store_ps(weights + j, scores[j / 8]);
    }
    const __m256 added = _mm256_add_ps(_mm256_add_ps(scores[0], scores[1]), _mm256_add_ps(scores[2], scores[3]));
    _mm256_store_ps(totals_ + 8 * n, _mm256_fmadd_ps(_mm256_load_ps(totals_ + 8 * n), correction, added));
    largest_[n] = largest;
    correction_[n] = _mm256_cvtss_f32(correction);
  }

  template <int kRows, class P>
  void accumulate(int64_t n, const P& values, int64_t start) {
    const int64_t begin = begin_of(n, start), end = end_of(n, start);
    if (begin >= end) return;
    const float *weights = weights_ + n * kKvPageSize, *corrections = correction_ + n;
    float* sums = sums_ + n * row_;
    constexpr int kVectors = W::kVectors, kWide = kVectors * W::kLanes;
    int64_t d = 0;
    for (; d + kWide <= row_; d += kWide) {
      add_values<W, kRows, kVectors>(values, d, weights, begin, end, corrections, sums, row_);
    }
    for (; d < row_; d += W::kLanes) {
      add_values<W, kRows, 1>(values, d, weights, begin, end, corrections, sums, row_);
    }
  }

  void write(int64_t n) const {
    const __m256 total = _mm256_set1_ps(avx2::sum_lanes(_mm256_load_ps(totals_ + 8 * n)));
    float* y = y_.row<float>(token_[n]) + head_[n] * head_dim_;
    for (int64_t d = 0; d < head_dim_; d += 8) {
      avx2::store_part(y + d, head_dim_ - d, _mm256_div_ps(_mm256_load_ps(sums_ + n * row_ + d), total));
    }
  }

  const TensorView &q_, &kv_, &y_;
  int64_t head_dim_, row_, bytes_;
  float scale_;
  float *queries_, *sums_, *page_, *weights_, *totals_;  // scratch: kernels/attention.h
  int64_t size_ = 0;                                     // query rows in the block
  int64_t token_[kAttentionQueries], head_[kAttentionQueries], first_[kAttentionQueries], last_[kAttentionQueries];
  float largest_[kAttentionQueries], correction_[kAttentionQueries];
};

template <class W>
void attention_of(const KernelCall& call) {
  const TensorView &q = call.in[0], &table = call.in[4];
  const int32_t* positions = reinterpret_cast<const int32_t*>(call.in[2].data);
  const int32_t* sequences = reinterpret_cast<const int32_t*>(call.in[3].data);
  const int64_t tokens = q.dim(0), kv_heads = call.attrs.i64("kv_heads"), window = call.attrs.i64("window");
  const int64_t group = call.attrs.i64("heads") / kv_heads;
  if (tokens == 0) return;

  // Heads of a group stay together, to share the page, unless there would be fewer units than threads.
  int64_t parts = (group + kAttentionQueries - 1) / kAttentionQueries;
  if (tokens * kv_heads * parts < call.threads) {
    parts = std::clamp(call.threads / (tokens * kv_heads), parts, group);
  }
  const int64_t part = (group + parts - 1) / parts, block = kAttentionQueries / part;

  Block<W> work(call);
  // Units go to the threads in turn: later blocks of a prompt see more, and in turn is nearly even.
  int64_t unit = 0;
  for (int64_t t = 0, end = 0; t < tokens; t = end) {
    while (end < tokens && end < t + block && sequences[end] == sequences[t]) ++end;
    const int32_t* pages = reinterpret_cast<const int32_t*>(table.data) + sequences[t] * table.last();
    for (int64_t h = 0; h < kv_heads; ++h) {
      for (int64_t begin = 0; begin < group; begin += part, ++unit) {
        if (unit % call.threads != call.thread) continue;
        const int64_t heads = std::min(part, group - begin);
        for (int64_t i = t; i < end; ++i) {
          const int64_t first = window > 0 ? std::max<int64_t>(0, positions[i] - window + 1) : 0;
          work.add_token(i, h * group + begin, heads, first, positions[i]);
        }
        work.run(pages, h);
      }
    }
  }
}

}  // namespace
}  // namespace ll
