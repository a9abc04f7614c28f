// What both kernels on tiles need beside GCC's words for them. Include only from kernels/cpu/amx/; everything has
// internal linkage.
#pragma once

#include <cstdint>

namespace ll {
namespace {

// What LDTILECFG reads (palette 1: eight tiles of up to 16 rows of 64 bytes).
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

// GCC's words for loads of tiles do not say that they read memory.
inline void memory_is_written(const void* p) { asm volatile("" : : "r"(p) : "memory"); }

}  // namespace
}  // namespace ll
