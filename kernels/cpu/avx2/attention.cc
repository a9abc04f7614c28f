// One unit of work is a block of query rows (tokens of one sequence x query heads of one kv head) against the pages
// they see, in order. A page's keys, then its values, come into L1 as f32 once and serve all query rows of the block.
//
// For each query row and page the arithmetic is fixed: scores as 8-lane dot products, one online softmax step, weighted
// values added in order of position. Which rows share a block changes nothing in it, so results do not depend on batch,
// chunk or threads.
#include "kernels/attention.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/cpu/avx2/avx2.h"
#include "kernels/cpu/avx2/exp.h"
#include "kernels/cpu/avx2/kv_rows.h"

namespace ll::avx2 {
namespace {

// Rows of one plane of one page as f32.
struct Plane {
  const float* rows;
  int64_t stride;  // floats between rows
};

// Dot products of one query with 8 keys: lane i holds key i's.
__m256 dot8(const float* query, const float* keys, int64_t stride, int64_t size) {
  __m256 sum[8];
  for (int i = 0; i < 8; ++i) sum[i] = _mm256_setzero_ps();
  for (int64_t d = 0; d < size; d += 8) {
    const __m256 q = _mm256_load_ps(query + d);
    for (int i = 0; i < 8; ++i) sum[i] = _mm256_fmadd_ps(q, _mm256_loadu_ps(keys + i * stride + d), sum[i]);
  }
  const __m256 s01 = _mm256_hadd_ps(sum[0], sum[1]), s23 = _mm256_hadd_ps(sum[2], sum[3]);
  const __m256 s45 = _mm256_hadd_ps(sum[4], sum[5]), s67 = _mm256_hadd_ps(sum[6], sum[7]);
  const __m256 s0123 = _mm256_hadd_ps(s01, s23), s4567 = _mm256_hadd_ps(s45, s67);
  return _mm256_add_ps(_mm256_permute2f128_ps(s0123, s4567, 0x20), _mm256_permute2f128_ps(s0123, s4567, 0x31));
}

// Asks for part `n` of `parts` of a plane that the next page's work will read. Without it each page starts with cold
// misses: pages lie far apart, so the hardware does not see them coming.
void prefetch(const std::byte* plane, int64_t bytes, int64_t n, int64_t parts) {
  if (plane == nullptr) return;
  for (int64_t at = bytes * n / parts & ~int64_t{63}; at < bytes * (n + 1) / parts; at += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(plane + at), _MM_HINT_T1);
  }
}

// sums[d] = sums[d] * correction + sum over j in [begin, end) of weights[j] * values[j][d], for 8 * kVectors floats.
template <int kVectors>
void add_values(const Plane& values, int64_t d, const float* weights, int64_t begin, int64_t end, float correction,
                float* sums) {
  __m256 sum[kVectors];
  const __m256 factor = _mm256_set1_ps(correction);
  for (int i = 0; i < kVectors; ++i) sum[i] = _mm256_mul_ps(_mm256_load_ps(sums + d + 8 * i), factor);
  for (int64_t j = begin; j < end; ++j) {
    const __m256 weight = _mm256_broadcast_ss(weights + j);
    const float* row = values.rows + j * values.stride + d;
    for (int i = 0; i < kVectors; ++i) sum[i] = _mm256_fmadd_ps(weight, _mm256_loadu_ps(row + 8 * i), sum[i]);
  }
  for (int i = 0; i < kVectors; ++i) _mm256_store_ps(sums + d + 8 * i, sum[i]);
}

// What one thread keeps while it works on a unit.
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
      const bool more = page < last / kKvPageSize;
      const int64_t plane_bytes = kKvPageSize * bytes_, value_plane = kv_.dim(1) / 2 + kv_head;
      const std::byte* next_keys = more ? plane(pages[page + 1], kv_head) : nullptr;
      const std::byte* next_values = more ? plane(pages[page + 1], value_plane) : nullptr;
      const Plane keys = load(pages[page], kv_head, begin, end);
      for (int64_t n = 0; n < size_; ++n) {
        prefetch(next_keys, plane_bytes, n, size_);
        score(n, keys, start);
      }
      const Plane values = load(pages[page], value_plane, begin, end);
      for (int64_t n = 0; n < size_; ++n) {
        prefetch(next_values, plane_bytes, n, size_);
        accumulate(n, values, start);
      }
    }
    for (int64_t n = 0; n < size_; ++n) write(n);
    size_ = 0;
  }

 private:
  const std::byte* plane(int64_t page, int64_t index) const {
    return kv_.data + kv_row_offset(bytes_, kv_.dim(1), page * kKvPageSize, index);
  }

  // Rows [begin, end) of a plane as f32; the others may hold anything.
  Plane load(int64_t page, int64_t index, int64_t begin, int64_t end) {
    const std::byte* rows = plane(page, index);
    if (kv_.dtype == DType::kF32 && head_dim_ == row_) return {reinterpret_cast<const float*>(rows), row_};
    if (kv_.dtype == DType::kF16 && head_dim_ == row_) {  // the rows follow one another without gaps
      const auto* half = reinterpret_cast<const uint16_t*>(rows);
      for (int64_t i = begin * row_; i < end * row_; i += 16) {
        _mm256_store_ps(page_ + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(half + i))));
        _mm256_store_ps(page_ + i + 8,
                        _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(half + i + 8))));
      }
      return {page_, row_};
    }
    for (int64_t j = begin; j < end; ++j) load_row(kv_.dtype, rows + j * bytes_, head_dim_, row_, page_ + j * row_);
    return {page_, row_};
  }

  // The places of a page that starts at position `start` which query row n sees.
  int64_t begin_of(int64_t n, int64_t start) const { return std::max<int64_t>(first_[n] - start, 0); }
  int64_t end_of(int64_t n, int64_t start) const { return std::min(last_[n] + 1 - start, kKvPageSize); }

  // Turns scores into weights against the largest score so far. Places the row does not see get weight 0 from a score
  // of -infinity, whatever lies there.
  void score(int64_t n, const Plane& keys, int64_t start) {
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
      const __m256 s = _mm256_mul_ps(dot8(queries_ + n * row_, keys.rows + j * keys.stride, keys.stride, row_), scale);
      const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(begin - j)), places);
      const __m256i inside = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(end - j)), places);
      const __m256i seen = _mm256_andnot_si256(below, inside);
      scores[j / 8] = _mm256_blendv_ps(none, s, _mm256_castsi256_ps(seen));
      top = _mm256_max_ps(top, scores[j / 8]);
    }
    const float largest = std::max(largest_[n], max_lanes(top));
    const __m256 most = _mm256_set1_ps(largest);
    const __m256 correction = exp(_mm256_sub_ps(_mm256_set1_ps(largest_[n]), most));
    for (int64_t j = 0; j < kKvPageSize; j += 8) {
      scores[j / 8] = exp(_mm256_sub_ps(scores[j / 8], most));
      _mm256_store_ps(weights + j, scores[j / 8]);
    }
    const __m256 added = _mm256_add_ps(_mm256_add_ps(scores[0], scores[1]), _mm256_add_ps(scores[2], scores[3]));
    _mm256_store_ps(totals_ + 8 * n, _mm256_fmadd_ps(_mm256_load_ps(totals_ + 8 * n), correction, added));
    largest_[n] = largest;
    correction_[n] = _mm256_cvtss_f32(correction);
  }

  void accumulate(int64_t n, const Plane& values, int64_t start) {
    const int64_t begin = begin_of(n, start), end = end_of(n, start);
    if (begin >= end) return;
    const float* weights = weights_ + n * kKvPageSize;
    float* sums = sums_ + n * row_;
    int64_t d = 0;
    for (; d + 64 <= row_; d += 64) add_values<8>(values, d, weights, begin, end, correction_[n], sums);
    for (; d + 32 <= row_; d += 32) add_values<4>(values, d, weights, begin, end, correction_[n], sums);
    for (; d < row_; d += 16) add_values<2>(values, d, weights, begin, end, correction_[n], sums);
  }

  void write(int64_t n) const {
    const __m256 total = _mm256_set1_ps(sum_lanes(_mm256_load_ps(totals_ + 8 * n)));
    float* y = y_.row<float>(token_[n]) + head_[n] * head_dim_;
    for (int64_t d = 0; d < head_dim_; d += 8) {
      store_part(y + d, head_dim_ - d, _mm256_div_ps(_mm256_load_ps(sums_ + n * row_ + d), total));
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

}  // namespace

void attention(const KernelCall& call) {
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

  Block work(call);
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

}  // namespace ll::avx2
