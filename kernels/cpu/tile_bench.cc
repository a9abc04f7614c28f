// The tile unit of one core: int8 products from registers alone, whose rate the prefill products are measured against,
// and what a product of 16 tokens, 16 rows and 32 k costs beyond them. Formats of 32 have a scale for each 32 k, so
// these leave the tile: half of the unit's depth is used, and a tile is stored a product. ops counts a multiplication
// and an addition each.
#include <benchmark/benchmark.h>
#include <immintrin.h>

#include <cstdint>

#include "kernels/kernel.h"

#define LL_TILES __attribute__((target("amx-tile,amx-int8")))

namespace ll {
namespace {

// What LDTILECFG reads: tiles 0-3 sums, 4 and 5 tokens [16][k], 6 and 7 weights [k / 4][16][4].
struct alignas(64) TileConfig {
  explicit TileConfig(int k) {
    for (int i = 0; i < 8; ++i) {
      row_bytes[i] = static_cast<uint16_t>(i == 4 || i == 5 ? k : 64);
      rows[i] = static_cast<uint8_t>(i < 6 ? 16 : k / 4);
    }
  }
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

struct Operands {
  alignas(64) int8_t tokens[16 * 64] = {};
  alignas(64) int8_t weights[16 * 64] = {};
  alignas(64) int32_t sums[4][256] = {};
};

void written(void* p) { asm volatile("" : : "r"(p) : "memory"); }

LL_TILES void begin(int k, Operands& o) {
  TileConfig config(k);
  written(&config);
  written(&o);
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, o.tokens, k);
  _tile_loadd(5, o.tokens, k);
  _tile_loadd(6, o.weights, 64);
  _tile_loadd(7, o.weights, 64);
}

LL_TILES void four_products() {
  _tile_dpbssd(0, 4, 6);
  _tile_dpbssd(1, 4, 7);
  _tile_dpbssd(2, 5, 6);
  _tile_dpbssd(3, 5, 7);
}

// As prefill has them: both operands loaded, the sums stored while the next two products are under way.
LL_TILES void four_stored_products(Operands& o) {
  _tile_loadd(4, o.tokens, 32);
  _tile_loadd(6, o.weights, 64);
  _tile_zero(0);
  _tile_dpbssd(0, 4, 6);
  _tile_loadd(5, o.tokens, 32);
  _tile_loadd(7, o.weights, 64);
  _tile_zero(1);
  _tile_dpbssd(1, 5, 7);
  _tile_stored(2, o.sums[2], 64);
  _tile_stored(3, o.sums[3], 64);
  _tile_loadd(4, o.tokens, 32);
  _tile_loadd(6, o.weights, 64);
  _tile_zero(2);
  _tile_dpbssd(2, 4, 6);
  _tile_loadd(5, o.tokens, 32);
  _tile_loadd(7, o.weights, 64);
  _tile_zero(3);
  _tile_dpbssd(3, 5, 7);
  _tile_stored(0, o.sums[0], 64);
  _tile_stored(1, o.sums[1], 64);
}

LL_TILES void tiles(benchmark::State& state, int k, bool stored) {
  if (!has_isa(Isa::kAmx)) return state.SkipWithError("this machine lacks amx");
  constexpr int kRounds = 1000;
  Operands o;
  begin(k, o);
  for (auto _ : state) {
    for (int i = 0; i < kRounds; ++i) {
      if (stored) {
        four_stored_products(o);
      } else {
        four_products();
      }
    }
  }
  _tile_release();
  const double ops = 4.0 * 2 * 16 * 16 * k * kRounds * static_cast<double>(state.iterations());
  state.counters["ops"] = benchmark::Counter(ops, benchmark::Counter::kIsRate);
}

void registers_of_64_k(benchmark::State& state) { tiles(state, 64, false); }
void registers_of_32_k(benchmark::State& state) { tiles(state, 32, false); }
void loaded_and_stored_of_32_k(benchmark::State& state) { tiles(state, 32, true); }
BENCHMARK(registers_of_64_k);
BENCHMARK(registers_of_32_k);
BENCHMARK(loaded_and_stored_of_32_k);

}  // namespace
}  // namespace ll
