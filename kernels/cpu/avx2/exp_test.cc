#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/kernel.h"

// The tests below are compiled for AVX2 here and skip themselves on machines without it.
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#include "kernels/cpu/avx2/exp.h"

namespace ll::avx2 {
namespace {

float exp_of(float x) { return _mm256_cvtss_f32(exp(_mm256_set1_ps(x))); }

TEST(Avx2Exp, RelativeErrorIsBounded) {
  if (best_isa() < Isa::kAvx2) GTEST_SKIP() << "this machine lacks avx2";
  double worst = 0;
  // Every 509th float of [-87.3, 88], both signs.
  for (const float end : {-87.3f, 88.0f}) {
    const uint32_t sign = std::signbit(end) ? 0x80000000u : 0u;
    for (uint32_t bits = 0; bits <= (std::bit_cast<uint32_t>(end) & 0x7fffffffu); bits += 509) {
      const float x = std::bit_cast<float>(bits | sign);
      const double want = std::exp(static_cast<double>(x));
      worst = std::max(worst, std::fabs(exp_of(x) - want) / want);
    }
  }
  EXPECT_LE(worst, 0x1p-23);
}

TEST(Avx2Exp, Ends) {
  if (best_isa() < Isa::kAvx2) GTEST_SKIP() << "this machine lacks avx2";
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp_of(0.0f), 1.0f);
  EXPECT_EQ(exp_of(-0.0f), 1.0f);
  EXPECT_EQ(exp_of(-88.0f), 0.0f);
  EXPECT_EQ(exp_of(-kInfinity), 0.0f);
  EXPECT_EQ(exp_of(kInfinity), exp_of(88.0f));
  EXPECT_TRUE(std::isnan(exp_of(std::numeric_limits<float>::quiet_NaN())));
}

float exp2_below_of(float x) {
  __m256 power[2] = {_mm256_setzero_ps(), _mm256_set1_ps(x)};
  exp2_below(power);
  return _mm256_cvtss_f32(power[1]);
}

TEST(Avx2Exp2Below, RelativeErrorIsBounded) {
  if (best_isa() < Isa::kAvx2) GTEST_SKIP() << "this machine lacks avx2";
  double worst = 0;
  // Every 509th float of [-100, 0].
  for (uint32_t bits = 0; bits <= std::bit_cast<uint32_t>(100.0f); bits += 509) {
    const float x = std::bit_cast<float>(bits | 0x80000000u);
    const double want = std::exp2(static_cast<double>(x));
    worst = std::max(worst, std::fabs(exp2_below_of(x) - want) / want);
  }
  EXPECT_LE(worst, 0x1p-23);
}

TEST(Avx2Exp2Below, Ends) {
  if (best_isa() < Isa::kAvx2) GTEST_SKIP() << "this machine lacks avx2";
  EXPECT_EQ(exp2_below_of(0.0f), 1.0f);
  EXPECT_EQ(exp2_below_of(-0.0f), 1.0f);
  EXPECT_EQ(exp2_below_of(-1.0f), 0.5f);
  EXPECT_EQ(exp2_below_of(-300.0f), 0x1p-100f);
  EXPECT_EQ(exp2_below_of(-std::numeric_limits<float>::infinity()), 0x1p-100f);
  EXPECT_TRUE(std::isnan(exp2_below_of(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
}  // namespace ll::avx2
#pragma GCC pop_options
