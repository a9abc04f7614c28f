#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/check.h"
#include "kernels/ref/ref.h"

namespace ll::ref {
namespace {

constexpr double kMaxScale = 1e6;
constexpr int64_t kMaxWindow = std::numeric_limits<int32_t>::max();

double dot(const float* a, const float* b, int64_t size) {
  double sum = 0;
  for (int64_t i = 0; i < size; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

}  // namespace

Status check_attention(const LaunchSpec& spec) {
  TRY(check::operands(spec, 5, 1));
  const TensorType &q = spec.in[0], &positions = spec.in[2], &sequences = spec.in[3];
  TRY_ASSIGN(const check::Heads h, check::heads(spec.attrs));
  TRY(check::tensor(q, "q", DType::kF32, 2));
  TRY(check::dim(q, "q", 1, h.heads * h.head_dim, "heads * head_dim"));
  TRY(check::kv_cache(spec.in[1], "kv", h.kv_heads, h.head_dim));
  TRY(check::tensor(positions, "positions", DType::kI32, 1));
  TRY(check::dim(positions, "positions", 0, q.dim(0), "rows of q"));
  TRY(check::tensor(sequences, "sequences", DType::kI32, 1));
  TRY(check::dim(sequences, "sequences", 0, q.dim(0), "rows of q"));
  TRY(check::tensor(spec.in[4], "block_table", DType::kI32, 2));
  TRY(check::number(spec.attrs, "scale", -kMaxScale, kMaxScale));
  TRY(check::integer(spec.attrs, "window", 0, kMaxWindow));
  return check::same(spec.out[0], "y", q, "q");
}

uint64_t scratch_attention(const LaunchSpec& spec) {
  const TensorType& kv = spec.in[1];
  const int64_t bytes = attention_scratch_bytes(kv.dim(3).value);
  if (kv.dtype != DType::kF16) return static_cast<uint64_t>(bytes);
  return static_cast<uint64_t>(std::max(bytes, attention_tiles_scratch_bytes(kv.dim(3).value)));
}

Cost cost_attention(const LaunchSpec& spec) {
  const TensorType &q = spec.in[0], &kv = spec.in[1], &table = spec.in[4];
  const int64_t tokens = q.dim(0).value, window = spec.attrs.i64("window");
  const int64_t capacity = table.last().value * kKvPageSize;
  const int64_t visible = window > 0 ? std::min(window, capacity) : capacity;
  // Every sequence of the step reads the keys and values that its tokens see, once.
  const int64_t sequences = std::min(tokens, table.dim(0).value);
  const int64_t row = kv_row_bytes(kv.dtype, kv.dim(3).value);
  return {2 * cost::bytes(q) + cost::product({sequences, visible, kv.dim(1).value, row}),
          cost::product({4, tokens, q.last().value, visible})};
}

// Two passes over the keys: the largest score, then the weights. Nothing is kept a position, so any length fits.
void attention(const KernelCall& call) {
  const TensorView &q = call.in[0], &kv = call.in[1], &table = call.in[4], &y = call.out[0];
  const int32_t* positions = reinterpret_cast<const int32_t*>(call.in[2].data);
  const int32_t* sequences = reinterpret_cast<const int32_t*>(call.in[3].data);
  const int64_t heads = call.attrs.i64("heads"), window = call.attrs.i64("window");
  const int64_t planes = kv.dim(1), kv_heads = planes / 2, head_dim = kv.dim(3), group = heads / kv_heads;
  const int64_t bytes = kv_row_bytes(kv.dtype, head_dim);
  const double scale = call.attrs.f64("scale");
  double* sums = reinterpret_cast<double*>(call.scratch.data());
  float* row = reinterpret_cast<float*>(sums + attention_row(head_dim));

  const Range units = split(q.dim(0) * heads, 1, call.thread, call.threads);
  for (int64_t unit = units.begin; unit < units.end; ++unit) {
    const int64_t t = unit / heads, h = unit % heads, plane = h / group;
    const int64_t last = positions[t], first = window > 0 ? std::max<int64_t>(0, last - window + 1) : 0;
    const float* query = q.row<float>(t) + h * head_dim;
    const int32_t* pages = reinterpret_cast<const int32_t*>(table.data) + sequences[t] * table.last();
    const auto load = [&](int64_t j, KvPart part) {
      const int64_t slot = int64_t{pages[j / kKvPageSize]} * kKvPageSize + j % kKvPageSize;
      const std::byte* const from = kv.data + kv_plane_offset(bytes, planes, slot, part, plane);
      kv_load(kv.dtype, from, part, slot % kKvPageSize, head_dim, row);
    };

    double largest = -std::numeric_limits<double>::infinity();
    for (int64_t j = first; j <= last; ++j) {
      load(j, KvPart::kKeys);
      largest = std::max(largest, scale * dot(query, row, head_dim));
    }
    double total = 0;
    std::fill(sums, sums + head_dim, 0.0);
    for (int64_t j = first; j <= last; ++j) {
      load(j, KvPart::kKeys);
      const double weight = std::exp(scale * dot(query, row, head_dim) - largest);
      total += weight;
      load(j, KvPart::kValues);
      for (int64_t d = 0; d < head_dim; ++d) sums[d] += weight * row[d];
    }
    float* out = y.row<float>(t) + h * head_dim;
    for (int64_t d = 0; d < head_dim; ++d) out[d] = static_cast<float>(sums[d] / total);
  }
}

}  // namespace ll::ref
