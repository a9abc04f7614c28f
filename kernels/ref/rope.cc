#include "kernels/rope.h"

#include <cmath>
#include <cstring>

#include "kernels/check.h"
#include "kernels/kv_layout.h"
#include "kernels/ref/ref.h"

namespace ll {

void rope_factors(int32_t position, const float* inv_freq, int64_t pairs, double mscale, float* c, float* s) {
  const float scale = static_cast<float>(mscale);
  for (int64_t i = 0; i < pairs; ++i) {
    const double angle = static_cast<float>(position) * inv_freq[i];
    c[i] = static_cast<float>(std::cos(angle)) * scale;
    s[i] = static_cast<float>(std::sin(angle)) * scale;
  }
}

namespace ref {
namespace {

constexpr double kMaxMscale = 1e4;

Status check_rotation(const LaunchSpec& spec, const TensorType& inv_freq, int64_t head_dim) {
  TRY(check::tensor(inv_freq, "inv_freq", DType::kF32, 1));
  const Dim pairs = inv_freq.dim(0);
  if (pairs.symbol != Symbol::kNone || 2 * pairs.value > head_dim) {
    return bad_data("'inv_freq' is {}, expected at most half of head_dim ({})", check::describe(inv_freq), head_dim);
  }
  TRY(check::word(spec.attrs, "style", {"half", "interleaved"}));
  TRY(check::number(spec.attrs, "mscale", -kMaxMscale, kMaxMscale));
  return {};
}

// y may be x.
void rotate_head(const float* x, const float* c, const float* s, int64_t pairs, bool interleaved, int64_t head_dim,
                 float* y) {
  for (int64_t i = 0; i < pairs; ++i) {
    const int64_t a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + pairs;
    const double x0 = x[a], x1 = x[b];
    y[a] = static_cast<float>(x0 * c[i] - x1 * s[i]);
    y[b] = static_cast<float>(x1 * c[i] + x0 * s[i]);
  }
  if (y != x) std::memcpy(y + 2 * pairs, x + 2 * pairs, static_cast<size_t>(4 * (head_dim - 2 * pairs)));
}

}  // namespace

Status check_rope(const LaunchSpec& spec) {
  TRY(check::operands(spec, 3, 1));
  const TensorType& x = spec.in[0];
  TRY_ASSIGN(const int64_t head_dim, check::integer(spec.attrs, "head_dim", 1, check::kMaxHeadDim));
  TRY(check::tensor(x, "x", DType::kF32, 2));
  if (x.last().value % head_dim != 0) {
    return bad_data("'x' is {}, expected rows that are a multiple of head_dim ({})", check::describe(x), head_dim);
  }
  TRY(check::tensor(spec.in[1], "positions", DType::kI32, 1));
  TRY(check::dim(spec.in[1], "positions", 0, x.dim(0), "rows of x"));
  TRY(check_rotation(spec, spec.in[2], head_dim));
  return check::same(spec.out[0], "y", x, "x");
}

uint64_t scratch_rope(const LaunchSpec& spec) {
  return static_cast<uint64_t>(rope_factor_bytes(spec.in[2].dim(0).value));
}

Cost cost_rope(const LaunchSpec& spec) {
  return {cost::all_bytes(spec), cost::product({3, spec.in[0].dim(0).value, spec.in[0].last().value})};
}

void rope(const KernelCall& call) {
  const TensorView &x = call.in[0], &y = call.out[0];
  const int32_t* positions = reinterpret_cast<const int32_t*>(call.in[1].data);
  const float* inv_freq = reinterpret_cast<const float*>(call.in[2].data);
  const int64_t pairs = call.in[2].dim(0), head_dim = call.attrs.i64("head_dim");
  const bool interleaved = call.attrs.text("style") == "interleaved";
  const double mscale = call.attrs.f64("mscale");
  float *c = reinterpret_cast<float*>(call.scratch.data()), *s = c + rope_factor_stride(pairs);
  const Range rows = split(x.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    rope_factors(positions[t], inv_freq, pairs, mscale, c, s);
    for (int64_t h = 0; h < x.last(); h += head_dim) {
      rotate_head(x.row<float>(t) + h, c, s, pairs, interleaved, head_dim, y.row<float>(t) + h);
    }
  }
}

Status check_kv_write(const LaunchSpec& spec) {
  TRY(check::operands(spec, 4, 1));
  const TensorType &kv = spec.in[0], &k = spec.in[1], &v = spec.in[2], &slots = spec.in[3];
  // The shape of the cache says how many heads there are; k and v must agree with it.
  if (kv.rank != 4 || kv.dim(1).value < 2 || kv.dim(1).value % 2 != 0 || kv.dim(1).value > 2 * check::kMaxHeads ||
      kv.dim(3).value < 1 || kv.dim(3).value > check::kMaxHeadDim) {
    return bad_data("'kv' is {}, expected a KV cache of 1 to {} heads of 1 to {} elements", check::describe(kv),
                    check::kMaxHeads, check::kMaxHeadDim);
  }
  const int64_t kv_heads = kv.dim(1).value / 2, head_dim = kv.dim(3).value;
  TRY(check::kv_cache(kv, "kv", kv_heads, head_dim));
  TRY(check::tensor(k, "k", DType::kF32, 2));
  TRY(check::dim(k, "k", 1, kv_heads * head_dim, "kv_heads * head_dim"));
  TRY(check::same(v, "v", k, "k"));
  TRY(check::tensor(slots, "slots", DType::kI32, 1));
  TRY(check::dim(slots, "slots", 0, k.dim(0), "rows of k"));
  return check::same(spec.out[0], "kv out", kv, "kv");
}

Cost cost_kv_write(const LaunchSpec& spec) {
  const TensorType &kv = spec.in[0], &k = spec.in[1];
  const int64_t row = kv_row_bytes(kv.dtype, kv.dim(3).value);
  return {2 * cost::bytes(k) + cost::bytes(spec.in[3]) + cost::product({k.dim(0).value, kv.dim(1).value, row}), 0};
}

// A row of head_dim values to `slot` of a cache.
void put_row(const TensorView& kv, KvPart part, int64_t head, int64_t slot, const float* values) {
  const int64_t plane = kv_plane_offset(kv_row_bytes(kv.dtype, kv.dim(3)), kv.dim(1), slot, part, head);
  kv_store(kv.dtype, values, kv.dim(3), part, kv.data + plane, slot % kKvPageSize);
}

void kv_write(const KernelCall& call) {
  const TensorView &k = call.in[1], &v = call.in[2], &kv = call.out[0];
  const int32_t* slots = reinterpret_cast<const int32_t*>(call.in[3].data);
  const int64_t heads = kv.dim(1) / 2, head_dim = kv.dim(3);
  const Range rows = split(k.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      put_row(kv, KvPart::kKeys, h, slots[t], k.row<float>(t) + h * head_dim);
      put_row(kv, KvPart::kValues, h, slots[t], v.row<float>(t) + h * head_dim);
    }
  }
}

Status check_rope_kv_write(const LaunchSpec& spec) {
  TRY(check::operands(spec, 5, 2));
  const TensorType &kv = spec.in[0], &qkv = spec.in[1], &positions = spec.in[2], &slots = spec.in[3];
  TRY_ASSIGN(const check::Heads h, check::heads(spec.attrs));
  TRY(check::kv_cache(kv, "kv", h.kv_heads, h.head_dim));
  TRY(check::tensor(qkv, "qkv", DType::kF32, 2));
  TRY(check::dim(qkv, "qkv", 1, (h.heads + 2 * h.kv_heads) * h.head_dim, "(heads + 2 * kv_heads) * head_dim"));
  TRY(check::tensor(positions, "positions", DType::kI32, 1));
  TRY(check::dim(positions, "positions", 0, qkv.dim(0), "rows of qkv"));
  TRY(check::tensor(slots, "slots", DType::kI32, 1));
  TRY(check::dim(slots, "slots", 0, qkv.dim(0), "rows of qkv"));
  TRY(check_rotation(spec, spec.in[4], h.head_dim));
  TRY(check::tensor(spec.out[0], "q", DType::kF32, 2));
  TRY(check::dim(spec.out[0], "q", 0, qkv.dim(0), "rows of qkv"));
  TRY(check::dim(spec.out[0], "q", 1, h.heads * h.head_dim, "heads * head_dim"));
  return check::same(spec.out[1], "kv out", kv, "kv");
}

uint64_t scratch_rope_kv_write(const LaunchSpec& spec) {
  return static_cast<uint64_t>(rope_factor_bytes(spec.in[4].dim(0).value) + 4 * spec.in[0].dim(3).value);
}

Cost cost_rope_kv_write(const LaunchSpec& spec) {
  const TensorType &kv = spec.in[0], &qkv = spec.in[1];
  const int64_t row = kv_row_bytes(kv.dtype, kv.dim(3).value), tokens = qkv.dim(0).value;
  return {cost::bytes(qkv) + cost::bytes(spec.out[0]) + cost::product({tokens, kv.dim(1).value, row}),
          cost::product({3, tokens, qkv.last().value})};
}

void rope_kv_write(const KernelCall& call) {
  const TensorView &qkv = call.in[1], &q = call.out[0], &kv = call.out[1];
  const int32_t* positions = reinterpret_cast<const int32_t*>(call.in[2].data);
  const int32_t* slots = reinterpret_cast<const int32_t*>(call.in[3].data);
  const float* inv_freq = reinterpret_cast<const float*>(call.in[4].data);
  const int64_t pairs = call.in[4].dim(0), kv_heads = kv.dim(1) / 2, head_dim = kv.dim(3);
  const bool interleaved = call.attrs.text("style") == "interleaved";
  const double mscale = call.attrs.f64("mscale");
  float *c = reinterpret_cast<float*>(call.scratch.data()), *s = c + rope_factor_stride(pairs);
  float* rotated = s + rope_factor_stride(pairs);
  const Range rows = split(qkv.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    rope_factors(positions[t], inv_freq, pairs, mscale, c, s);
    const float* x = qkv.row<float>(t);
    for (int64_t d = 0; d < q.last(); d += head_dim, x += head_dim) {
      rotate_head(x, c, s, pairs, interleaved, head_dim, q.row<float>(t) + d);
    }
    for (int64_t h = 0; h < kv_heads; ++h, x += head_dim) {
      rotate_head(x, c, s, pairs, interleaved, head_dim, rotated);
      put_row(kv, KvPart::kKeys, h, slots[t], rotated);
    }
    for (int64_t h = 0; h < kv_heads; ++h, x += head_dim) {
      put_row(kv, KvPart::kValues, h, slots[t], x);
    }
  }
}

}  // namespace ref
}  // namespace ll
