// AVX-512 words and, for prompts, tiles. Up to 15 tokens left over take the AVX-512 way: the bits are the same.
#include <type_traits>

#include "kernels/cpu/amx/tile_config.h"
#include "kernels/cpu/avx512/words.h"
#include "kernels/cpu/x16_product.h"

namespace ll {
namespace {

struct AmxWords : Avx512Words {
  // Tiles 0-3 hold sums, 4 and 5 tokens, 6 and 7 weights.
  static void tiles_begin(int k) {
    TileConfig config;
    for (int i = 0; i < 8; ++i) {
      config.row_bytes[i] = static_cast<uint16_t>(i == 4 || i == 5 ? k : 64);
      config.rows[i] = static_cast<uint8_t>(i < 6 ? 16 : k / 4);
    }
    memory_is_written(&config);
    _tile_loadconfig(&config);
  }
  // Tiles in use make every switch of threads dearer: gone as soon as possible.
  static void tiles_end() { _tile_release(); }

  static void tile_product(const std::byte* x, const std::byte* w, int32_t* out) {
    memory_is_written(x);
    _tile_loadd(4, x, 64);
    _tile_loadd(6, w, 64);
    _tile_zero(0);
    _tile_dpbssd(0, 4, 6);
    _tile_stored(0, out, 64);
  }

  // A product is stored three later: a store waits for its product.
  template <class Between>
  static inline __attribute__((always_inline)) void tile_products(const std::byte* x, const std::byte* w, int32_t* out,
                                                                  const Between& between) {
    const auto one = [&]<int kSum>(std::integral_constant<int, kSum>, int g) __attribute__((always_inline)) {
      memory_is_written(x);
      _tile_loadd(4, x + 64 * kTileTokens * (g / 2) + 32 * (g % 2), 64);
      _tile_loadd(6, w + 512 * g, 64);
      if constexpr (kSum == 0) {
        _tile_zero(0);
        _tile_dpbssd(0, 4, 6);
      } else if constexpr (kSum == 1) {
        _tile_zero(1);
        _tile_dpbssd(1, 4, 6);
      } else if constexpr (kSum == 2) {
        _tile_zero(2);
        _tile_dpbssd(2, 4, 6);
      } else {
        _tile_zero(3);
        _tile_dpbssd(3, 4, 6);
      }
      memory_is_written(x);
      between(g);
    };
    one(std::integral_constant<int, 0>(), 0);
    one(std::integral_constant<int, 1>(), 1);
    one(std::integral_constant<int, 2>(), 2);
    _tile_stored(0, out, 64);
    one(std::integral_constant<int, 3>(), 3);
    _tile_stored(1, out + 256, 64);
    one(std::integral_constant<int, 0>(), 4);
    _tile_stored(2, out + 2 * 256, 64);
    one(std::integral_constant<int, 1>(), 5);
    _tile_stored(3, out + 3 * 256, 64);
    one(std::integral_constant<int, 2>(), 6);
    _tile_stored(0, out + 4 * 256, 64);
    one(std::integral_constant<int, 3>(), 7);
    _tile_stored(1, out + 5 * 256, 64);
    _tile_stored(2, out + 6 * 256, 64);
    _tile_stored(3, out + 7 * 256, 64);
  }

  // Tile kPieces i + p of sums belongs to tile i of tokens and piece p of the weights.
  template <int kPieces, int kTiles, class Between>
  static inline __attribute__((always_inline)) void block_products(const std::byte* x, const std::byte* w, int32_t* out,
                                                                   Between between) {
    _tile_zero(0);
    if constexpr (kPieces == 2) _tile_zero(1);
    if constexpr (kTiles == 2) _tile_zero(2);
    if constexpr (kPieces == 2 && kTiles == 2) _tile_zero(3);
    int done = 0;
    const auto after = [&, between ]() __attribute__((always_inline)) {
      memory_is_written(x);
      between(done++);
      memory_is_written(x);
    };
    memory_is_written(x);
#pragma GCC unroll 4
    for (int step = 0; step < 4; ++step) {
      const std::byte* weights = w + step * kPieces * 1024;
      _tile_loadd(6, weights, 64);
      _tile_loadd(4, x + step * 64 * kTileTokens, 64);
      _tile_dpbssd(0, 4, 6);
      after();
      if constexpr (kPieces == 2) {
        _tile_loadd(7, weights + 1024, 64);
        _tile_dpbssd(1, 4, 7);
        after();
      }
      if constexpr (kTiles == 2) {
        _tile_loadd(5, x + step * 64 * kTileTokens + 1024, 64);
        _tile_dpbssd(2, 5, 6);
        after();
        if constexpr (kPieces == 2) {
          _tile_dpbssd(3, 5, 7);
          after();
        }
      }
    }
    _tile_stored(0, out, 64);
    if constexpr (kPieces == 2) _tile_stored(1, out + 256, 64);
    if constexpr (kTiles == 2) _tile_stored(2, out + kPieces * 256, 64);
    if constexpr (kPieces == 2 && kTiles == 2) _tile_stored(3, out + 3 * 256, 64);
  }
};

}  // namespace

namespace amx {

void linear(const KernelCall& call, LinearForm form) { linear_of(call, form, x16_dots<AmxWords>); }

}  // namespace amx
}  // namespace ll
