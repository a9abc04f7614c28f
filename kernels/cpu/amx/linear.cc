// AVX-512 words and, for prompts, tiles. Up to 15 tokens left over take the AVX-512 way: the bits are the same.
#include <type_traits>

#include "kernels/cpu/amx/tile_config.h"
#include "kernels/cpu/avx512/finish.h"
#include "kernels/cpu/avx512/words.h"
#include "kernels/cpu/x16_dots.h"

namespace ll {
namespace {

// Tiles are named by constants, and a macro is the one way to choose the sign of weights in their middle.
#define LLCUDA_TILE_PRODUCT(sums, x, w) \
  if constexpr (Blocks::kUnsigned) {    \
    _tile_dpbsud(sums, x, w);           \
  } else {                              \
    _tile_dpbssd(sums, x, w);           \
  }

template <int i>
constexpr std::integral_constant<int, i> kNth = {};

struct AmxWords : Avx512Words {
  // Intel's cores have one port for products of bytes and of 32 bits, AMD's share theirs with those of floats.
  static constexpr bool kFloatSums = true;

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
      _tile_stream_loadd(6, w + 512 * g, 64);
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
    one(kNth<0>, 0);
    one(kNth<1>, 1);
    one(kNth<2>, 2);
    _tile_stored(0, out, 64);
    one(kNth<3>, 3);
    _tile_stored(1, out + 256, 64);
    one(kNth<0>, 4);
    _tile_stored(2, out + 2 * 256, 64);
    one(kNth<1>, 5);
    _tile_stored(3, out + 3 * 256, 64);
    one(kNth<2>, 6);
    _tile_stored(0, out + 4 * 256, 64);
    one(kNth<3>, 7);
    _tile_stored(1, out + 5 * 256, 64);
    _tile_stored(2, out + 6 * 256, 64);
    _tile_stored(3, out + 7 * 256, 64);
  }

  // Tile 2 i + p of sums belongs to tile i of tokens and piece p of the weights; sums of minima pass through two of
  // them in between. A block's sums wait in their tiles until the next block's first products take these: stores
  // between products take no time of their own, stores in a row 14 cycles each.
  template <class Blocks, int kTiles, class Between>
  static inline __attribute__((always_inline)) void block_products(const std::byte* x, const std::byte* x_sums,
                                                                   const std::byte* w, const std::byte* w_mins,
                                                                   int32_t* before, int32_t* out, Between between) {
    constexpr int kPieces = Blocks::kPieces, kSums = Blocks::kSums, kTile = 256;
    constexpr bool kMins = kSums > kPieces;
    const auto after =
        [ x, between ]<int kProduct>(std::integral_constant<int, kProduct> product) __attribute__((always_inline)) {
      memory_is_written(x);
      between(product);
      memory_is_written(x);
    };
    memory_is_written(x);
    if constexpr (!Blocks::kReadAtOnce) return tile_steps<Blocks, kTiles, 0, true>(x, w, before, between);
    if constexpr (kMins) {
      _tile_stream_loadd(6, w_mins, 64);
      _tile_loadd(4, x_sums, Blocks::kSumBytes);
      if constexpr (kTiles == 2) _tile_loadd(5, x_sums + 16 * Blocks::kSumBytes, Blocks::kSumBytes);
    }
    _tile_stored(0, before, 64);
    if constexpr (kMins) {
      _tile_zero(0);
      _tile_dpbf16ps(0, 4, 6);
    }
    if constexpr (kPieces == 2) _tile_stored(1, before + kTile, 64);
    if constexpr (kMins && kTiles == 2) {
      _tile_zero(1);
      _tile_dpbf16ps(1, 5, 6);
    }
    _tile_stream_loadd(6, w, 64);
    if constexpr (kPieces == 2) _tile_stream_loadd(7, w + Blocks::kPieceBytes, 64);
    _tile_loadd(4, x, 64);
    constexpr int kFirst = (kTiles - 1) * kPieces;  // products before tile 0's
    if constexpr (kTiles == 2) {
      _tile_loadd(5, x + 1024, 64);
      _tile_stored(2, before + kSums * kTile, 64);
      _tile_zero(2);
      LLCUDA_TILE_PRODUCT(2, 5, 6);
      after(kNth<0>);
      if constexpr (kPieces == 2) {
        _tile_stored(3, before + (kSums + 1) * kTile, 64);
        _tile_zero(3);
        LLCUDA_TILE_PRODUCT(3, 5, 7);
        after(kNth<1>);
      }
    }
    if constexpr (kMins) _tile_stored(0, out + kPieces * kTile, 64);
    _tile_zero(0);
    LLCUDA_TILE_PRODUCT(0, 4, 6);
    after(kNth<kFirst>);
    if constexpr (kMins && kTiles == 2) _tile_stored(1, out + (kSums + kPieces) * kTile, 64);
    if constexpr (kPieces == 2) {
      _tile_zero(1);
      LLCUDA_TILE_PRODUCT(1, 4, 7);
      after(kNth<kFirst + 1>);
    }
    tile_steps<Blocks, kTiles, 1, false>(x, w, nullptr, between);
  }

  // The same of 256 k more, added to the sums in the tiles.
  template <class Blocks, int kTiles, class Between>
  static inline __attribute__((always_inline)) void block_more(const std::byte* x, const std::byte* w,
                                                               Between between) {
    tile_steps<Blocks, kTiles, 0, false>(x, w, nullptr, between);
  }

  template <class Blocks, int kTiles>
  static void block_end(int32_t* out) {
    memory_is_written(out);
    _tile_stored(0, out, 64);
    if constexpr (Blocks::kPieces == 2) _tile_stored(1, out + 256, 64);
    if constexpr (kTiles == 2) _tile_stored(2, out + Blocks::kSums * 256, 64);
    if constexpr (Blocks::kPieces == 2 && kTiles == 2) _tile_stored(3, out + (Blocks::kSums + 1) * 256, 64);
  }

 private:
  // Products of 64 k each, of 256, from step kFirst on. kBegins: what is in the tiles goes to `before`, each in front
  // of its first product, with three other products since its last one.
  template <class Blocks, int kTiles, int kFirst, bool kBegins, class Between>
  static inline __attribute__((always_inline)) void tile_steps(const std::byte* x, const std::byte* w, int32_t* before,
                                                               Between between) {
    constexpr int kPieces = Blocks::kPieces, kStep = kTiles * kPieces, kTile = 256;
    const auto after =
        [ x, between ]<int kProduct>(std::integral_constant<int, kProduct> product) __attribute__((always_inline)) {
      memory_is_written(x);
      between(product);
      memory_is_written(x);
    };
#define LLCUDA_TILE_STEP(sums, place, x, w)   \
  if constexpr (kBegins && kOf == 0) {        \
    _tile_stored(sums, before + (place), 64); \
    _tile_zero(sums);                         \
  }                                           \
  LLCUDA_TILE_PRODUCT(sums, x, w)
    // A tile of the next step is loaded as soon as nothing needs its register any more.
    const auto step = [&]<int kOf>(std::integral_constant<int, kOf>) __attribute__((always_inline)) {
      constexpr bool kMore = kOf < 3;
      const std::byte* const next_w = w + (kOf + 1) * Blocks::kStepBytes;
      const std::byte* const next_x = x + (kOf + 1) * 64 * kTileTokens;
      LLCUDA_TILE_STEP(0, 0, 4, 6);
      if constexpr (kMore && kTiles == 1) _tile_stream_loadd(6, next_w, 64);
      if constexpr (kMore && kPieces == 1) _tile_loadd(4, next_x, 64);
      after(kNth<kOf * kStep>);
      if constexpr (kPieces == 2) {
        LLCUDA_TILE_STEP(1, kTile, 4, 7);
        if constexpr (kMore) _tile_loadd(4, next_x, 64);
        if constexpr (kMore && kTiles == 1) _tile_stream_loadd(7, next_w + Blocks::kPieceBytes, 64);
        after(kNth<kOf * kStep + 1>);
      }
      if constexpr (kTiles == 2) {
        LLCUDA_TILE_STEP(2, Blocks::kSums * kTile, 5, 6);
        if constexpr (kMore) _tile_stream_loadd(6, next_w, 64);
        if constexpr (kMore && kPieces == 1) _tile_loadd(5, next_x + 1024, 64);
        after(kNth<kOf * kStep + kPieces>);
        if constexpr (kPieces == 2) {
          LLCUDA_TILE_STEP(3, (Blocks::kSums + 1) * kTile, 5, 7);
          if constexpr (kMore) _tile_loadd(5, next_x + 1024, 64);
          if constexpr (kMore) _tile_stream_loadd(7, next_w + Blocks::kPieceBytes, 64);
          after(kNth<kOf * kStep + 3>);
        }
      }
    };
    const std::byte *const first_w = w + kFirst * Blocks::kStepBytes, *const first_x = x + kFirst * 64 * kTileTokens;
    _tile_stream_loadd(6, first_w, 64);
    _tile_loadd(4, first_x, 64);
    if constexpr (kPieces == 2) _tile_stream_loadd(7, first_w + Blocks::kPieceBytes, 64);
    if constexpr (kTiles == 2) _tile_loadd(5, first_x + 1024, 64);
    if constexpr (kFirst == 0) step(kNth<0>);
    step(kNth<1>);
    step(kNth<2>);
    step(kNth<3>);
  }
};

#undef LLCUDA_TILE_STEP
#undef LLCUDA_TILE_PRODUCT

}  // namespace

namespace amx {

void linear(const KernelCall& call, LinearForm form) { linear_of(call, form, x16_dots<AmxWords>, nullptr, &kFinish); }

}  // namespace amx
}  // namespace ll
