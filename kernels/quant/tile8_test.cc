#include "kernels/quant/tile8.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "kernels/quant/layouts.h"

namespace ll {
namespace {

std::vector<std::byte> random_blocks(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(static_cast<size_t>(n));
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

std::vector<DType> quantized() {
  std::vector<DType> list;
  for (const Format& f : formats()) {
    if (f.kind == FormatKind::kQuantized) list.push_back(f.dtype);
  }
  return list;
}

TEST(Tile8, RowsComeBackAndPaddingIsZero) {
  for (const DType dtype : quantized()) {
    const int64_t block = find_format(dtype)->block_elements;
    for (const int64_t blocks : {1, 3, 8, 9}) {
      for (const int64_t n : {1, 5, 8}) {
        const int64_t k = blocks * block, row = row_bytes(dtype, k);
        const auto rows = random_blocks(n * row, static_cast<uint32_t>(n));
        std::vector<std::byte> tiles(static_cast<size_t>(tile8_row_tile_bytes(dtype, k)), std::byte{0x5a});
        repack_rows_to_tile8(dtype, rows.data(), n, k, tiles.data());
        for (int64_t r = 0; r < kTile8Rows; ++r) {
          std::vector<std::byte> back(static_cast<size_t>(row), std::byte{0x5a});
          unpack_row_from_tile8(dtype, tiles.data(), r, k, back.data());
          if (r < n) {
            ASSERT_EQ(std::memcmp(back.data(), rows.data() + r * row, back.size()), 0) << dtype_name(dtype);
          } else {
            std::vector<float> values(static_cast<size_t>(k), 1.0f);
            dequantize_row_from_tile8(dtype, tiles.data(), r, k, values.data());
            for (const float v : values) ASSERT_EQ(v, 0.0f) << dtype_name(dtype);
          }
        }
      }
    }
  }
}

TEST(Tile8, RowsDequantizeAsTheFileHasThem) {
  for (const DType dtype : quantized()) {
    const int64_t n = 21, k = 9 * find_format(dtype)->block_elements, row = row_bytes(dtype, k);
    const auto rows = random_blocks(n * row, 3);
    const int64_t row_tile = tile8_row_tile_bytes(dtype, k);
    std::vector<std::byte> tensor(static_cast<size_t>(*tensor_bytes(dtype, Layout::kTile8, n, k)));
    ASSERT_EQ(static_cast<int64_t>(tensor.size()), 3 * row_tile);
    for (int64_t first = 0; first < n; first += kTile8Rows) {
      repack_rows_to_tile8(dtype, rows.data() + first * row, std::min(kTile8Rows, n - first), k,
                           tensor.data() + first / kTile8Rows * row_tile);
    }
    std::vector<float> a(static_cast<size_t>(k)), b(static_cast<size_t>(k));
    for (int64_t r = 0; r < n; ++r) {
      find_format(dtype)->dequantize(rows.data() + r * row, k, a.data());
      dequantize_row(dtype, Layout::kTile8, tensor.data(), r, k, b.data());
      ASSERT_EQ(std::memcmp(a.data(), b.data(), a.size() * 4), 0) << dtype_name(dtype);
    }
  }
}

// The sizes that tile8.h states, and that kernels compute addresses with.
TEST(Tile8, TilesHaveTheStatedSizes) {
  const std::pair<DType, int64_t> sizes[] = {{DType::kQ4_0, 1152}, {DType::kIQ4_NL, 1152}, {DType::kQ4_1, 1280},
                                             {DType::kQ5_0, 1408}, {DType::kQ5_1, 1536},   {DType::kQ8_0, 2176},
                                             {DType::kQ2_K, 672},  {DType::kQ3_K, 912},    {DType::kQ4_K, 1184},
                                             {DType::kQ5_K, 1440}, {DType::kQ6_K, 1680},   {DType::kIQ4_XS, 1104}};
  ASSERT_EQ(std::size(sizes), quantized().size());
  for (const auto& [dtype, bytes] : sizes) {
    EXPECT_EQ(tile8_bytes(dtype), bytes) << dtype_name(dtype);
    EXPECT_EQ(bytes % 16, 0);
    EXPECT_LE(static_cast<double>(bytes), 1.04 * 8.0 * static_cast<double>(row_bytes(dtype, 256)));
  }
  EXPECT_EQ(tensor_bytes(DType::kQ4_0, Layout::kTile8, 9, 288), 2 * 2 * 1152);
  EXPECT_EQ(tensor_bytes(DType::kF16, Layout::kTile8, 8, 256), std::nullopt);
  EXPECT_EQ(tensor_bytes(DType::kQ8_0, Layout::kTile8, -1, 256), std::nullopt);
  EXPECT_EQ(tensor_bytes(DType::kQ8_0, Layout::kTile8, 8, 33), std::nullopt);
  EXPECT_EQ(tensor_bytes(DType::kQ8_0, Layout::kTile8, INT64_MAX, 256), std::nullopt);
  EXPECT_EQ(find_layout("tile8"), Layout::kTile8);
  EXPECT_EQ(layout_name(Layout::kTile8), "tile8");
}

// The order that tile8.h promises, written out: where each code of one row lies.
TEST(Tile8, WordsHoldFourConsecutiveCodesOfARow) {
  const int64_t r = 5;
  std::vector<std::byte> q8(8 * 8 * 34);
  for (int k = 0; k < 256; ++k) q8[static_cast<size_t>(r * 8 * 34 + k / 32 * 34 + 2 + k % 32)] = std::byte(k);
  std::vector<std::byte> tile(2176);
  repack_rows_to_tile8(DType::kQ8_0, q8.data(), 8, 256, tile.data());
  for (int k = 0; k < 256; ++k) {
    const int g = k / 32, c = k % 32 / 8, h = k % 8 / 4;
    const int64_t at = 1024 * (g / 4) + 512 * (g % 4 / 2) + 16 * (8 * c + r) + 8 * (g % 2) + 4 * h + k % 4;
    ASSERT_EQ(tile[static_cast<size_t>(at)], std::byte(k)) << k;
  }

  const auto q6 = random_blocks(8 * 210, 9);
  tile.assign(1680, std::byte{0});
  repack_rows_to_tile8(DType::kQ6_K, q6.data(), 8, 256, tile.data());
  const std::byte* block = q6.data() + r * 210;
  for (int k = 0; k < 256; ++k) {
    const int at = k / 128 * 64 + k % 64;
    const int low = static_cast<int>(block[at]) >> (k % 128 / 64 * 4) & 15;
    const int high = static_cast<int>(block[128 + k / 128 * 32 + k % 32]) >> (k % 128 / 32 * 2) & 3;
    const int g = k / 32, f = g % 4, h = k % 32 / 16, c = k % 16 / 4;
    const int64_t nibble = 512 * (g / 4) + 16 * (8 * c + r) + 8 * (f / 2) + 4 * h + k % 4;
    const int64_t pair = 1024 + 256 * (g / 4) + 8 * (8 * c + r) + 4 * h + k % 4;
    ASSERT_EQ(static_cast<int>(tile[static_cast<size_t>(nibble)]) >> (4 * (f % 2)) & 15, low) << k;
    ASSERT_EQ(static_cast<int>(tile[static_cast<size_t>(pair)]) >> (2 * f) & 3, high) << k;
  }
  for (int g = 0; g < 16; ++g) ASSERT_EQ(tile[static_cast<size_t>(1536 + 16 * r + g)], block[192 + g]);
  EXPECT_EQ(std::memcmp(&tile[1664 + 2 * r], block + 208, 2), 0);
}

}  // namespace
}  // namespace ll
