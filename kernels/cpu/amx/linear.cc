// AVX-512 words and, for prompts, tiles. Up to 15 tokens left over take the AVX-512 way: the bits are the same.
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

  // Two products at a time; they are stored while the next two are under way, since a store waits for its product and
  // keeps everything behind it waiting.
  static void tile_products(const std::byte* x, const std::byte* w, int n, int32_t* out) {
    memory_is_written(x);
    memory_is_written(w);
    int g = 0;
    for (; g + 4 <= n; g += 4) {
      _tile_loadd(4, x + 512 * g, 32);
      _tile_loadd(6, w + g * 512, 64);
      _tile_zero(0);
      _tile_dpbssd(0, 4, 6);
      _tile_loadd(5, x + 512 * (g + 1), 32);
      _tile_loadd(7, w + (g + 1) * 512, 64);
      _tile_zero(1);
      _tile_dpbssd(1, 5, 7);
      if (g > 0) {
        _tile_stored(2, out + (g - 2) * 256, 64);
        _tile_stored(3, out + (g - 1) * 256, 64);
      }
      _tile_loadd(4, x + 512 * (g + 2), 32);
      _tile_loadd(6, w + (g + 2) * 512, 64);
      _tile_zero(2);
      _tile_dpbssd(2, 4, 6);
      _tile_loadd(5, x + 512 * (g + 3), 32);
      _tile_loadd(7, w + (g + 3) * 512, 64);
      _tile_zero(3);
      _tile_dpbssd(3, 5, 7);
      _tile_stored(0, out + g * 256, 64);
      _tile_stored(1, out + (g + 1) * 256, 64);
    }
    if (g > 0) {
      _tile_stored(2, out + (g - 2) * 256, 64);
      _tile_stored(3, out + (g - 1) * 256, 64);
    }
    for (; g < n; ++g) {
      _tile_loadd(4, x + 512 * g, 32);
      _tile_loadd(6, w + g * 512, 64);
      _tile_zero(0);
      _tile_dpbssd(0, 4, 6);
      _tile_stored(0, out + g * 256, 64);
    }
  }

  // Tile 2 i + p of sums belongs to tile i of tokens and piece p of the weights. `between` comes after the products of
  // 64 k have been issued, so that its instructions run beside them.
  template <int kPieces, int kTiles, class Between>
  static void block_products(const std::byte* x, const std::byte* w, int32_t* out, const Between& between) {
    _tile_zero(0);
    if constexpr (kPieces == 2) _tile_zero(1);
    if constexpr (kTiles == 2) _tile_zero(2);
    if constexpr (kPieces == 2 && kTiles == 2) _tile_zero(3);
    for (int step = 0; step < 4; ++step) {
      const std::byte* weights = w + step * kPieces * 1024;
      memory_is_written(x);
      _tile_loadd(6, weights, 64);
      _tile_loadd(4, x + step * 1024, 64);
      _tile_dpbssd(0, 4, 6);
      if constexpr (kPieces == 2) {
        _tile_loadd(7, weights + 1024, 64);
        _tile_dpbssd(1, 4, 7);
      }
      if constexpr (kTiles == 2) {
        _tile_loadd(5, x + 4096 + step * 1024, 64);
        _tile_dpbssd(2, 5, 6);
        if constexpr (kPieces == 2) _tile_dpbssd(3, 5, 7);
      }
      memory_is_written(x);
      between(step);
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
