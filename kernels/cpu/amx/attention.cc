// Attention over f16 on tiles; over other caches it is AVX-512's, and where so few query rows share keys that tiles
// stay half empty, unless bits must not depend on that.
#include <immintrin.h>

#include "kernels/cpu/amx/amx.h"
#include "kernels/cpu/amx/tile_config.h"
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/avx512/avx512.h"

namespace ll {
namespace {

struct AmxAttentionWords {
  using Floats = __m512;
  using Ints = __m512i;
  using Mask = __mmask16;

  static Floats load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
  static void stream(float* p, Floats v) { _mm512_stream_ps(p, v); }
  static void streams_end() { _mm_sfence(); }
  static Floats set(float v) { return _mm512_set1_ps(v); }
  static Floats zeros() { return _mm512_setzero_ps(); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  static Ints load_ints(const void* p) { return _mm512_loadu_si512(p); }
  static void store(std::byte* p, Ints v) { _mm512_storeu_si512(p, v); }
  static Ints set_ints(int32_t v) { return _mm512_set1_epi32(v); }
  static Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  static Ints both(Ints a, Ints b) { return _mm512_and_si512(a, b); }
  static Ints either(Ints a, Ints b) { return _mm512_or_si512(a, b); }
  template <unsigned kBits>
  static Ints left(Ints v) {
    return _mm512_slli_epi32(v, kBits);
  }
  template <unsigned kBits>
  static Ints right(Ints v) {
    return _mm512_srli_epi32(v, kBits);
  }
  static Ints ints(Floats v) { return _mm512_castps_si512(v); }
  static Floats floats(Ints v) { return _mm512_castsi512_ps(v); }
  static Floats halves(const std::byte* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Mask inside(Ints first, Ints last, int32_t i) {
    const Ints at = _mm512_set1_epi32(i);
    return _mm512_mask_cmple_epi32_mask(_mm512_cmple_epi32_mask(first, at), at, last);
  }
  static Mask above(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
  static Floats choose(Mask m, Floats a, Floats b) { return _mm512_mask_blend_ps(m, b, a); }
  static bool same(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ) == 0xffff; }

  // Four rows' quarters come into one register from memory, which leaves two of four rounds of shuffles.
  static void turn(const std::byte* from, std::byte* to) {
#pragma GCC unroll 4
    for (int64_t quarter = 0; quarter < 4; ++quarter) {
      Ints row[4];  // row[i]: rows i, i + 4, i + 8, i + 12
#pragma GCC unroll 4
      for (int64_t i = 0; i < 4; ++i) {
        const auto at = [&](int64_t r) {
          return _mm_load_si128(reinterpret_cast<const __m128i*>(from + 64 * r + 16 * quarter));
        };
        row[i] = _mm512_castsi128_si512(at(i));
        row[i] = _mm512_inserti32x4(row[i], at(i + 4), 1);
        row[i] = _mm512_inserti32x4(row[i], at(i + 8), 2);
        row[i] = _mm512_inserti32x4(row[i], at(i + 12), 3);
      }
      const Ints a = _mm512_unpacklo_epi32(row[0], row[1]), b = _mm512_unpackhi_epi32(row[0], row[1]);
      const Ints c = _mm512_unpacklo_epi32(row[2], row[3]), d = _mm512_unpackhi_epi32(row[2], row[3]);
      std::byte* out = to + 256 * quarter;
      _mm512_store_si512(out, _mm512_unpacklo_epi64(a, c));
      _mm512_store_si512(out + 64, _mm512_unpackhi_epi64(a, c));
      _mm512_store_si512(out + 128, _mm512_unpacklo_epi64(b, d));
      _mm512_store_si512(out + 192, _mm512_unpackhi_epi64(b, d));
    }
  }

  // Tiles 0 and 1 hold sums, 2 weights, 3 values, 4 and 5 scores, 6 keys, 7 queries.
  static void tiles_begin(int rows) {
    TileConfig config;
    for (int i = 0; i < 8; ++i) {
      config.row_bytes[i] = 64;
      config.rows[i] = static_cast<uint8_t>(i < 3 ? rows : 16);
    }
    memory_is_written(&config);
    _tile_loadconfig(&config);
  }
  // Tiles in use make every switch of threads dearer: gone as soon as possible.
  static void tiles_end() { _tile_release(); }

  static void clear_scores() {
    _tile_zero(4);
    _tile_zero(5);
  }
  static void store_scores(float* p) {
    _tile_stored(4, p, 64);
    _tile_stored(5, p + kTileFloats, 64);
  }
  static void add_scores(int part, const std::byte* keys, int64_t other, const std::byte* queries) {
    memory_is_written(keys);
    if (part == 0) {
      _tile_loadd(7, queries + kTileBytes, 64);
      _tile_loadd(6, keys, 64);
      _tile_dpbf16ps(4, 6, 7);
      _tile_loadd(6, keys + other, 64);
      _tile_dpbf16ps(5, 6, 7);
    } else if (part == 1) {
      _tile_loadd(7, queries, 64);
      _tile_dpbf16ps(5, 6, 7);
      _tile_loadd(6, keys, 64);
      _tile_dpbf16ps(4, 6, 7);
    } else if (part == kOnePart) {
      _tile_loadd(7, queries, 64);
      _tile_loadd(6, keys, 64);
      _tile_dpbf16ps(4, 6, 7);
      _tile_loadd(6, keys + other, 64);
      _tile_dpbf16ps(5, 6, 7);
    } else {
      _tile_loadd(6, keys + kTileBytes, 64);
      _tile_dpbf16ps(4, 6, 7);
      _tile_loadd(6, keys + other + kTileBytes, 64);
      _tile_dpbf16ps(5, 6, 7);
    }
  }

  template <int kTiles>
  static void load_sums(const float* p) {
    memory_is_written(p);
    _tile_loadd(0, p, 64);
    if constexpr (kTiles == 2) _tile_loadd(1, p + kTileFloats, 64);
  }
  template <int kTiles>
  static void store_sums(float* p) {
    _tile_stored(0, p, 64);
    if constexpr (kTiles == 2) _tile_stored(1, p + kTileFloats, 64);
  }
  template <int kTiles>
  static void add_values(int part, const std::byte* weights, const std::byte* values) {
    memory_is_written(weights);
    if (part == 0 || part == kOnePart) {
      _tile_loadd(2, weights + (part == 0 ? kTileBytes : 0), 64);
      _tile_loadd(3, values, 64);
      _tile_dpbf16ps(0, 2, 3);
      if constexpr (kTiles == 2) {
        _tile_loadd(3, values + 2 * kTileBytes, 64);
        _tile_dpbf16ps(1, 2, 3);
      }
    } else if (part == 1) {
      _tile_loadd(2, weights, 64);
      if constexpr (kTiles == 2) {
        _tile_dpbf16ps(1, 2, 3);
        _tile_loadd(3, values, 64);
      }
      _tile_dpbf16ps(0, 2, 3);
    } else {
      _tile_loadd(3, values + kTileBytes, 64);
      _tile_dpbf16ps(0, 2, 3);
      if constexpr (kTiles == 2) {
        _tile_loadd(3, values + 3 * kTileBytes, 64);
        _tile_dpbf16ps(1, 2, 3);
      }
    }
  }
};

}  // namespace

namespace amx {

void attention(const KernelCall& call) {
  const int64_t tokens = call.in[0].dim(0), sequences = call.in[4].dim(0);
  const int64_t group = call.attrs.i64("heads") / call.attrs.i64("kv_heads");
  const bool few = group * tokens < kTileRows * sequences;
  const bool tiled = call.in[1].dtype == DType::kF16 && call.in[1].dim(3) <= kAttentionTileHead;
  if (tiled && (call.deterministic || !few)) {
    tile_attention<AmxAttentionWords>(call);
  } else {
    avx512::attention(call);
  }
}

}  // namespace amx
}  // namespace ll
