#include "kernels/quant/layouts.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace ll {
namespace {

std::vector<std::byte> random_bytes(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(n);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

int64_t ones(std::span<const std::byte> bytes) {
  int64_t n = 0;
  for (const std::byte b : bytes) n += std::popcount(static_cast<uint8_t>(b));
  return n;
}

TEST(Layouts, RepackingIsAPermutationOfBitsWithAnInverse) {
  for (const Format& f : formats()) {
    if (f.kind != FormatKind::kQuantized) continue;
    for (const int64_t blocks : {1, 2, 3}) {
      for (const int64_t n : {1, 5, 16}) {
        const int64_t k = blocks * f.block_elements, row = row_bytes(f.dtype, k);
        const auto rows = random_bytes(static_cast<size_t>(n * row), static_cast<uint32_t>(n));
        std::vector<std::byte> panel(static_cast<size_t>(x16_panel_bytes(f.dtype, k)), std::byte{0x5a});
        repack_rows_to_x16(f.dtype, rows.data(), n, k, panel.data());
        EXPECT_EQ(ones(panel), ones(rows)) << f.name;
        for (int64_t r = 0; r < kPanelRows; ++r) {
          std::vector<std::byte> back(static_cast<size_t>(row), std::byte{0x5a});
          unpack_row_from_x16(f.dtype, panel.data(), r, k, back.data());
          const std::vector<std::byte> expected =
              r < n ? std::vector(rows.begin() + r * row, rows.begin() + (r + 1) * row)
                    : std::vector(static_cast<size_t>(row), std::byte{0});
          ASSERT_EQ(back, expected) << f.name << " row " << r;
        }
      }
    }
  }
}

TEST(Layouts, RowsDequantizeTheSameFromEveryLayout) {
  for (const Format& f : formats()) {
    if (f.kind != FormatKind::kQuantized) continue;
    const int64_t n = 21, k = 3 * f.block_elements, row = row_bytes(f.dtype, k);
    const auto rows = random_bytes(static_cast<size_t>(n * row), 3);
    std::vector<std::byte> tensor(static_cast<size_t>(*tensor_bytes(f.dtype, Layout::kX16, n, k)));
    ASSERT_EQ(tensor.size(), static_cast<size_t>(32 * row));
    repack_rows_to_x16(f.dtype, rows.data(), 16, k, tensor.data());
    repack_rows_to_x16(f.dtype, rows.data() + 16 * row, n - 16, k, tensor.data() + x16_panel_bytes(f.dtype, k));
    std::vector<float> a(static_cast<size_t>(k)), b(static_cast<size_t>(k)), c(static_cast<size_t>(k));
    for (int64_t r = 0; r < n; ++r) {
      f.dequantize(rows.data() + r * row, k, a.data());
      dequantize_row(f.dtype, Layout::kRows, rows.data(), r, k, b.data());
      dequantize_row(f.dtype, Layout::kX16, tensor.data(), r, k, c.data());
      ASSERT_EQ(std::memcmp(a.data(), b.data(), a.size() * 4), 0) << f.name;
      ASSERT_EQ(std::memcmp(a.data(), c.data(), a.size() * 4), 0) << f.name;
    }
  }
}

// The order that layouts.h promises, written out for one format of each plane width.
TEST(Layouts, UnitsHoldFourConsecutiveCodesOfEachRow) {
  const int64_t r = 5, head = 32;  // f16 d of 16 rows
  std::vector<std::byte> q8(16 * 34);
  for (int k = 0; k < 32; ++k) q8[static_cast<size_t>(r * 34 + 2 + k)] = static_cast<std::byte>(k + 1);
  std::vector<std::byte> panel(q8.size());
  repack_rows_to_x16(DType::kQ8_0, q8.data(), 16, 32, panel.data());
  for (int k = 0; k < 32; ++k) {
    EXPECT_EQ(panel[static_cast<size_t>(head + 64 * (k / 4) + 4 * r + k % 4)], static_cast<std::byte>(k + 1));
  }

  std::vector<std::byte> q5(16 * 22);
  for (int k = 0; k < 16; ++k) {
    q5[static_cast<size_t>(r * 22 + 6 + k)] = static_cast<std::byte>(k | (15 - k) << 4);
  }
  const uint32_t fifth = 0x80010203u;
  std::memcpy(&q5[static_cast<size_t>(r * 22 + 2)], &fifth, 4);
  panel.resize(q5.size());
  repack_rows_to_x16(DType::kQ5_0, q5.data(), 16, 32, panel.data());
  for (int k = 0; k < 32; ++k) {
    const int bit = static_cast<int>(panel[static_cast<size_t>(head + 4 * r + k % 4)]) >> k / 4 & 1;
    EXPECT_EQ(bit, static_cast<int>(fifth >> k & 1)) << k;
    const int byte = static_cast<int>(panel[static_cast<size_t>(head + 64 + 64 * (k % 16 / 4) + 4 * r + k % 4)]);
    EXPECT_EQ(k < 16 ? byte & 15 : byte >> 4, k < 16 ? k : 31 - k) << k;
  }
}

// So that a product reads memory in ascending order: a panel's heads lie before its blocks.
TEST(Layouts, HeadsOfAllBlocksComeFirst) {
  constexpr int64_t kBlocks = 3, k = 32 * kBlocks, r = 9;
  std::vector<std::byte> rows(16 * 34 * kBlocks), panel(rows.size());
  for (int64_t b = 0; b < kBlocks; ++b) {
    std::byte* const block = &rows[static_cast<size_t>(34 * (r * kBlocks + b))];
    block[0] = static_cast<std::byte>(0x40 + b), block[1] = static_cast<std::byte>(0x3c);
    std::fill(block + 2, block + 34, static_cast<std::byte>(b + 1));
  }
  repack_rows_to_x16(DType::kQ8_0, rows.data(), 16, k, panel.data());
  for (int64_t b = 0; b < kBlocks; ++b) {
    EXPECT_EQ(panel[static_cast<size_t>(32 * b + 2 * r)], static_cast<std::byte>(0x40 + b));
    for (int64_t unit = 0; unit < 8; ++unit) {
      const int64_t at = 32 * kBlocks + 512 * b + 64 * unit + 4 * r;
      EXPECT_EQ(panel[static_cast<size_t>(at)], static_cast<std::byte>(b + 1)) << b << " " << unit;
    }
  }
}

TEST(Layouts, HostileSizesAreNothing) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(tensor_bytes(DType::kQ8_0, Layout::kX16, 17, 64), 32 * 68);
  EXPECT_EQ(tensor_bytes(DType::kQ8_0, Layout::kRows, 17, 64), 17 * 68);
  EXPECT_EQ(tensor_bytes(DType::kQ8_0, Layout::kX16, kMax, 64), std::nullopt);
  EXPECT_EQ(tensor_bytes(DType::kQ8_0, Layout::kX16, -1, 64), std::nullopt);
  EXPECT_EQ(tensor_bytes(DType::kQ8_0, Layout::kX16, 16, 65), std::nullopt);
  EXPECT_EQ(tensor_bytes(DType::kF32, Layout::kX16, 16, 64), std::nullopt);
  EXPECT_EQ(tensor_bytes(DType::kQ8_0, static_cast<Layout>(9), 16, 64), std::nullopt);
  EXPECT_EQ(tensor_bytes(static_cast<DType>(99), Layout::kRows, 16, 64), std::nullopt);
  EXPECT_EQ(find_layout("x16"), Layout::kX16);
  EXPECT_EQ(find_layout("x32"), std::nullopt);
  EXPECT_EQ(layout_name(Layout::kRows), "rows");
  EXPECT_EQ(layout_name(static_cast<Layout>(9)), "unknown");
}

}  // namespace
}  // namespace ll
