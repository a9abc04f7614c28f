// f32 tokens at the level of tiles: those that meet bf16 weights are rounded to bf16 and multiplied by TDPBF16PS.
#include "kernels/cpu/amx/tile_config.h"
#include "kernels/cpu/avx512/words.h"
#include "kernels/cpu/bf16_product.h"

namespace ll {
namespace {

struct AmxBf16Words : Avx512Words {
  static Ints round_pairs(const float* p) {
    const Ints low = rounded(p), high = rounded(p + 16);
    alignas(64) static constexpr uint16_t kUpperHalves[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21,
                                                              23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43,
                                                              45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    return _mm512_permutex2var_epi16(low, _mm512_load_si512(kUpperHalves), high);
  }
  static Ints pick(Ints a, Ints index, Ints b) { return _mm512_permutex2var_epi32(a, index, b); }

  // Tiles 0-3 hold sums, 4 weights, 5-7 tokens.
  static void tiles_begin(int rows, int tokens) {
    TileConfig config;
    for (int i = 0; i < 8; ++i) {
      config.row_bytes[i] = static_cast<uint16_t>(i == 4 ? 64 : 4 * tokens);
      config.rows[i] = static_cast<uint8_t>(i < 5 ? rows : 16);
    }
    memory_is_written(&config);
    _tile_loadconfig(&config);
  }
  // Tiles in use make every switch of threads dearer: gone as soon as possible.
  static void tiles_end() { _tile_release(); }

  // One tile of weights meets up to four of tokens while it is in a register.
  template <int kGroups>
  static void add_products(const Bf16Block& block, float* sums) {
    memory_is_written(block.w);
    memory_is_written(block.x);
    if (block.first) {
      _tile_zero(0);
      if constexpr (kGroups > 1) _tile_zero(1);
      if constexpr (kGroups > 2) _tile_zero(2);
      if constexpr (kGroups > 3) _tile_zero(3);
    } else {
      _tile_loadd(0, sums, 64);
      if constexpr (kGroups > 1) _tile_loadd(1, sums + kBf16Sums, 64);
      if constexpr (kGroups > 2) _tile_loadd(2, sums + 2 * kBf16Sums, 64);
      if constexpr (kGroups > 3) _tile_loadd(3, sums + 3 * kBf16Sums, 64);
    }
    const std::byte *w = block.w, *x = block.x;
    for (int64_t step = 0; step < block.steps; ++step, w += 64, x += 16 * block.x_row_bytes) {
      _tile_loadd(4, w, block.w_row_bytes);
      _tile_loadd(5, x, block.x_row_bytes);
      _tile_dpbf16ps(0, 4, 5);
      if constexpr (kGroups > 1) {
        _tile_loadd(6, x + block.x_group_bytes, block.x_row_bytes);
        _tile_dpbf16ps(1, 4, 6);
      }
      if constexpr (kGroups > 2) {
        _tile_loadd(7, x + 2 * block.x_group_bytes, block.x_row_bytes);
        _tile_dpbf16ps(2, 4, 7);
      }
      if constexpr (kGroups > 3) {
        _tile_loadd(5, x + 3 * block.x_group_bytes, block.x_row_bytes);
        _tile_dpbf16ps(3, 4, 5);
      }
      for (int64_t r = block.ahead_begin; r < block.ahead_end; ++r) {
        _mm_prefetch(reinterpret_cast<const char*>(w + block.ahead + r * block.w_row_bytes), _MM_HINT_T1);
      }
    }
    _tile_stored(0, sums, 64);
    if constexpr (kGroups > 1) _tile_stored(1, sums + kBf16Sums, 64);
    if constexpr (kGroups > 2) _tile_stored(2, sums + 2 * kBf16Sums, 64);
    if constexpr (kGroups > 3) _tile_stored(3, sums + 3 * kBf16Sums, 64);
  }

 private:
  // 16 floats, rounded to bf16 in the upper half of each lane. What is added to a NaN could carry out of it.
  static Ints rounded(const float* p) {
    const Ints v = _mm512_loadu_si512(p);
    const Ints odd = _mm512_and_si512(_mm512_srli_epi32(v, 16), _mm512_set1_epi32(1));
    const Ints sum = _mm512_add_epi32(v, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const Floats f = _mm512_castsi512_ps(v);
    const __mmask16 nan = _mm512_cmp_ps_mask(f, f, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(sum, nan, v, _mm512_set1_epi32(0x400000));
  }
};

}  // namespace

namespace amx {

void float_linear(const KernelCall& call, LinearForm form) {
  linear_of(
      call, form, [](DType) -> const Dots* { return nullptr; }, &kBf16TilesOf<AmxBf16Words>);
}

}  // namespace amx
}  // namespace ll
