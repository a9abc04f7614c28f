#include "kernels/quant/tile8.h"

#include <algorithm>
#include <cstring>

#include "kernels/quant/blocks.h"

namespace ll {
namespace {

using blocks::BlockFormat;
using blocks::Fields;
using blocks::ScalePacking;

constexpr int kGroups = 8, kGroup = 32, kWords = 64, kRows = 8;

Tile8Parts parts_of(const BlockFormat& f) {
  Tile8Parts p{};
  p.low_bits = f.low_bits;
  p.high_bits = f.high_bits;
  p.halves = f.group == 16;
  switch (f.packing) {
    case ScalePacking::kNone:
      break;
    case ScalePacking::kIQ4XS:
      p.scale_bytes = 8;
      break;
    case ScalePacking::kQ2K:
    case ScalePacking::kQ3K:
    case ScalePacking::kQ4K:
    case ScalePacking::kQ6K:
      p.scale_bytes = 16;
      break;
  }
  p.factor_bytes = (f.has_min ? 4 : 2) * (f.group == 0 ? kGroups : 1);
  p.high = 256 * p.low_bits;
  p.scales = p.high + 256 * p.high_bits;
  p.factors = p.scales + kRows * p.scale_bytes;
  p.bytes = p.factors + kRows * p.factor_bytes;
  return p;
}

// TilePlace of a word of one row in a plane of `bits` bits.
struct TilePlace {
  int offset, shift;
};
TilePlace place_of(int bits, int64_t r, int g, int h, int c) {
  const int u = g / 4, f = g % 4, lane = 8 * c + static_cast<int>(r);
  switch (bits) {
    case 8:
      return {1024 * u + 512 * (f / 2) + 16 * lane + 8 * (f % 2) + 4 * h, 0};
    case 4:
      return {512 * u + 16 * lane + 8 * (f / 2) + 4 * h, 4 * (f % 2)};
    case 2:
      return {256 * u + 8 * lane + 4 * h, 2 * f};
    default:
      return {128 * u + 4 * lane, 2 * f + h};
  }
}
uint32_t plane_mask(int bits) { return 0x01010101u * ((1u << bits) - 1); }

// First element of word (g, h, c).
int element_of(bool halves, int g, int h, int c) { return kGroup * g + (halves ? 16 * h + 4 * c : 8 * c + 4 * h); }

template <class Visit>
void each_word(Visit visit) {
  for (int i = 0; i < kWords; ++i) visit(i / 8, i / 4 % 2, i % 4);
}

// The bytes of a plane were zero. `from` is the plane's first bit in a code.
void pack_plane(const uint8_t* codes, bool halves, int bits, int from, int64_t r, std::byte* plane) {
  each_word([&](int g, int h, int c) {
    uint32_t word, lane;
    std::memcpy(&word, codes + element_of(halves, g, h, c), 4);
    const TilePlace place = place_of(bits, r, g, h, c);
    std::memcpy(&lane, plane + place.offset, 4);
    lane |= (word >> from & plane_mask(bits)) << place.shift;
    std::memcpy(plane + place.offset, &lane, 4);
  });
}
void unpack_plane(const std::byte* plane, bool halves, int bits, int to, int64_t r, uint8_t* codes) {
  each_word([&](int g, int h, int c) {
    uint32_t word, lane;
    uint8_t* code = codes + element_of(halves, g, h, c);
    const TilePlace place = place_of(bits, r, g, h, c);
    std::memcpy(&lane, plane + place.offset, 4);
    std::memcpy(&word, code, 4);
    word |= (lane >> place.shift & plane_mask(bits)) << to;
    std::memcpy(code, &word, 4);
  });
}

// Byte of q4_K's scale g in a row's 16; its min is 4 further.
int q4_K_scale(int g) { return g / 4 * 8 + g % 4; }

void pack_scales(const BlockFormat& format, const Fields& f, uint8_t* s) {
  switch (format.packing) {
    case ScalePacking::kNone:
      break;
    case ScalePacking::kQ2K:
      for (int g = 0; g < 16; ++g) s[g] = static_cast<uint8_t>((f.scales[g] & 15) | f.mins[g] << 4);
      break;
    case ScalePacking::kQ3K:
    case ScalePacking::kQ6K:
      for (int g = 0; g < 16; ++g) s[g] = static_cast<uint8_t>(f.scales[g] - format.scale_zero);
      break;
    case ScalePacking::kIQ4XS:
      for (int g = 0; g < 8; ++g) s[g] = static_cast<uint8_t>(f.scales[g] - format.scale_zero);
      break;
    case ScalePacking::kQ4K:
      for (int g = 0; g < 8; ++g) {
        s[q4_K_scale(g)] = f.scales[g];
        s[q4_K_scale(g) + 4] = f.mins[g];
      }
      break;
  }
}
void unpack_scales(const BlockFormat& format, const uint8_t* s, Fields& f) {
  switch (format.packing) {
    case ScalePacking::kNone:
      break;
    case ScalePacking::kQ2K:
      for (int g = 0; g < 16; ++g) {
        f.scales[g] = s[g] & 15;
        f.mins[g] = static_cast<uint8_t>(s[g] >> 4);
      }
      break;
    case ScalePacking::kQ3K:
    case ScalePacking::kQ6K:
      for (int g = 0; g < 16; ++g) f.scales[g] = static_cast<uint8_t>(s[g] + format.scale_zero);
      break;
    case ScalePacking::kIQ4XS:
      for (int g = 0; g < 8; ++g) f.scales[g] = static_cast<uint8_t>(s[g] + format.scale_zero);
      break;
    case ScalePacking::kQ4K:
      for (int g = 0; g < 8; ++g) {
        f.scales[g] = s[q4_K_scale(g)];
        f.mins[g] = s[q4_K_scale(g) + 4];
      }
      break;
  }
}

// Byte of the factors of a block that begins at group g of the tile (0 where the tile is one block).
std::byte* factors_of(const Tile8Parts& p, const BlockFormat& f, std::byte* tile, int64_t r, int g) {
  return tile + p.factors + r * p.factor_bytes + (f.has_min ? 4 : 2) * g;
}

// All blocks of row r that lie in one tile, one after another, from the tile to `visit(block number, fields)`.
template <class Visit>
void each_block(const BlockFormat& f, const std::byte* tiles, int64_t r, int64_t k, Visit visit) {
  const Tile8Parts p = parts_of(f);
  const int64_t per_tile = kTile8K / f.elements, count = k / f.elements;
  alignas(32) uint8_t codes[kTile8K];
  Fields fields;
  for (int64_t first = 0; first < count; first += per_tile) {
    auto* tile = const_cast<std::byte*>(tiles) + first / per_tile * p.bytes;  // only read
    std::memset(codes, 0, sizeof codes);
    unpack_plane(tile, p.halves, p.low_bits, 0, r, codes);
    if (p.high_bits > 0) unpack_plane(tile + p.high, p.halves, p.high_bits, p.low_bits, r, codes);
    for (int64_t b = first; b < std::min(count, first + per_tile); ++b) {
      const int i = static_cast<int>(b - first);
      std::memcpy(fields.codes, codes + i * f.elements, static_cast<size_t>(f.elements));
      unpack_scales(f, reinterpret_cast<const uint8_t*>(tile + p.scales + r * p.scale_bytes), fields);
      const std::byte* factors = factors_of(p, f, tile, r, i);
      std::memcpy(&fields.d, factors, 2);
      if (f.has_min) std::memcpy(&fields.m, factors + 2, 2);
      visit(b, fields);
    }
  }
}

}  // namespace

int64_t tile8_bytes(DType dtype) { return parts_of(*blocks::find(dtype)).bytes; }
int64_t tile8_row_tile_bytes(DType dtype, int64_t k) { return (k + kTile8K - 1) / kTile8K * tile8_bytes(dtype); }
Tile8Parts tile8_parts(DType dtype) { return parts_of(*blocks::find(dtype)); }

void repack_rows_to_tile8(DType dtype, const std::byte* rows, int64_t n_rows, int64_t k, std::byte* tiles) {
  const BlockFormat& f = *blocks::find(dtype);
  const Tile8Parts p = parts_of(f);
  const int64_t row = k / f.elements * f.bytes, per_tile = kTile8K / f.elements, count = k / f.elements;
  std::memset(tiles, 0, static_cast<size_t>(tile8_row_tile_bytes(dtype, k)));
  alignas(32) uint8_t codes[kTile8K];
  Fields fields;
  for (int64_t first = 0; first < count; first += per_tile) {
    std::byte* tile = tiles + first / per_tile * p.bytes;
    for (int64_t r = 0; r < n_rows; ++r) {
      if (count - first < per_tile) std::memset(codes, 0, sizeof codes);
      for (int64_t b = first; b < std::min(count, first + per_tile); ++b) {
        const int i = static_cast<int>(b - first);
        f.read(rows + r * row + b * f.bytes, fields);
        std::memcpy(codes + i * f.elements, fields.codes, static_cast<size_t>(f.elements));
        std::byte* factors = factors_of(p, f, tile, r, i);
        std::memcpy(factors, &fields.d, 2);
        if (f.has_min) std::memcpy(factors + 2, &fields.m, 2);
        pack_scales(f, fields, reinterpret_cast<uint8_t*>(tile + p.scales + r * p.scale_bytes));
      }
      pack_plane(codes, p.halves, p.low_bits, 0, r, tile);
      if (p.high_bits > 0) pack_plane(codes, p.halves, p.high_bits, p.low_bits, r, tile + p.high);
    }
  }
}

void unpack_row_from_tile8(DType dtype, const std::byte* tiles, int64_t r, int64_t k, std::byte* blocks) {
  const BlockFormat& f = *blocks::find(dtype);
  each_block(f, tiles, r, k, [&](int64_t b, const Fields& fields) { f.write(fields, blocks + b * f.bytes); });
}

void dequantize_row_from_tile8(DType dtype, const std::byte* tiles, int64_t r, int64_t k, float* values) {
  const BlockFormat& f = *blocks::find(dtype);
  each_block(f, tiles, r, k,
             [&](int64_t b, const Fields& fields) { blocks::dequantize_fields(f, fields, values + b * f.elements); });
}

}  // namespace ll
