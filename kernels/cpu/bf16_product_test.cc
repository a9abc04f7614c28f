// The bf16 products of the tile level over words of plain C++, so that what does not depend on the instructions is
// tested on every machine, and with the instructions where the CPU has them; kernels/numerics_test.cc and
// kernels/ref/linear_test.cc test those too.
#include "kernels/cpu/bf16_product.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "kernels/cpu/plain_words_test.h"
#include "kernels/numerics.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/half.h"

namespace ll::numerics {
namespace {

// TDPBF16PS as Intel's Software Developer's Manual defines it: sums of even and of odd k apart, fused, subnormal
// operands and results are zero.
struct PlainBf16Words : PlainWords<16> {
  static Ints round_pairs(const float* p) {
    Ints pairs;
    for (size_t i = 0; i < pairs.size(); ++i) {
      pairs[i] = f32_to_bf16(p[2 * i]) | static_cast<uint32_t>(f32_to_bf16(p[2 * i + 1])) << 16;
    }
    return pairs;
  }
  static Ints pick(const Ints& a, const Ints& index, const Ints& b) {
    Ints v;
    for (size_t i = 0; i < v.size(); ++i) v[i] = index[i] < 16 ? a[index[i]] : b[index[i] - 16];
    return v;
  }
  static void tiles_begin(int rows, int tokens) { shape = {rows, tokens}; }
  static void tiles_end() { shape = {0, 0}; }

  template <int kGroups>
  static void add_products(const Bf16Block& block, float* sums) {
    ASSERT_TRUE(shape.rows >= 1 && shape.rows <= 16 && shape.tokens >= 1 && shape.tokens <= 16);
    for (int64_t g = 0; g < kGroups; ++g) {
      for (int64_t r = 0; r < shape.rows; ++r) {
        for (int64_t t = 0; t < shape.tokens; ++t) {
          float& sum = sums[g * kBf16Sums + 16 * r + t];
          if (block.first) sum = 0;
          for (int64_t step = 0; step < block.steps; ++step) {
            const std::byte* w = block.w + r * block.w_row_bytes + 64 * step;
            const std::byte* x = block.x + g * block.x_group_bytes + 16 * step * block.x_row_bytes + 4 * t;
            float even = 0, odd = 0;
            for (int64_t pair = 0; pair < 16; ++pair) {
              even = flushed(std::fma(value(w + 4 * pair), value(x + pair * block.x_row_bytes), even));
              odd = flushed(std::fma(value(w + 4 * pair + 2), value(x + pair * block.x_row_bytes + 2), odd));
            }
            sum = flushed(flushed(sum) + flushed(even + odd));
          }
        }
      }
    }
  }

 private:
  struct Shape {
    int rows, tokens;
  };
  static inline thread_local Shape shape = {0, 0};

  static float flushed(float v) { return std::fpclassify(v) == FP_SUBNORMAL ? std::copysign(0.0f, v) : v; }
  static float value(const std::byte* p) {
    uint16_t bits;
    std::memcpy(&bits, p, 2);
    return flushed(bf16_to_f32(bits));
  }
};

template <LinearForm kForm>
void plain_tiles(const KernelCall& call) {
  linear_of(
      call, kForm, [](DType) -> const Dots* { return nullptr; }, &kBf16TilesOf<PlainBf16Words>);
}

// The catalog's kernel with the plain tiles at level kAmx.
Kernel with_plain_tiles(LinearForm form) {
  constexpr std::array<std::pair<const char*, KernelFn>, 4> kRows = {
      {{"linear", plain_tiles<LinearForm::kLinear>},
       {"merged_linear", plain_tiles<LinearForm::kMerged>},
       {"gated_linear", plain_tiles<LinearForm::kGated>},
       {"linear_add", plain_tiles<LinearForm::kAdd>}}};
  const auto& [name, fn] = kRows[static_cast<size_t>(form)];
  Kernel kernel = *find_kernel(name);
  kernel.fn[static_cast<size_t>(Isa::kAmx)] = fn;
  return kernel;
}

constexpr LinearForm kForms[] = {LinearForm::kLinear, LinearForm::kMerged, LinearForm::kGated, LinearForm::kAdd};

class Bf16Product : public testing::TestWithParam<LinearForm> {
 protected:
  void SetUp() override {
    if (!has_isa(Isa::kAvx2)) GTEST_SKIP() << "this machine lacks avx2, of which other weights' products are";
  }
};

TEST_P(Bf16Product, PassesTheCasesOfTheFamily) {
  const Kernel kernel = with_plain_tiles(GetParam());
  for (const Case& c : make_cases(kernel)) {
    SCOPED_TRACE(c.name);
    const Outputs got = run(kernel, Isa::kAmx, c, 1);
    expect_near(c, c.tolerance_amx.empty() ? c.tolerance : c.tolerance_amx, got, run(kernel, Isa::kScalar, c, 1));
    // Nothing changes for other weights.
    if (c.tolerance_amx.empty()) {
      EXPECT_TRUE(got == run(kernel, Isa::kAvx2, c, 1));
    }
    EXPECT_TRUE(run(kernel, Isa::kAmx, c, 3) == got) << "differs with 3 threads";
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, Bf16Product, testing::ValuesIn(kForms),
                         [](const auto& p) { return std::string(with_plain_tiles(p.param).name); });

// Level kAmx with plain tiles, or as the catalog has it.
class Bf16Tokens : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    const Isa needed = GetParam() ? Isa::kAvx2 : Isa::kAmx;
    if (!has_isa(needed)) GTEST_SKIP() << "this machine lacks " << isa_name(needed);
  }
  static Kernel with_tiles(LinearForm form) {
    const Kernel plain = with_plain_tiles(form);
    return GetParam() ? plain : *find_kernel(plain.name);
  }
};
INSTANTIATE_TEST_SUITE_P(Tiles, Bf16Tokens, testing::Bool(),
                         [](const auto& p) { return std::string(p.param ? "plain" : "instructions"); });

// A weight [n, k] of normal values.
Tensor dense_weight(Random& random, DType dtype, int64_t n, int64_t k) {
  const Tensor values = floats(random, {n, k});
  Tensor w{type(dtype, {n, k}), 0, {}};
  w.bytes.resize(static_cast<size_t>(n * row_bytes(dtype, k)));
  find_format(dtype)->quantize(reinterpret_cast<const float*>(values.bytes.data()), n * k, w.bytes.data());
  return w;
}

Case linear_case(Tensor x, Tensor w) {
  Case c;
  c.out = {output(type(DType::kF32, {x.type.dim(0), w.type.dim(0)}))};
  c.in = {std::move(x), std::move(w)};
  return c;
}

// Tokens [first, first + count).
Tensor some_tokens(const Tensor& x, int64_t first, int64_t count) {
  const int64_t row = dense_row_bytes(x.type);
  Tensor part{x.type, 0, {x.bytes.begin() + first * row, x.bytes.begin() + (first + count) * row}};
  part.type.dims[0].value = count;
  return part;
}

// Relative L2 over all outputs.
double relative_l2(const Outputs& got, const Outputs& want, const TensorType& type) {
  const std::vector<float> g = read(type, got[0]), w = read(type, want[0]);
  double off = 0, all = 0;
  for (size_t i = 0; i < g.size(); ++i) {
    off += std::pow(static_cast<double>(g[i]) - w[i], 2);
    all += std::pow(static_cast<double>(w[i]), 2);
  }
  return std::sqrt(off / all);
}

TEST_P(Bf16Tokens, DoNotDependOnTheirCompany) {
  const Kernel kernel = with_tiles(LinearForm::kLinear);
  Random random(7);
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{83, 77}, {16, 32}, {5, 31}, {130, 96}, {33, 1}}) {
    const Tensor w = dense_weight(random, DType::kBF16, n, k), x = floats(random, {Dim(Symbol::kT, 40), k});
    const Case whole = linear_case(x, w);
    const Outputs all = run(kernel, Isa::kAmx, whole, 1), exact = run(kernel, Isa::kScalar, whole, 1);
    if (n * k > 1000) {
      EXPECT_LT(relative_l2(all, exact, whole.out[0].type), 4e-3);
    }
    for (int64_t tokens = 1; tokens <= 40; ++tokens) {
      // The first ones, and the last.
      for (const int64_t first : {int64_t{0}, 40 - tokens}) {
        const Case c = linear_case(some_tokens(x, first, tokens), w);
        const auto begin = all[0].begin() + 4 * n * first;
        const Outputs want = {{begin, begin + 4 * n * tokens}};
        ASSERT_TRUE(run(kernel, Isa::kAmx, c, tokens % 2 == 0 ? 1 : 3) == want)
            << tokens << " tokens from " << first << " of n=" << n << " k=" << k;
      }
    }
  }
}

// More than a chunk, with the last token alone in a tile; rows in several blocks of k.
TEST_P(Bf16Tokens, DoNotDependOnTheirChunk) {
  const Kernel kernel = with_tiles(LinearForm::kLinear);
  Random random(8);
  for (const auto& [n, k, t] : {std::tuple<int64_t, int64_t, int64_t>{70, 40, kLinearChunk + 33}, {19, 600, 97}}) {
    const Tensor w = dense_weight(random, DType::kBF16, n, k), x = floats(random, {Dim(Symbol::kT, t), k});
    const Outputs all = run(kernel, Isa::kAmx, linear_case(x, w), 1);
    ASSERT_TRUE(run(kernel, Isa::kAmx, linear_case(x, w), 3) == all);
    for (const int64_t token : {int64_t{0}, int64_t{63}, int64_t{64}, t - 34, t - 1}) {
      const auto begin = all[0].begin() + 4 * n * token;
      const Outputs want = {{begin, begin + 4 * n}};
      ASSERT_TRUE(run(kernel, Isa::kAmx, linear_case(some_tokens(x, token, 1), w), 1) == want) << "token " << token;
    }
  }
}

// A rounded chunk holds fewer tokens where rows are long.
TEST(Bf16Chunk, HoldsFourMegabytes) {
  EXPECT_EQ(linear_bf16_chunk(1), kLinearChunk);
  EXPECT_EQ(linear_bf16_chunk(8192), kLinearChunk);
  EXPECT_EQ(linear_bf16_chunk(8193), 192);
  EXPECT_EQ(linear_bf16_chunk(14336), 128);
  EXPECT_EQ(linear_bf16_chunk(int64_t{1} << 28), 64);
  EXPECT_EQ(linear_bf16_bytes(3, 33), 3 * 128 + 64);
  EXPECT_EQ(linear_bf16_bytes(1000, 8192), (4 << 20) + 64);
}

TEST_P(Bf16Tokens, ChunksOfLongRowsFitTheirScratch) {
  const Kernel kernel = with_tiles(LinearForm::kLinear);
  Random random(9);
  const int64_t k = 30000, t = 66;
  const Tensor w = dense_weight(random, DType::kBF16, 2, k), x = floats(random, {Dim(Symbol::kT, t), k});
  const Case c = linear_case(x, w);
  ASSERT_EQ(linear_bf16_chunk(k), 64);
  const Outputs got = run(kernel, Isa::kAmx, c, 1);
  EXPECT_LT(relative_l2(got, run(kernel, Isa::kScalar, c, 1), c.out[0].type), 4e-3);
}

// bf16 beside other types: each part keeps the bits it has alone, so that merging changes nothing.
TEST_P(Bf16Tokens, FormsGiveTheBitsOfWhatTheyFuse) {
  const Kernel linear = with_tiles(LinearForm::kLinear);
  Random random(10);
  const int64_t n = 37, k = 75, t = 18;
  const Tensor x = floats(random, {Dim(Symbol::kT, t), k});
  const auto values = [](const Outputs& o) {
    std::vector<float> v(o[0].size() / 4);
    std::memcpy(v.data(), o[0].data(), o[0].size());
    return v;
  };
  for (const auto& [first, second] :
       {std::pair{DType::kBF16, DType::kBF16}, {DType::kBF16, DType::kF16}, {DType::kF32, DType::kBF16}}) {
    const Tensor w1 = dense_weight(random, first, n, k), w2 = dense_weight(random, second, n, k);
    const std::vector<float> y1 = values(run(linear, Isa::kAmx, linear_case(x, w1), 1)),
                             y2 = values(run(linear, Isa::kAmx, linear_case(x, w2), 1));
    Case merged = linear_case(x, w1);
    merged.in.push_back(w2);
    merged.attrs = {{"parts", int64_t{2}}};
    merged.out = {output(type(DType::kF32, {Dim(Symbol::kT, t), 2 * n}))};
    const std::vector<float> m = values(run(with_tiles(LinearForm::kMerged), Isa::kAmx, merged, 3));
    Case gated = linear_case(x, w1);
    gated.in.push_back(w2);
    gated.attrs = {{"act", std::string_view("relu")}};
    const std::vector<float> g = values(run(with_tiles(LinearForm::kGated), Isa::kAmx, gated, 3));
    Case added = linear_case(x, w1);
    added.in.push_back(floats(random, {Dim(Symbol::kT, t), n}));
    const std::vector<float> a = values(run(with_tiles(LinearForm::kAdd), Isa::kAmx, added, 3));
    for (size_t i = 0; i < y1.size(); ++i) {
      const size_t row = i / static_cast<size_t>(n), column = i % static_cast<size_t>(n);
      float residual;
      std::memcpy(&residual, added.in[2].bytes.data() + 4 * i, 4);
      ASSERT_EQ(m[row * 2 * n + column], y1[i]);
      ASSERT_EQ(m[row * 2 * n + n + column], y2[i]);
      ASSERT_EQ(g[i], std::max(y1[i], 0.0f) * y2[i]);
      ASSERT_EQ(a[i], y1[i] + residual);
    }
  }
}

// Values at the edge of what rounding and tiles do with them, one token each against rows of ones.
TEST_P(Bf16Tokens, SpecialValues) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::bit_cast<float>(0x7fffffffu);
  const float tokens[] = {1, nan, inf, 0x1.01p0f, 0x1.03p0f, 0x1p-130f};
  const float want[] = {33, nan, inf, 32 + 1.0f, 32 + 0x1.04p0f, 32};
  const int64_t k = 33, t = 6, n = 3;
  Random random(11);
  Tensor x = floats(random, {Dim(Symbol::kT, t), k});
  Tensor w{type(DType::kBF16, {n, k}), 0, std::vector<std::byte>(static_cast<size_t>(2 * n * k))};
  for (int64_t i = 0; i < n * k; ++i) {
    const uint16_t one = f32_to_bf16(1);
    std::memcpy(w.bytes.data() + 2 * i, &one, 2);
  }
  for (int64_t i = 0; i < t * k; ++i) {
    const float v = i % k == 32 ? tokens[i / k] : 1;
    std::memcpy(x.bytes.data() + 4 * i, &v, 4);
  }
  const Case c = linear_case(x, w);
  const std::vector<float> y = read(c.out[0].type, run(with_tiles(LinearForm::kLinear), Isa::kAmx, c, 1)[0]);
  for (size_t i = 0; i < y.size(); ++i) {
    const float expected = want[i / static_cast<size_t>(n)];
    EXPECT_TRUE(y[i] == expected || (std::isnan(y[i]) && std::isnan(expected)))
        << y[i] << " of token " << i / static_cast<size_t>(n);
  }
}

}  // namespace
}  // namespace ll::numerics
