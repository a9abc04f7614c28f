#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>

#include "kernels/kernel.h"

// The tests below are compiled for AVX2 here and skip themselves on machines without it.
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#include "kernels/cpu/avx2/sincos.h"

namespace ll::avx2 {
namespace {

void expect_right(double x) {
  alignas(32) double s[4], c[4];
  __m256d sin, cos;
  sincos(_mm256_setr_pd(0, x, -x, 1), sin, cos);
  _mm256_store_pd(s, sin);
  _mm256_store_pd(c, cos);
  const auto expect_near = [&](double got, double want) {
    EXPECT_LE(std::fabs(got - want), std::fabs(want) * 0x1p-49 + std::fabs(x) * 0x1p-108)
        << x << ": " << got << ", expected " << want;
  };
  expect_near(s[1], std::sin(x));
  expect_near(c[1], std::cos(x));
  EXPECT_EQ(s[2], -s[1]);
  EXPECT_EQ(c[2], c[1]);
  EXPECT_EQ(s[0], 0);
  EXPECT_EQ(c[0], 1);
}

TEST(Avx2Sincos, ErrorIsBoundedFromNothingToTheEnd) {
  if (best_isa() < Isa::kAvx2) GTEST_SKIP() << "this machine lacks avx2";
  std::mt19937_64 random(1);
  for (int exponent = -60; exponent < 30; ++exponent) {
    for (int i = 0; i < 2000; ++i) expect_right(std::ldexp(1 + std::generate_canonical<double, 53>(random), exponent));
  }
  expect_right(kMostSincos);
}

// Doubles and floats next to multiples of pi / 2, where one of the two is small, and of pi / 4, where n changes.
TEST(Avx2Sincos, NextToQuarterTurns) {
  if (best_isa() < Isa::kAvx2) GTEST_SKIP() << "this machine lacks avx2";
  const double most = 0x1p30 / std::acos(-1) * 4;
  for (double n = 1; n < most; n = std::ceil(n * 1.01)) {
    const double x = n * std::acos(-1) / 4;
    if (x > kMostSincos) break;
    for (const double at : {x, std::nextafter(x, 0), std::nextafter(x, 1e30), static_cast<double>(float(x))}) {
      if (at <= kMostSincos) expect_right(at);
    }
  }
}

}  // namespace
}  // namespace ll::avx2
#pragma GCC pop_options
