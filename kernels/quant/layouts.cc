#include "kernels/quant/layouts.h"

#include <cstring>

#include "kernels/quant/blocks.h"
#include "kernels/quant/tile8.h"
#include "runtime/base/checked.h"

namespace ll {
namespace {

using blocks::BlockFormat;
using blocks::Fields;
using blocks::ScalePacking;

constexpr int64_t kUnit = 64;  // 16 lanes of 4 bytes
constexpr int kSubBlock = 32;

struct LayoutRow {
  Layout layout;
  std::string_view name;
};
constexpr LayoutRow kLayouts[] = {{Layout::kRows, "rows"}, {Layout::kTile8, "tile8"}, {Layout::kX16, "x16"}};

// Bytes of a block's parts, 16 rows together.
int64_t scale_bytes(ScalePacking packing) {
  switch (packing) {
    case ScalePacking::kNone:
      return 0;
    case ScalePacking::kQ2K:
    case ScalePacking::kQ6K:
      return 256;
    case ScalePacking::kQ3K:
    case ScalePacking::kQ4K:
      return 192;
    case ScalePacking::kIQ4XS:
      return 64;
  }
  return 0;
}
int64_t sub_block_bytes(const BlockFormat& f) { return kUnit * (f.low_bits + f.high_bits); }
int64_t head_bytes(const BlockFormat& f) {
  return f.has_min || f.packing == ScalePacking::kIQ4XS ? 4 * kPanelRows : 2 * kPanelRows;
}

// Block b of a panel, of all its rows.
struct Place {
  std::byte *head, *block;
};
Place place_of(const BlockFormat& f, std::byte* panel, int64_t k, int64_t b) {
  const int64_t blocks = k / f.elements, head = head_bytes(f), body = kPanelRows * f.bytes - head;
  return {panel + b * head, panel + blocks * head + b * body};
}

// The lanes of one row, 4 codes at a time: word g holds the codes 4g .. 4g+3 of a sub-block.
using Words = uint32_t[kSubBlock / 4];

uint32_t load_lane(const std::byte* sub, int64_t unit, int64_t r) {
  uint32_t lane;
  std::memcpy(&lane, sub + kUnit * unit + 4 * r, 4);
  return lane;
}
void store_lane(uint32_t lane, std::byte* sub, int64_t unit, int64_t r) {
  std::memcpy(sub + kUnit * unit + 4 * r, &lane, 4);
}

// Planes of `bits` bits, taken from bit `shift` of each code: bit1, bit2, bit4 or bit8 of layouts.h. Both return the
// units used.
int64_t pack_plane(const Words& words, int bits, int shift, std::byte* sub, int64_t first_unit, int64_t r) {
  const uint32_t mask = 0x01010101u * ((1u << bits) - 1);
  const auto part = [&](int g) { return words[g] >> shift & mask; };
  for (int unit = 0; unit < bits; ++unit) {
    uint32_t lane = 0;
    if (bits == 4) {
      lane = part(unit) | part(unit + 4) << 4;
    } else {
      for (int g = 0; g < 8 / bits; ++g) lane |= part(8 / bits * unit + g) << bits * g;
    }
    store_lane(lane, sub, first_unit + unit, r);
  }
  return bits;
}
int64_t unpack_plane(const std::byte* sub, int64_t first_unit, int64_t r, int bits, int shift, Words& words) {
  const uint32_t mask = 0x01010101u * ((1u << bits) - 1);
  for (int unit = 0; unit < bits; ++unit) {
    const uint32_t lane = load_lane(sub, first_unit + unit, r);
    if (bits == 4) {
      words[unit] |= (lane & mask) << shift;
      words[unit + 4] |= (lane >> 4 & mask) << shift;
    } else {
      for (int g = 0; g < 8 / bits; ++g) words[8 / bits * unit + g] |= (lane >> bits * g & mask) << shift;
    }
  }
  return bits;
}

void pack_codes(const BlockFormat& f, const uint8_t* codes, std::byte* sub, int64_t r) {
  Words words;
  std::memcpy(words, codes, sizeof words);
  int64_t unit = 0;
  if (f.high_bits > 0) unit += pack_plane(words, f.high_bits, f.low_bits, sub, unit, r);
  pack_plane(words, f.low_bits, 0, sub, unit, r);
}
void unpack_codes(const BlockFormat& f, const std::byte* sub, int64_t r, uint8_t* codes) {
  Words words = {};
  int64_t unit = 0;
  if (f.high_bits > 0) unit += unpack_plane(sub, unit, r, f.high_bits, f.low_bits, words);
  unpack_plane(sub, unit, r, f.low_bits, 0, words);
  std::memcpy(codes, words, sizeof words);
}

// x[a][r] of an array of bytes of 16 rows.
std::byte& at(std::byte* x, int a, int64_t r) { return x[kPanelRows * a + r]; }
int get(const std::byte* x, int a, int64_t r) { return static_cast<int>(x[kPanelRows * a + r]); }
uint8_t bits(int value) { return static_cast<uint8_t>(value); }

// Places of the upper two bits of q4_K's scale j (those of its min follow).
int q4_K_high_row(int j) { return j / 4 * 2 + j % 2; }
int q4_K_high_shift(int j) { return j / 2 % 2 * 4; }

void pack_scales(const BlockFormat& format, const Fields& f, const Place& place, int64_t r) {
  std::byte* s = place.block;
  const auto put = [r](std::byte* x, int a, int value) { at(x, a, r) = static_cast<std::byte>(value & 255); };
  switch (format.packing) {
    case ScalePacking::kNone:
      break;
    case ScalePacking::kQ2K:
      for (int g = 0; g < 16; ++g) put(s, g, f.scales[g] | f.mins[g] << 4);
      break;
    case ScalePacking::kQ6K:
      for (int g = 0; g < 16; ++g) put(s, g, f.scales[g]);
      break;
    case ScalePacking::kQ3K:
      for (int g = 0; g < 8; ++g) put(s, g, (f.scales[g] & 15) | f.scales[g + 8] << 4);
      for (int a = 0; a < 4; ++a) {
        int high = 0;
        for (int p = 0; p < 4; ++p) high |= f.scales[a + 4 * p] >> 4 << 2 * p;
        put(s, 8 + a, high);
      }
      break;
    case ScalePacking::kQ4K: {
      int high[4] = {};
      for (int j = 0; j < 8; ++j) {
        put(s, j, (f.scales[j] & 15) | f.mins[j] << 4);
        high[q4_K_high_row(j)] |= (f.scales[j] >> 4 | f.mins[j] >> 4 << 2) << q4_K_high_shift(j);
      }
      for (int a = 0; a < 4; ++a) put(s, 8 + a, high[a]);
      break;
    }
    case ScalePacking::kIQ4XS: {
      std::byte* h = place.head + 2 * kPanelRows;
      for (int g = 0; g < 4; ++g) put(s, g, (f.scales[g] & 15) | f.scales[g + 4] << 4);
      for (int a = 0; a < 2; ++a) {
        int high = 0;
        for (int p = 0; p < 4; ++p) high |= f.scales[a + 2 * p] >> 4 << 2 * p;
        put(h, a, high);
      }
      break;
    }
  }
  std::memcpy(place.head + 2 * r, &f.d, 2);
  if (format.has_min) std::memcpy(place.head + 2 * kPanelRows + 2 * r, &f.m, 2);
}

void unpack_scales(const BlockFormat& format, const Place& place, int64_t r, Fields& f) {
  const std::byte* s = place.block;
  switch (format.packing) {
    case ScalePacking::kNone:
      break;
    case ScalePacking::kQ2K:
      for (int g = 0; g < 16; ++g) {
        f.scales[g] = bits(get(s, g, r) & 15);
        f.mins[g] = bits(get(s, g, r) >> 4);
      }
      break;
    case ScalePacking::kQ6K:
      for (int g = 0; g < 16; ++g) f.scales[g] = bits(get(s, g, r));
      break;
    case ScalePacking::kQ3K:
      for (int g = 0; g < 16; ++g) {
        f.scales[g] = bits((get(s, g % 8, r) >> g / 8 * 4 & 15) | (get(s, 8 + g % 4, r) >> g / 4 * 2 & 3) << 4);
      }
      break;
    case ScalePacking::kQ4K:
      for (int j = 0; j < 8; ++j) {
        const int low = get(s, j, r), high = get(s, 8 + q4_K_high_row(j), r) >> q4_K_high_shift(j);
        f.scales[j] = bits((low & 15) | (high & 3) << 4);
        f.mins[j] = bits(low >> 4 | (high >> 2 & 3) << 4);
      }
      break;
    case ScalePacking::kIQ4XS: {
      const std::byte* h = place.head + 2 * kPanelRows;
      for (int j = 0; j < 8; ++j) {
        f.scales[j] = bits((get(s, j % 4, r) >> j / 4 * 4 & 15) | (get(h, j % 2, r) >> j / 2 * 2 & 3) << 4);
      }
      break;
    }
  }
  std::memcpy(&f.d, place.head + 2 * r, 2);
  if (format.has_min) std::memcpy(&f.m, place.head + 2 * kPanelRows + 2 * r, 2);
}

// Row r, block b of a panel.
void unpack_fields(const BlockFormat& f, const std::byte* panel, int64_t r, int64_t k, int64_t b, Fields& fields) {
  const Place place = place_of(f, const_cast<std::byte*>(panel), k, b);  // only read below
  unpack_scales(f, place, r, fields);
  const std::byte* sub = place.block + scale_bytes(f.packing);
  for (int j = 0; j < f.elements / kSubBlock; ++j) {
    unpack_codes(f, sub + j * sub_block_bytes(f), r, fields.codes + kSubBlock * j);
  }
}

}  // namespace

std::string_view layout_name(Layout layout) {
  for (const LayoutRow& l : kLayouts) {
    if (l.layout == layout) return l.name;
  }
  return "unknown";
}

std::optional<Layout> find_layout(std::string_view name) {
  for (const LayoutRow& l : kLayouts) {
    if (l.name == name) return l.layout;
  }
  return std::nullopt;
}

bool has_layout(DType dtype, Layout layout) {
  if (layout == Layout::kRows) return find_format(dtype) != nullptr;
  return (layout == Layout::kX16 || layout == Layout::kTile8) && is_quantized_dtype(dtype);
}

std::optional<int64_t> tensor_bytes(DType dtype, Layout layout, int64_t n_rows, int64_t k) {
  const auto row = checked_row_bytes(dtype, k);
  if (!row || n_rows < 0 || !has_layout(dtype, layout)) return std::nullopt;
  if (layout == Layout::kRows) return checked_mul<int64_t>(n_rows, *row);
  const auto padded = checked_align_up(static_cast<uint64_t>(n_rows), layout == Layout::kX16 ? kPanelRows : kTile8Rows);
  if (!padded) return std::nullopt;
  n_rows = static_cast<int64_t>(*padded);
  if (n_rows < 0) return std::nullopt;
  if (layout == Layout::kX16) return checked_mul<int64_t>(n_rows, *row);
  const int64_t tiles = k / kTile8K + (k % kTile8K != 0 ? 1 : 0);  // of 8 rows
  const auto bytes = checked_mul<int64_t>(tiles, tile8_bytes(dtype));
  return bytes ? checked_mul<int64_t>(n_rows / kTile8Rows, *bytes) : std::nullopt;
}

int64_t x16_panel_bytes(DType dtype, int64_t k) { return kPanelRows * row_bytes(dtype, k); }

void repack_rows_to_x16(DType dtype, const std::byte* rows, int64_t n_rows, int64_t k, std::byte* panel) {
  const BlockFormat& f = *blocks::find(dtype);
  const int64_t row = k / f.elements * f.bytes;
  if (n_rows < kPanelRows) std::memset(panel, 0, static_cast<size_t>(kPanelRows * row));
  Fields fields;
  for (int64_t b = 0; b < k / f.elements; ++b) {
    const Place place = place_of(f, panel, k, b);
    std::byte* sub = place.block + scale_bytes(f.packing);
    for (int64_t r = 0; r < n_rows; ++r) {
      f.read(rows + r * row + b * f.bytes, fields);
      pack_scales(f, fields, place, r);
      for (int j = 0; j < f.elements / kSubBlock; ++j) {
        pack_codes(f, fields.codes + kSubBlock * j, sub + j * sub_block_bytes(f), r);
      }
    }
  }
}

void unpack_row_from_x16(DType dtype, const std::byte* panel, int64_t r, int64_t k, std::byte* blocks) {
  const BlockFormat& f = *blocks::find(dtype);
  Fields fields;
  for (int64_t b = 0; b < k / f.elements; ++b) {
    unpack_fields(f, panel, r, k, b, fields);
    f.write(fields, blocks + b * f.bytes);
  }
}

void dequantize_row(DType dtype, Layout layout, const std::byte* tensor, int64_t row, int64_t k, float* values) {
  if (layout == Layout::kRows) {
    find_format(dtype)->dequantize(tensor + row * row_bytes(dtype, k), k, values);
    return;
  }
  if (layout == Layout::kTile8) {
    const std::byte* tiles = tensor + row / kTile8Rows * tile8_row_tile_bytes(dtype, k);
    dequantize_row_from_tile8(dtype, tiles, row % kTile8Rows, k, values);
    return;
  }
  const BlockFormat& f = *blocks::find(dtype);
  const std::byte* panel = tensor + row / kPanelRows * x16_panel_bytes(dtype, k);
  Fields fields;
  for (int64_t b = 0; b < k / f.elements; ++b) {
    unpack_fields(f, panel, row % kPanelRows, k, b, fields);
    blocks::dequantize_fields(f, fields, values + b * f.elements);
  }
}

}  // namespace ll
