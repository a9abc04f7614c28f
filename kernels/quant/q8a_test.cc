#include "kernels/quant/q8a.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace ll {
namespace {

TEST(Q8a, CodesRoundToNearestAndSumsAddUp) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const int64_t k = 96;
  std::vector<float> x(static_cast<size_t>(k)), y(x.size());
  for (float& v : x) v = normal(random);
  std::vector<std::byte> row(static_cast<size_t>(q8a_row_bytes(k)));
  ASSERT_EQ(row.size(), 120u);
  q8a_quantize_row(DType::kQ8A, x.data(), k, row.data());
  q8a_dequantize_row(row.data(), k, y.data());
  const Q8aRow r = q8a_row(row.data(), k);
  for (int64_t b = 0; b < k / 32; ++b) {
    float max = 0;
    int sums[2] = {}, largest = 0;
    for (int64_t i = 32 * b; i < 32 * b + 32; ++i) {
      const auto n = static_cast<size_t>(i);
      max = std::max(max, std::fabs(x[n]));
      sums[i % 32 / 16] += r.codes[i];
      largest = std::max(largest, std::abs(static_cast<int>(r.codes[i])));
      EXPECT_LE(std::fabs(y[n] - x[n]), 0.5001f * r.scales[b]);
    }
    EXPECT_EQ(r.scales[b], max / 127.0f);
    EXPECT_EQ(largest, 127);
    EXPECT_EQ(sums[0], r.sums[2 * b]);
    EXPECT_EQ(sums[1], r.sums[2 * b + 1]);
  }
}

TEST(Q8a, HalvesGoToEven) {
  std::vector<float> x(32, 0.0f);
  x[0] = 127.0f, x[1] = 2.5f, x[2] = 3.5f, x[3] = -2.5f, x[4] = -0.5f;
  std::vector<std::byte> row(40);
  q8a_quantize_row(DType::kQ8A, x.data(), 32, row.data());
  const Q8aRow r = q8a_row(row.data(), 32);
  EXPECT_EQ(r.codes[1], 2);
  EXPECT_EQ(r.codes[2], 4);
  EXPECT_EQ(r.codes[3], -2);
  EXPECT_EQ(r.codes[4], 0);
}

TEST(Q8a, ExtremeBlocks) {
  std::vector<std::byte> row(40);
  for (const float value : {0.0f, 1e-45f, 1e-38f, 7e-31f}) {
    std::vector<float> x(32, value);
    q8a_quantize_row(DType::kQ8A, x.data(), 32, row.data());
    EXPECT_EQ(q8a_row(row.data(), 32).scales[0], 0.0f);
    EXPECT_EQ(q8a_row(row.data(), 32).codes[7], 0);
  }
  for (const float value : {8e-31f, 1.0f, std::numeric_limits<float>::max()}) {
    std::vector<float> x(32, -value);
    q8a_quantize_row(DType::kQ8A, x.data(), 32, row.data());
    EXPECT_EQ(q8a_row(row.data(), 32).codes[7], -127);
    EXPECT_EQ(q8a_row(row.data(), 32).sums[1], -127 * 16);
  }
  for (const float value : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> x(32, 1.0f);
    x[31] = -value;
    q8a_quantize_row(DType::kQ8A, x.data(), 32, row.data());
    EXPECT_TRUE(std::isnan(q8a_row(row.data(), 32).scales[0]));
    EXPECT_EQ(q8a_row(row.data(), 32).codes[7], 0);
    EXPECT_EQ(q8a_row(row.data(), 32).sums[0], 0);
  }
}

// One scale for 256 values, written eight times; each block of 256 on its own.
TEST(Q8a, OneScaleFor256) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  const int64_t k = 768;
  std::vector<float> x(static_cast<size_t>(k));
  for (float& v : x) v = normal(random);
  x[100] = 50, x[400] = std::numeric_limits<float>::quiet_NaN();
  std::vector<std::byte> row(static_cast<size_t>(q8a_row_bytes(k)));
  q8a_quantize_row(DType::kQ8A256, x.data(), k, row.data());
  const Q8aRow r = q8a_row(row.data(), k);
  for (int64_t b = 0; b < k / 256; ++b) {
    for (int64_t g = 8 * b; g < 8 * b + 8; ++g) {
      if (b == 1) {
        EXPECT_TRUE(std::isnan(r.scales[g]));
      } else {
        EXPECT_EQ(r.scales[g], r.scales[8 * b]);
      }
    }
    for (int64_t i = 256 * b; i < 256 * b + 256; ++i) {
      if (b == 1) {
        EXPECT_EQ(r.codes[i], 0);
      } else {
        EXPECT_LE(std::fabs(r.scales[8 * b] * static_cast<float>(r.codes[i]) - x[static_cast<size_t>(i)]),
                  0.5001f * r.scales[8 * b]);
      }
    }
    for (int64_t g = 16 * b; g < 16 * b + 16; ++g) {
      int sum = 0;
      for (int64_t i = 16 * g; i < 16 * g + 16; ++i) sum += r.codes[i];
      EXPECT_EQ(r.sums[g], sum);
    }
  }
  EXPECT_EQ(r.scales[0], 50 / 127.0f);
}

}  // namespace
}  // namespace ll
