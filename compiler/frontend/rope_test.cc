// Expected values: the formulas of transformers' modeling_rope_utils.py evaluated in double precision.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "compiler/frontend/model_spec.h"

namespace ll {
namespace {

using Expected = std::vector<std::pair<size_t, double>>;

void check(const RopeSpec& rope, const Expected& expected) {
  ModelSpec spec;
  spec.hyper.rope = rope;
  const auto inv = inv_frequencies(spec);
  ASSERT_TRUE(inv) << inv.error().message;
  ASSERT_EQ(inv->size(), rope.dimensions / 2);
  for (const auto& [i, value] : expected) EXPECT_NEAR((*inv)[i] / value, 1, 5e-7) << i;
}

RopeSpec rope_of(double base, uint32_t dimensions) {
  RopeSpec rope;
  rope.base = base;
  rope.dimensions = dimensions;
  return rope;
}

TEST(Rope, Unscaled) {
  check(rope_of(500000, 128), {{0, 1}, {1, 0.814617234}, {31, 0.0017360467}, {63, 2.45514079e-06}});
}

TEST(Rope, Linear) {
  RopeSpec rope = rope_of(500000, 128);
  rope.scaling = RopeSpec::Scaling::kLinear;
  rope.factor = 4;
  check(rope, {{0, 0.25}, {1, 0.814617234 / 4}, {63, 2.45514079e-06 / 4}});
}

// Llama 3.1: wavelengths from 2048 to 8192 are in between.
TEST(Rope, Llama3) {
  RopeSpec rope = rope_of(500000, 128);
  rope.scaling = RopeSpec::Scaling::kLlama3;
  rope.factor = 8;
  rope.low_freq_factor = 1;
  rope.high_freq_factor = 4;
  rope.original_context = 8192;
  check(rope, {{0, 1},
               {20, 0.0165604401},
               {28, 0.00321144599},
               {29, 0.00216657076},
               {30, 0.00137189357},
               {31, 0.000856751413},
               {32, 0.000524846161},
               {34, 0.000178507813},
               {35, 9.55621235e-05},
               {63, 3.06892599e-07}});
}

// Qwen2.5 with its published factor.
TEST(Rope, Yarn) {
  RopeSpec rope = rope_of(1e6, 128);
  rope.scaling = RopeSpec::Scaling::kYarn;
  rope.factor = 4;
  rope.original_context = 32768;
  check(rope, {{0, 1},
               {15, 0.0392418976},
               {23, 0.00697830585},
               {24, 0.00537532149},
               {30, 0.00106436098},
               {39, 6.49039432e-05},
               {40, 4.44569853e-05},
               {63, 3.1023444e-07}});
}

TEST(Rope, YarnWithoutTruncation) {
  RopeSpec rope = rope_of(150000, 64);
  rope.scaling = RopeSpec::Scaling::kYarn;
  rope.factor = 32;
  rope.original_context = 4096;
  rope.truncate = false;
  check(rope, {{0, 1},
               {7, 0.0737445682},
               {8, 0.0508132748},
               {9, 0.0317056962},
               {12, 0.00679495949},
               {17, 0.000129318701},
               {18, 3.83088124e-05},
               {31, 3.02351143e-07}});
}

TEST(Rope, DividesByTheTensor) {
  const std::vector<float> divisors = {1, 2, 4, 8};
  ModelSpec spec;
  spec.hyper.rope = rope_of(10000, 8);
  spec.hyper.rope.frequency_divisors = true;
  WeightTensor& tensor = spec.tensors["rope_freqs.weight"];
  tensor.bytes = std::as_bytes(std::span(divisors));
  const auto inv = inv_frequencies(spec);
  ASSERT_TRUE(inv);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_FLOAT_EQ((*inv)[i], static_cast<float>(std::pow(10000.0, -static_cast<double>(i) / 4)) / divisors[i]);
  }
}

}  // namespace
}  // namespace ll
