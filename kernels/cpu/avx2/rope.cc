#include "kernels/rope.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/avx2/avx2.h"
#include "kernels/cpu/avx2/kv_rows.h"
#include "kernels/cpu/avx2/sincos.h"
#include "kernels/cpu/avx2/vector.h"
#include "kernels/cpu/streamed.h"

namespace ll::avx2 {
namespace {

// rope_factors, four pairs at a time.
void factors_of(int32_t position, const float* inv_freq, int64_t pairs, double mscale, float* c, float* s) {
  const __m128 at = _mm_set1_ps(static_cast<float>(position)), scale = _mm_set1_ps(static_cast<float>(mscale));
  for (int64_t i = 0; i < pairs; i += 4) {
    const int64_t count = std::min<int64_t>(4, pairs - i);
    const __m128 frequencies =
        count == 4 ? _mm_loadu_ps(inv_freq + i) : _mm256_castps256_ps128(load_part(inv_freq + i, count));
    const __m256d angle = _mm256_cvtps_pd(_mm_mul_ps(at, frequencies));
    const __m256d size = _mm256_andnot_pd(_mm256_set1_pd(-0.0), angle);
    if (_mm256_movemask_pd(_mm256_cmp_pd(size, _mm256_set1_pd(kMostSincos), _CMP_NLE_UQ)) != 0) {
      rope_factors(position, inv_freq + i, count, mscale, c + i, s + i);
      continue;
    }
    __m256d sin, cos;
    sincos(angle, sin, cos);
    _mm_storeu_ps(c + i, _mm_mul_ps(_mm256_cvtpd_ps(cos), scale));  // c and s are padded to 64 bytes
    _mm_storeu_ps(s + i, _mm_mul_ps(_mm256_cvtpd_ps(sin), scale));
  }
}

// kStreamed: past the caches, whole registers at multiples of 32 bytes.
template <bool kStreamed>
void put(float* y, int64_t count, __m256 v) {
  if constexpr (kStreamed) {
    _mm256_stream_ps(y, v);
  } else {
    store_part(y, count, v);
  }
}

// y0 = fma(x0, c, -(x1 s)), y1 = fma(x1, c, x0 s). y may be x.
template <bool kStreamed>
void rotate_half(const float* x, const float* c, const float* s, int64_t pairs, float* y) {
  int64_t i = 0;
  // A whole line before the next one: what is past the caches has few places to wait for the rest of a line.
  for (; kStreamed && i + 16 <= pairs; i += 16) {
    __m256 low[2], high[2];
    for (int64_t j = 0; j < 2; ++j) {
      const int64_t at = i + 8 * j;
      const __m256 x0 = _mm256_loadu_ps(x + at), x1 = _mm256_loadu_ps(x + pairs + at);
      const __m256 ci = _mm256_loadu_ps(c + at), si = _mm256_loadu_ps(s + at);
      low[j] = _mm256_fmsub_ps(x0, ci, _mm256_mul_ps(x1, si)), high[j] = _mm256_fmadd_ps(x1, ci, _mm256_mul_ps(x0, si));
    }
    for (int64_t j = 0; j < 2; ++j) _mm256_stream_ps(y + i + 8 * j, low[j]);
    for (int64_t j = 0; j < 2; ++j) _mm256_stream_ps(y + pairs + i + 8 * j, high[j]);
  }
  for (; i < pairs; i += 8) {
    const int64_t count = pairs - i;
    const __m256 x0 = load_part(x + i, count), x1 = load_part(x + pairs + i, count);
    const __m256 ci = load_part(c + i, count), si = load_part(s + i, count);
    put<kStreamed>(y + i, count, _mm256_fmsub_ps(x0, ci, _mm256_mul_ps(x1, si)));
    put<kStreamed>(y + pairs + i, count, _mm256_fmadd_ps(x1, ci, _mm256_mul_ps(x0, si)));
  }
}

template <bool kStreamed>
void rotate_interleaved(const float* x, const float* c, const float* s, int64_t pairs, float* y) {
  const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
  // Of four pairs, all there: c and s are padded to 64 bytes.
  const auto both = [&](const float* factors) {
    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(factors)), twice);
  };
  for (int64_t i = 0; i < pairs; i += 4) {
    const int64_t count = pairs - i < 4 ? pairs - i : 4;
    const __m256 xi = load_part(x + 2 * i, 2 * count);
    const __m256 swapped = _mm256_permute_ps(xi, 0xb1);
    put<kStreamed>(y + 2 * i, 2 * count, _mm256_fmaddsub_ps(xi, both(c + i), _mm256_mul_ps(swapped, both(s + i))));
  }
}

// One launch's rotation: factors of the current token in scratch.
struct Rotation {
  Rotation(const KernelCall& call, const TensorView& frequencies)
      : inv_freq(reinterpret_cast<const float*>(frequencies.data)),
        pairs(frequencies.dim(0)),
        mscale(call.attrs.f64("mscale")),
        interleaved(call.attrs.text("style") == "interleaved"),
        c(reinterpret_cast<float*>(call.scratch.data())),
        s(c + rope_factor_stride(pairs)) {}

  void move_to(int32_t position) const { factors_of(position, inv_freq, pairs, mscale, c, s); }
  template <bool kStreamed = false>
  void rotate(const float* x, int64_t head_dim, float* y) const {
    if (interleaved) {
      rotate_interleaved<kStreamed>(x, c, s, pairs, y);
    } else {
      rotate_half<kStreamed>(x, c, s, pairs, y);
    }
    if (y != x && head_dim > 2 * pairs)
      std::memcpy(y + 2 * pairs, x + 2 * pairs, static_cast<size_t>(4 * (head_dim - 2 * pairs)));
  }

  const float* inv_freq;
  int64_t pairs;
  double mscale;
  bool interleaved;
  float *c, *s;
};

// A row of head_dim values to `slot` of a cache.
void put_row(const TensorView& kv, KvPart part, int64_t head, int64_t slot, const float* values) {
  const int64_t plane = kv_plane_offset(kv_row_bytes(kv.dtype, kv.dim(3)), kv.dim(1), slot, part, head);
  store_row(kv.dtype, values, kv.dim(3), part, kv.data + plane, slot % kKvPageSize);
}

}  // namespace

void rope(const KernelCall& call) {
  const TensorView &x = call.in[0], &y = call.out[0];
  const int32_t* positions = reinterpret_cast<const int32_t*>(call.in[1].data);
  const int64_t head_dim = call.attrs.i64("head_dim");
  const Rotation rotation(call, call.in[2]);
  const Range rows = split(x.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    rotation.move_to(positions[t]);
    for (int64_t d = 0; d < x.last(); d += head_dim) {
      rotation.rotate(x.row<float>(t) + d, head_dim, y.row<float>(t) + d);
    }
  }
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

void rope_kv_write(const KernelCall& call) {
  const TensorView &qkv = call.in[1], &q = call.out[0], &kv = call.out[1];
  const int32_t* positions = reinterpret_cast<const int32_t*>(call.in[2].data);
  const int32_t* slots = reinterpret_cast<const int32_t*>(call.in[3].data);
  const int64_t kv_heads = kv.dim(1) / 2, head_dim = kv.dim(3);
  const Rotation rotation(call, call.in[4]);
  float* rotated = rotation.s + rope_factor_stride(rotation.pairs);
  const Range rows = split(qkv.dim(0), 1, call.thread, call.threads);
  const bool streamed = (rows.end - rows.begin) * q.row_bytes >= kStreamedBytes && rotation.pairs % 8 == 0 &&
                        2 * rotation.pairs == head_dim && q.row_bytes % 32 == 0 &&
                        reinterpret_cast<uintptr_t>(q.data) % 32 == 0;
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    rotation.move_to(positions[t]);
    const float* x = qkv.row<float>(t);
    for (int64_t d = 0; d < q.last(); d += head_dim, x += head_dim) {
      float* const to = q.row<float>(t) + d;
      streamed ? rotation.rotate<true>(x, head_dim, to) : rotation.rotate(x, head_dim, to);
    }
    for (int64_t h = 0; h < kv_heads; ++h, x += head_dim) {
      rotation.rotate(x, head_dim, rotated);
      put_row(kv, KvPart::kKeys, h, slots[t], rotated);
    }
    for (int64_t h = 0; h < kv_heads; ++h, x += head_dim) {
      put_row(kv, KvPart::kValues, h, slots[t], x);
    }
  }
  if (streamed) _mm_sfence();
}

}  // namespace ll::avx2
