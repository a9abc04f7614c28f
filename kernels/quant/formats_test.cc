#include "kernels/quant/formats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <set>
#include <vector>

#include "kernels/quant/half.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/safetensors.h"

namespace ll {
namespace {

// tests/data/quant/ggml_blocks.safetensors: for each type TYPE.blocks, 8 rows of 1024 values as ggml packs them, and
// TYPE.values, their dequantization by ggml; `source`, the values that were quantized.
class Vectors : public testing::Test {
 protected:
  static constexpr int64_t kRows = 8, kColumns = 1024;

  void SetUp() override {
    auto file = MappedFile::open(LLCUDA_SOURCE_DIR "/tests/data/quant/ggml_blocks.safetensors");
    ASSERT_TRUE(file) << file.error().message;
    file_ = std::move(*file);
    auto contents = safetensors::parse(file_.bytes());
    ASSERT_TRUE(contents) << contents.error().message;
    contents_ = std::move(*contents);
  }

  // Null when the file has no tensor of that name.
  const std::byte* data(const std::string& name) const {
    const auto* tensor = contents_.find(name);
    return tensor != nullptr ? file_.bytes().data() + tensor->offset : nullptr;
  }

  int64_t size_of(const std::string& name) const { return static_cast<int64_t>(contents_.find(name)->size); }

 private:
  MappedFile file_;
  safetensors::Contents contents_;
};

TEST_F(Vectors, DequantizationIsThatOfGgmlBitForBit) {
  int seen = 0;
  for (const Format& f : formats()) {
    const std::byte* blocks = data(std::string(f.name) + ".blocks");
    if (f.dequantize == nullptr || f.dtype == DType::kF32) continue;
    ASSERT_NE(blocks, nullptr) << f.name;
    std::vector<float> values(kRows * kColumns);
    f.dequantize(blocks, kRows * kColumns, values.data());
    EXPECT_EQ(std::memcmp(values.data(), data(std::string(f.name) + ".values"), values.size() * 4), 0) << f.name;
    ++seen;
  }
  EXPECT_EQ(seen, 14);
}

TEST_F(Vectors, QuantizationIsAsGoodAsThePeers) {
  const auto* source = reinterpret_cast<const float*>(data("source"));
  for (const Format& f : formats()) {
    if (f.kind != FormatKind::kQuantized) continue;
    const auto* peer = reinterpret_cast<const float*>(data(std::string(f.name) + ".values"));
    std::vector<std::byte> blocks(static_cast<size_t>(row_bytes(f.dtype, kRows * kColumns)));
    std::vector<float> values(kRows * kColumns);
    f.quantize(source, kRows * kColumns, blocks.data());
    f.dequantize(blocks.data(), kRows * kColumns, values.data());
    double ours = 0, theirs = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      ours += std::pow(static_cast<double>(values[i]) - source[i], 2);
      theirs += std::pow(static_cast<double>(peer[i]) - source[i], 2);
    }
    // The peer's own code minimizes the same error by other searches; 5 % apart is a rounding mistake, not a search.
    EXPECT_LE(ours, 1.05 * theirs) << f.name;
  }
}

TEST(Formats, QuantizationErrorIsBounded) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> x(512);
  for (float& v : x) v = normal(random);
  for (const Format& f : formats()) {
    if (f.quantize == nullptr) continue;
    std::vector<std::byte> blocks(static_cast<size_t>(row_bytes(f.dtype, 512)));
    std::vector<float> y(512);
    f.quantize(x.data(), 512, blocks.data());
    f.dequantize(blocks.data(), 512, y.data());
    double error = 0, norm = 0;
    for (size_t i = 0; i < x.size(); ++i) error += std::pow(x[i] - y[i], 2), norm += std::pow(x[i], 2);
    EXPECT_LT(error / norm, 0.15) << f.name;
  }
}

TEST(Formats, QuantizeTakesExtremeRows) {
  for (const Format& f : formats()) {
    if (f.kind != FormatKind::kQuantized) continue;
    for (const float value : {0.0f, 1e-38f, 1e-45f, -3.0f, 1e30f, 3e38f}) {
      std::vector<float> x(512, value), y(512);
      x[3] = -value;
      std::vector<std::byte> blocks(static_cast<size_t>(row_bytes(f.dtype, 512)));
      f.quantize(x.data(), 512, blocks.data());
      f.dequantize(blocks.data(), 512, y.data());
      for (const float v : y) ASSERT_TRUE(std::isfinite(v)) << f.name << ' ' << value;
      if (value == 0.0f) {
        for (const float v : y) ASSERT_EQ(v, 0.0f) << f.name;
      }
    }
  }
}

TEST(Formats, EachNameIdAndDTypeHasOneRow) {
  std::set<std::string_view> names;
  std::set<DType> dtypes;
  for (const Format& f : formats()) {
    EXPECT_TRUE(names.insert(f.name).second) << f.name;
    EXPECT_TRUE(dtypes.insert(f.dtype).second) << f.name;
    EXPECT_EQ(find_format(f.name), &f);
    EXPECT_EQ(find_format(f.dtype), &f);
    EXPECT_EQ(dtype_name(f.dtype), f.name);
    if (f.ggml_id < 0) continue;
    EXPECT_EQ(find_format_of_ggml(static_cast<uint32_t>(f.ggml_id)), &f);
    const GgmlType* type = find_ggml_type(static_cast<uint32_t>(f.ggml_id));
    ASSERT_NE(type, nullptr) << f.name;
    EXPECT_EQ(type->name, f.name);
    EXPECT_EQ(type->block_elements, f.block_elements) << f.name;
    EXPECT_EQ(type->block_bytes, f.block_bytes) << f.name;
  }
  EXPECT_EQ(find_format("q9_9"), nullptr);
  EXPECT_EQ(find_format(static_cast<DType>(255)), nullptr);
  EXPECT_EQ(dtype_name(static_cast<DType>(255)), "unknown");
  EXPECT_EQ(find_format_of_ggml(0xffffffffu), nullptr);
  EXPECT_EQ(find_ggml_type(4), nullptr);
}

TEST_F(Vectors, GgmlTypesHaveTheSizesOfTheVectors) {
  int seen = 0;
  for (const GgmlType& t : ggml_types()) {
    const std::byte* blocks = data(std::string(t.name) + ".blocks");
    if (blocks == nullptr) continue;
    ++seen;
    const int64_t bytes = kRows * kColumns / t.block_elements * t.block_bytes;
    EXPECT_EQ(size_of(std::string(t.name) + ".blocks"), bytes) << t.name;
  }
  EXPECT_EQ(seen, 27);
}

TEST(Formats, SizesOfHostileRowsAreNothing) {
  EXPECT_EQ(checked_row_bytes(DType::kQ4_K, 512), 288);
  EXPECT_EQ(checked_row_bytes(DType::kQ4_K, 0), 0);
  EXPECT_EQ(checked_row_bytes(DType::kQ4_K, 255), std::nullopt);
  EXPECT_EQ(checked_row_bytes(DType::kQ4_K, -256), std::nullopt);
  EXPECT_EQ(checked_row_bytes(DType::kF32, std::numeric_limits<int64_t>::max() / 2), std::nullopt);
  EXPECT_EQ(checked_row_bytes(static_cast<DType>(200), 32), std::nullopt);
  EXPECT_FALSE(is_weight_dtype(DType::kI32));
  EXPECT_FALSE(is_weight_dtype(DType::kQ8A));
  EXPECT_TRUE(is_weight_dtype(DType::kBF16));
  EXPECT_FALSE(is_quantized_dtype(DType::kBF16));
}

TEST(Half, EveryF16SurvivesTheWayThroughF32) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const float f = f16_to_f32(static_cast<uint16_t>(h));
    const int exponent = static_cast<int>(h >> 10 & 31), mantissa = static_cast<int>(h & 1023);
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(f), mantissa != 0);
      if (mantissa != 0) {
        EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(f))));
        continue;
      }
    } else {
      const double value = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
      ASSERT_EQ(f, static_cast<float>((h & 0x8000u) != 0 ? -value : value)) << h;
    }
    ASSERT_EQ(f32_to_f16(f), h);
  }
}

TEST(Half, F32RoundsToNearestEven) {
  // Midway between neighbours goes to the even one; a hair off goes to the nearer one.
  for (uint32_t h = 0; h < 0x7bffu; ++h) {
    const float low = f16_to_f32(static_cast<uint16_t>(h)), high = f16_to_f32(static_cast<uint16_t>(h + 1));
    const float middle = low + (high - low) / 2;
    ASSERT_EQ(f32_to_f16(middle), h % 2 == 0 ? h : h + 1) << h;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 0.0f)), h) << h;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 1e9f)), h + 1) << h;
    ASSERT_EQ(f32_to_f16(-middle), 0x8000u | (h % 2 == 0 ? h : h + 1)) << h;
  }
  EXPECT_EQ(f32_to_f16(65519.99f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(1e30f), 0x7c00);
  EXPECT_EQ(f32_to_f16(-std::numeric_limits<float>::infinity()), 0xfc00);
  EXPECT_EQ(f32_to_f16(1e-45f), 0);
}

TEST(Half, Bf16RoundsToNearestEven) {
  for (uint32_t h = 0; h < 0x7f80u; ++h) {
    const uint32_t bits = h << 16;
    ASSERT_EQ(f32_to_bf16(bf16_to_f32(static_cast<uint16_t>(h))), h);
    ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(bits | 0x8000u)), h % 2 == 0 ? h : h + 1);
    ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(bits | 0x7fffu)), h);
    ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(bits | 0x8001u)), h + 1);
  }
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

}  // namespace
}  // namespace ll
