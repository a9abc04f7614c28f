// Products of weights rounded anew (x16_requantized.h), over words of plain C++ on every machine and with the
// instructions where the CPU has them: close to the products of what the operands stand for, and the same bits
// whatever the threads and the level.
#include "kernels/cpu/x16_requantized.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cpu/plain_words_test.h"
#include "kernels/cpu/x16_dots.h"
#include "kernels/numerics.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/half.h"
#include "kernels/quant/layouts.h"
#include "kernels/quant/q8a_slabs.h"

namespace ll::numerics {
namespace {

struct Shape {
  int64_t rows, k, tokens;
};

// Operands of linear_q8 and what they stand for.
struct Product {
  Case c;
  std::vector<float> w, x;
};

std::vector<float> normal(Random& random, int64_t count, float scale) {
  std::normal_distribution<float> of(0, scale);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = of(random);
  return values;
}

Product product(Random& random, const Format& f, const Shape& s) {
  Product p;
  const DType xtype = q8a_for_x16(f.dtype);
  const int64_t row = row_bytes(f.dtype, s.k);
  p.w = normal(random, s.rows * s.k, 0.02F);
  p.x = normal(random, s.tokens * s.k, 1);
  Tensor w = {type(f.dtype, {s.rows, s.k}, Layout::kX16), row, {}};
  const int64_t panels = (s.rows + 15) / 16;
  w.bytes.resize(static_cast<size_t>(16 * panels * row));
  std::vector<std::byte> rows(static_cast<size_t>(s.rows * row));
  for (int64_t r = 0; r < s.rows; ++r) {
    f.quantize(p.w.data() + r * s.k, s.k, rows.data() + r * row);
    f.dequantize(rows.data() + r * row, s.k, p.w.data() + r * s.k);
  }
  for (int64_t n = 0; n < panels; ++n) {
    repack_rows_to_x16(f.dtype, rows.data() + 16 * n * row, std::min<int64_t>(16, s.rows - 16 * n), s.k,
                       w.bytes.data() + 16 * n * row);
  }
  Tensor x = {type(xtype, {Dim(Symbol::kT, s.tokens), s.k}), row_bytes(xtype, s.k), {}};
  x.bytes.resize(static_cast<size_t>(s.tokens * x.row_bytes));
  for (int64_t t = 0; t < s.tokens; ++t) {
    std::byte* const to = x.bytes.data() + t * x.row_bytes;
    q8a_quantize_row(xtype, p.x.data() + t * s.k, s.k, to);
    q8a_dequantize_row(to, s.k, p.x.data() + t * s.k);
  }
  p.c.in = {x, w};
  p.c.out = {output(type(DType::kF32, {Dim(Symbol::kT, s.tokens), s.rows}))};
  return p;
}

// The tokens of a product with one scale for 512, as rows and in slabs: made of x as kernels/quant/q8a.h says of a
// block.
struct Tokens {
  std::vector<std::byte> rows, slabs;
};
Tokens tokens_of(const std::vector<float>& x, int64_t tokens, int64_t k) {
  const int64_t row = q8a_row_bytes(k), in_slabs = slab_tokens(tokens, k);
  Tokens both = {std::vector<std::byte>(static_cast<size_t>(tokens * row)), {}};
  for (int64_t t = 0; t < tokens; ++t) {
    std::byte* const to = both.rows.data() + t * row;
    auto* const sums = reinterpret_cast<int16_t*>(to + k + k / 8);
    for (int64_t i = 0; i < k; ++i) {
      const float* const of = x.data() + t * k + i / kSlabScale * kSlabScale;
      const int64_t count = std::min(kSlabScale, k - i / kSlabScale * kSlabScale);
      float largest = 0;
      for (int64_t j = 0; j < count; ++j) largest = std::max(largest, std::abs(of[j]));
      const auto code = static_cast<int>(std::nearbyint(x[static_cast<size_t>(t * k + i)] * (127 / largest)));
      to[i] = static_cast<std::byte>(code);
      reinterpret_cast<float*>(to + k)[i / 32] = largest / 127;
      sums[i / 16] = static_cast<int16_t>(sums[i / 16] + code);
    }
  }
  both.slabs = both.rows;
  for (int64_t t = 0; t < in_slabs; ++t) {
    const std::byte* const from = both.rows.data() + t * row;
    std::byte* const slab = both.slabs.data() + t / kSlabTokens * slab_bytes(k);
    for (int64_t i = 0; i < k; i += 64) std::copy_n(from + i, 64, slab + slab_codes(t % kSlabTokens, i));
    for (int64_t i = 0; i < k; i += 512) std::copy_n(from + k + i / 8, 4, slab + slab_scale(t % kSlabTokens, i, k));
  }
  return both;
}

double relative_error(const Product& p, const Shape& s, const Outputs& got) {
  double error = 0, norm = 0;
  const auto* y = reinterpret_cast<const float*>(got[0].data());
  for (int64_t t = 0; t < s.tokens; ++t) {
    for (int64_t r = 0; r < s.rows; ++r) {
      double want = 0;
      for (int64_t i = 0; i < s.k; ++i) {
        want += double{p.w[static_cast<size_t>(r * s.k + i)]} * p.x[static_cast<size_t>(t * s.k + i)];
      }
      error += (y[t * s.rows + r] - want) * (y[t * s.rows + r] - want), norm += want * want;
    }
  }
  return std::sqrt(error / norm);
}

void over_tiles(const KernelCall& call) { linear_of(call, LinearForm::kLinear, x16_dots<ll::PlainTileWords>); }

// The same with the products of levels without tiles.
const Dots* dots_in_registers(DType dtype) {
  static const std::vector<Dots> all = [] {
    std::vector<Dots> found;
    for (const Format& f : formats()) {
      const Dots* const dots = x16_dots<ll::PlainTileWords>(f.dtype);
      if (dots == nullptr) continue;
      found.push_back(*dots);
      found.back().exact = {};
      found.back().requantized.tiles = x16_requantized_dots<ll::PlainTileWords>;
    }
    return found;
  }();
  const auto dots = std::find_if(all.begin(), all.end(), [&](const Dots& d) { return d.dtype == dtype; });
  return dots == all.end() ? nullptr : &*dots;
}
void in_registers(const KernelCall& call) { linear_of(call, LinearForm::kLinear, dots_in_registers); }

// This machine's levels with such products.
std::vector<Isa> requantizing_levels() {
  std::vector<Isa> all;
  for (const Isa isa : {Isa::kAvx512, Isa::kAmx}) {
    if (has_isa(isa)) all.push_back(isa);
  }
  return all;
}

class X16Requantized : public testing::Test {
 protected:
  X16Requantized() {
    plain_.fn[static_cast<size_t>(Isa::kAvx2)] = over_tiles;
    registers_.fn[static_cast<size_t>(Isa::kAvx2)] = in_registers;
  }

  void SetUp() override {
    if (!has_isa(Isa::kAvx2)) GTEST_SKIP() << "this machine lacks avx2";
  }
  Outputs plain(const Case& c, int threads, bool deterministic = false) {
    return run(plain_, Isa::kAvx2, c, threads, deterministic);
  }

  Random random_{11};
  Kernel plain_ = *find_kernel("linear_q8"), registers_ = plain_;
};

// The largest of 512 normal values is 3.1 times their deviation: steps of a 127th of it make an error of 0.7 %, and so
// do those of tokens.
TEST_F(X16Requantized, IsCloseToTheProduct) {
  for (const Format& f : formats()) {
    if (x16_dots<ll::PlainTileWords>(f.dtype) == nullptr) continue;
    std::vector<Shape> shapes = {{48, 512, 64}, {19, 256, 81}, {33, kTilePart + 256, 64}};
    if (q8a_for_x16(f.dtype) == DType::kQ8A) shapes.insert(shapes.end(), {{40, 32, 65}, {16, 320, 96}, {5, 96, 64}});
    for (const Shape& s : shapes) {
      SCOPED_TRACE(testing::Message() << f.name << " [" << s.rows << ", " << s.k << "] x " << s.tokens);
      const Product p = product(random_, f, s);
      const Outputs got = plain(p.c, 1);
      EXPECT_LT(relative_error(p, s, got), 0.012);
      EXPECT_TRUE(plain(p.c, 3) == got) << "3 threads";
      for (const int threads : {1, 3}) {
        EXPECT_TRUE(run(registers_, Isa::kAvx2, p.c, threads, false) == got) << "without tiles";
      }
      for (const int threads : {1, 2}) {
        for (const Isa isa : requantizing_levels()) {
          EXPECT_TRUE(run(*find_kernel("linear_q8"), isa, p.c, threads, false) == got) << isa_name(isa);
        }
      }
    }
  }
}

TEST_F(X16Requantized, TokensInSlabsAreThoseOfRows) {
  for (const Shape& s : {Shape{48, 512, 64}, {19, 256, 81}, {33, kTilePart + 256, 113}, {16, 768, 96}}) {
    SCOPED_TRACE(testing::Message() << "[" << s.rows << ", " << s.k << "] x " << s.tokens);
    Product p = product(random_, *find_format("q4_K"), s);
    const Tokens tokens = tokens_of(p.x, s.tokens, s.k);
    p.c.in[0].bytes = tokens.rows;
    const Outputs want = plain(p.c, 1);
    p.c.in[0].bytes = tokens.slabs;
    for (const int threads : {1, 2, 5}) {
      EXPECT_TRUE(run(plain_, Isa::kAvx2, p.c, threads, false, true) == want) << threads << " threads";
      EXPECT_TRUE(run(registers_, Isa::kAvx2, p.c, threads, false, true) == want) << threads << " threads";
      for (const Isa isa : requantizing_levels()) {
        EXPECT_TRUE(run(*find_kernel("linear_q8"), isa, p.c, threads, false, true) == want) << isa_name(isa);
      }
    }
  }
}

TEST_F(X16Requantized, QuantizationWritesSlabs) {
  if (!has_isa(Isa::kAvx512)) GTEST_SKIP() << "this machine lacks " << isa_name(Isa::kAvx512);
  for (const Shape& s : {Shape{0, 512, 64}, {0, 256, 95}, {0, 1280, 113}, {0, 320, 64}, {0, 512, 63}}) {
    SCOPED_TRACE(testing::Message() << s.tokens << " x " << s.k);
    const std::vector<float> x = normal(random_, s.tokens * s.k, 1);
    Case c;
    c.in = {{type(DType::kF32, {Dim(Symbol::kT, s.tokens), s.k}), 4 * s.k, {}}};
    c.in[0].bytes.resize(x.size() * 4);
    std::memcpy(c.in[0].bytes.data(), x.data(), x.size() * 4);
    c.out = {output(type(DType::kQ8A, {Dim(Symbol::kT, s.tokens), s.k}))};
    const Kernel& quantize = *find_kernel("quantize");
    const Outputs rows = run(quantize, Isa::kScalar, c, 1), got = run(quantize, Isa::kAvx512, c, 1, false, true);
    const int64_t in_slabs = slab_tokens(s.tokens, s.k), row = q8a_row_bytes(s.k);
    EXPECT_EQ(in_slabs, s.tokens < 64 || s.k % 256 != 0 ? 0 : s.tokens / 32 * 32);
    EXPECT_TRUE(std::equal(rows[0].begin() + in_slabs * row, rows[0].end(), got[0].begin() + in_slabs * row));
    const Tokens want = tokens_of(x, s.tokens, s.k);
    for (int64_t t = 0; t < in_slabs; ++t) {
      const int64_t slab = t / kSlabTokens * slab_bytes(s.k);
      for (int64_t i = 0; i < s.k; i += 64) {
        const auto at = static_cast<size_t>(slab + slab_codes(t % kSlabTokens, i)),
                   scale = static_cast<size_t>(slab + slab_scale(t % kSlabTokens, i, s.k));
        ASSERT_EQ(std::memcmp(&got[0][at], &want.slabs[at], 64), 0) << t << " " << i;
        ASSERT_EQ(std::memcmp(&got[0][scale], &want.slabs[scale], 4), 0) << t << " " << i;
      }
    }
    for (const int threads : {2, 3, 7})
      EXPECT_TRUE(run(quantize, Isa::kAvx512, c, threads, false, true) == got) << threads;
  }
}

TEST_F(X16Requantized, NormedTokensInSlabsAreThoseOfBothKernels) {
  if (!has_isa(Isa::kAvx512)) GTEST_SKIP() << "this machine lacks " << isa_name(Isa::kAvx512);
  const int64_t tokens = 70, k = 768;
  const auto floats_of = [](const std::vector<float>& values, TensorType of) {
    Tensor tensor = {of, 4 * of.last().value, {}};
    tensor.bytes.resize(values.size() * 4);
    std::memcpy(tensor.bytes.data(), values.data(), values.size() * 4);
    return tensor;
  };
  const TensorType rows = type(DType::kF32, {Dim(Symbol::kT, tokens), k});
  Case c;
  c.in = {floats_of(normal(random_, tokens * k, 1), rows), floats_of(normal(random_, k, 1), type(DType::kF32, {k}))};
  c.in[1].row_bytes = 4;
  c.attrs = {{"eps", 1e-5}};
  c.out = {output(rows)};
  Case normed = c;
  normed.in = {c.in[0]}, normed.attrs = {};
  normed.in[0].bytes = run(*find_kernel("rms_norm"), Isa::kAvx512, c, 1)[0];
  c.out = normed.out = {output(type(DType::kQ8A256, {Dim(Symbol::kT, tokens), k}))};
  const Outputs want = run(*find_kernel("quantize"), Isa::kAvx512, normed, 1, false, true);
  for (const int threads : {1, 2, 7}) {
    const Outputs got = run(*find_kernel("norm_quantize"), Isa::kAvx512, c, threads, false, true);
    // What slabs do not use of their rows' place nobody writes.
    for (int64_t slab = 0; slab < 64; slab += 32) {
      const auto at = static_cast<ptrdiff_t>(slab * q8a_row_bytes(k));
      EXPECT_TRUE(
          std::equal(got[0].begin() + at, got[0].begin() + at + slab_scale(0, k - 1, k) + 128, want[0].begin() + at));
    }
    EXPECT_TRUE(
        std::equal(got[0].begin() + 64 * q8a_row_bytes(k), got[0].end(), want[0].begin() + 64 * q8a_row_bytes(k)));
  }
}

// Zeros, what is too small for a scale, infinity and NaN, whichever way they reach a slab.
TEST_F(X16Requantized, SlabsOfZerosAndWhatIsNotFinite) {
  if (!has_isa(Isa::kAvx512)) GTEST_SKIP() << "this machine lacks " << isa_name(Isa::kAvx512);
  const int64_t tokens = 64, k = 256;
  std::vector<float> x = normal(random_, tokens * k, 1);
  std::fill_n(x.begin(), k, 0.0F);
  std::fill_n(x.begin() + k, k, 0x1p-101F);
  x[2 * k + 7] = std::numeric_limits<float>::infinity(), x[3 * k + 9] = std::numeric_limits<float>::quiet_NaN();
  Case c;
  c.in = {{type(DType::kF32, {Dim(Symbol::kT, tokens), k}), 4 * k, {}}};
  c.in[0].bytes.resize(x.size() * 4);
  std::memcpy(c.in[0].bytes.data(), x.data(), x.size() * 4);
  c.out = {output(type(DType::kQ8A256, {Dim(Symbol::kT, tokens), k}))};
  const Outputs got = run(*find_kernel("quantize"), Isa::kAvx512, c, 1, false, true);
  for (int64_t t = 0; t < 4; ++t) {
    float scale;
    std::memcpy(&scale, &got[0][static_cast<size_t>(slab_scale(t, 0, k))], 4);
    EXPECT_TRUE(t < 2 ? scale == 0 : std::isnan(scale)) << t << ": " << scale;
    for (int64_t i = 0; i < k; ++i) {
      EXPECT_EQ(got[0][static_cast<size_t>(slab_codes(t, i / 64 * 64) + i % 64)], std::byte{0}) << t << " " << i;
    }
  }
}

TEST_F(X16Requantized, BeginsAtSixtyFourTokens) {
  const Format& f = *find_format("q4_K");
  for (const int64_t tokens : {63, 64}) {
    const Product p = product(random_, f, {16, 256, tokens});
    EXPECT_EQ(plain(p.c, 1) == plain(p.c, 1, true), tokens < 64) << tokens;
  }
}

// Weights that 512 k have in common are exact: then nothing is rounded but 127 steps to as many.
TEST_F(X16Requantized, WhatFitsIsExact) {
  const Format& f = *find_format("q8_0");
  const Shape s = {16, 512, 64};
  Product p = product(random_, f, s);
  std::uniform_int_distribution<int> code(-127, 127);
  std::vector<float> w(static_cast<size_t>(s.rows * s.k));
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i % 32 == 0 ? 127 : code(random_)) * 0x1p-10F;
  std::vector<std::byte> rows(static_cast<size_t>(s.rows * row_bytes(f.dtype, s.k)));
  for (int64_t r = 0; r < s.rows; ++r) {
    f.quantize(w.data() + r * s.k, s.k, rows.data() + r * row_bytes(f.dtype, s.k));
    f.dequantize(rows.data() + r * row_bytes(f.dtype, s.k), s.k, p.w.data() + r * s.k);
  }
  repack_rows_to_x16(f.dtype, rows.data(), 16, s.k, p.c.in[1].bytes.data());
  std::vector<float> x(static_cast<size_t>(s.k));
  for (int64_t t = 0; t < s.tokens; ++t) {
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 32 == 0 ? 127 : code(random_));
    std::byte* const to = p.c.in[0].bytes.data() + t * p.c.in[0].row_bytes;
    q8a_quantize_row(DType::kQ8A, x.data(), s.k, to);
    q8a_dequantize_row(to, s.k, p.x.data() + t * s.k);
  }
  EXPECT_LT(relative_error(p, s, plain(p.c, 1)), 1e-6);
}

TEST_F(X16Requantized, ZerosAndWhatIsNotFinite) {
  for (const char* name : {"q4_K", "q4_0", "q8_0", "iq4_xs"}) {
    const Format& f = *find_format(name);
    const Shape s = {16, 512, 64};
    Product p = product(random_, f, s);
    // Rows 0 and 1 of the weights: zeros, and a scale that is not a number. Token 0: zeros; token 1: not a number.
    const int64_t row = row_bytes(f.dtype, s.k);
    std::vector<std::byte> rows(static_cast<size_t>(16 * row));
    for (int64_t r = 0; r < 16; ++r) f.quantize(p.w.data() + r * s.k, s.k, rows.data() + r * row);
    const std::vector<float> zeros(static_cast<size_t>(s.k));
    f.quantize(zeros.data(), s.k, rows.data());
    repack_rows_to_x16(f.dtype, rows.data(), 16, s.k, p.c.in[1].bytes.data());
    const uint16_t nan = 0x7e00;
    std::memcpy(p.c.in[1].bytes.data() + 2, &nan, 2);  // row 1 of the first block's head
    std::vector<float> token = zeros;
    q8a_quantize_row(q8a_for_x16(f.dtype), token.data(), s.k, p.c.in[0].bytes.data());
    token[7] = std::numeric_limits<float>::infinity();
    q8a_quantize_row(q8a_for_x16(f.dtype), token.data(), s.k, p.c.in[0].bytes.data() + p.c.in[0].row_bytes);
    const Outputs got = plain(p.c, 1);
    // NaN where it is NaN: which one is nobody's business.
    const auto* y = reinterpret_cast<const float*>(got[0].data());
    const Outputs other = run(registers_, Isa::kAvx2, p.c, 1, false);
    const auto* same = reinterpret_cast<const float*>(other[0].data());
    for (int64_t i = 0; i < 16 * s.tokens; ++i) {
      EXPECT_TRUE(same[i] == y[i] || (std::isnan(same[i]) && std::isnan(y[i]))) << name << " " << i;
    }
    for (int64_t t = 0; t < s.tokens; ++t) {
      for (int64_t r = 0; r < 16; ++r) {
        const float value = y[16 * t + r];
        if (t == 1 || r == 1) {
          EXPECT_TRUE(std::isnan(value)) << name << " " << t << " " << r;
        } else if (t == 0 || r == 0) {
          EXPECT_EQ(value, 0) << name << " " << t << " " << r;
        } else {
          EXPECT_TRUE(std::isfinite(value)) << name << " " << t << " " << r;
        }
      }
    }
  }
}

}  // namespace
}  // namespace ll::numerics
