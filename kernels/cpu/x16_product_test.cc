// The products of the VNNI and tile levels over words of plain C++, so that what does not depend on the instructions
// is tested on every machine: the same bits as AVX2's. The instructions themselves are tested by
// kernels/numerics_test.cc and kernels/ref/linear_test.cc where the CPU has them.
#include "kernels/cpu/x16_dots.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/cpu/plain_words_test.h"
#include "kernels/numerics.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/layouts.h"

namespace ll::numerics {
namespace {

// The forms share linear_of: one of them shows the products of all.
template <class W>
void plain_level(const KernelCall& call) {
  linear_of(call, LinearForm::kLinear, x16_dots<W>);
}

struct PlainLevel {
  const char* name;
  KernelFn linear;
};
void PrintTo(const PlainLevel& level, std::ostream* out) { *out << level.name; }
constexpr PlainLevel kLevels[] = {{"eight_lanes", plain_level<PlainWords<8>>},
                                  {"sixteen_lanes", plain_level<PlainWords<16>>},
                                  {"tiles", plain_level<PlainTileWords>}};

class X16Product : public testing::TestWithParam<PlainLevel> {};

TEST_P(X16Product, GivesTheBitsOfAvx2) {
  if (!has_isa(Isa::kAvx2)) GTEST_SKIP() << "this machine lacks avx2";
  const Kernel& kernel = *find_kernel("linear_q8");
  Kernel plain = kernel;
  plain.fn[static_cast<size_t>(Isa::kAvx2)] = GetParam().linear;
  for (const Case& c : make_cases(kernel)) {
    const Outputs avx2 = run(kernel, Isa::kAvx2, c, 1);
    ASSERT_TRUE(run(plain, Isa::kAvx2, c, 1) == avx2) << c.name;
    ASSERT_TRUE(run(plain, Isa::kAvx2, c, 3) == avx2) << c.name << " with 3 threads";
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, X16Product, testing::ValuesIn(kLevels), [](const auto& p) { return p.param.name; });

TEST(X16Side, GivesTheBitsOfPanelsOneByOne) {
  Random random(7);
  constexpr int64_t k = 768, kRows = 16 * kSidePanels;
  for (const Format& f : formats()) {
    const Dots* dots = x16_dots<PlainWords<16>>(f.dtype);
    if (dots == nullptr) continue;
    std::vector<float> values(static_cast<size_t>(kRows * k));
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (float& v : values) v = uniform(random);
    const int64_t row = row_bytes(f.dtype, k);
    std::vector<std::byte> rows(static_cast<size_t>(kRows * row)), panels(rows.size());
    for (int64_t r = 0; r < kRows; ++r) f.quantize(values.data() + r * k, k, rows.data() + r * row);
    for (int n = 0; n < kSidePanels; ++n) {
      repack_rows_to_x16(f.dtype, rows.data() + 16 * n * row, 16, k, panels.data() + 16 * n * row);
    }
    const DType x = q8a_for_x16(f.dtype);
    std::vector<std::byte> token(static_cast<size_t>(row_bytes(x, k)));
    q8a_quantize_row(x, values.data() + 3 * k, k, token.data());
    std::vector<std::byte> step(static_cast<size_t>(dots->step.bytes(k)));
    dots->step.arrange({token.data(), 0}, 1, k, step.data());
    const DotTokens tokens = {step.data(), 0};
    alignas(64) float want[kRows], got[kRows];
    for (int n = 0; n < kSidePanels; ++n) {
      dots->of_tokens[0](panels.data() + 16 * n * row, 16, k, tokens, want + 16 * n);
    }
    dots->side(panels.data(), 16 * row, k, tokens, got);
    EXPECT_TRUE(std::equal(want, want + kRows, got)) << f.name;
  }
}

template <class T>
T read(const std::byte* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// What products find at a place of a step is what the tokens' rows have.
template <X16Format F, int kTokens>
void expect_tokens_in_step(int64_t k) {
  Random random(5);
  std::uniform_real_distribution<float> uniform(-1, 1);
  const DType q8a = q8a_for_x16(F.dtype);
  const int64_t row = row_bytes(q8a, k);
  std::vector<std::byte> rows(static_cast<size_t>(kTokens * row)),
      step(static_cast<size_t>(kTokens * (k / F.elements) * X16Step<F>::bytes(1)));
  for (int64_t t = 0; t < kTokens; ++t) {
    std::vector<float> values(static_cast<size_t>(k));
    for (float& v : values) v = uniform(random);
    q8a_quantize_row(q8a, values.data(), k, rows.data() + t * row);
  }
  x16_arrange_step<F>({rows.data(), row}, kTokens, k, step.data());
  for (int t = 0; t < kTokens; ++t) {
    const Q8aRow token = q8a_row(rows.data() + t * row, k);
    for (int64_t q = 0; q < k / 32; ++q) {
      const X16Tokens<F, kTokens> at(step.data(), q / F.subs());
      const int s = static_cast<int>(q % F.subs());
      for (int i = 0; i < 32; ++i) ASSERT_EQ(read<int8_t>(at.code(s, t, i)), token.codes[32 * q + i]);
      int32_t of_16[2] = {0, 0};
      for (int i = 0; i < 32; ++i) of_16[i / 16] += token.codes[32 * q + i];
      const int factor = F.zero != 0 ? -F.zero : 1;
      if (X16Step<F>::kWords == 1) {
        ASSERT_EQ(read<int32_t>(at.word(s, 0, t)), factor * (of_16[0] + of_16[1]));
      }
      if (X16Step<F>::kWords == 2) {
        ASSERT_EQ(read<int32_t>(at.word(s, 0, t)), factor * of_16[0]);
        ASSERT_EQ(read<int32_t>(at.word(s, 1, t)), factor * of_16[1]);
      }
      if (X16Step<F>::kPairs == 4) {
        ASSERT_EQ(read<int16_t>(at.pair(s / 2, t) + s % 2 * 2), of_16[0] + of_16[1]);
      }
      if (X16Step<F>::kPairs == 8) {
        ASSERT_EQ(read<int16_t>(at.pair(s, t)), of_16[0]);
        ASSERT_EQ(read<int16_t>(at.pair(s, t) + 2), of_16[1]);
      }
      ASSERT_EQ(read<float>(at.scale(t)), token.scales[q]);
    }
  }
}

TEST(StepTokens, LieWhereProductsReadThem) {
  expect_tokens_in_step<kX16Q8_0, 1>(96);
  expect_tokens_in_step<kX16Q4_0, 7>(32);
  expect_tokens_in_step<kX16Q5_1, 8>(160);
  expect_tokens_in_step<kX16Q2K, 3>(512);
  expect_tokens_in_step<kX16Q3K, 5>(256);
  expect_tokens_in_step<kX16Q4K, 8>(768);
  expect_tokens_in_step<kX16Q6K, 2>(512);
  expect_tokens_in_step<kX16IQ4XS, 4>(256);
}

// Sums that are scaled as floats are those of integers, whatever codes and scales a file has.
TEST(X16FloatSums, AreExact) {
  EXPECT_EQ((x16_float_groups<PlainTileWords, kX16Q3K, 8>()), 16);
  EXPECT_EQ((x16_float_groups<PlainTileWords, kX16Q4K, 8>()), 4);
  EXPECT_EQ((x16_float_groups<PlainTileWords, kX16Q5K, 8>()), 0);
  EXPECT_EQ((x16_float_groups<PlainWords<16>, kX16Q4K, 8>()), 0);
  Random random(11);
  constexpr int64_t k = 512, kTokens = 4;
  for (const Format& f : formats()) {
    const Dots *as_ints = x16_dots<PlainWords<16>>(f.dtype), *as_floats = x16_dots<PlainTileWords>(f.dtype);
    if (as_ints == nullptr || f.block_elements != 256) continue;
    const DType q8a = q8a_for_x16(f.dtype);
    const int64_t row = row_bytes(q8a, k);
    for (const int way : {0x00, 0xff, 0x80, 0x7f, -1}) {  // all bytes of the weights; -1: any
      std::vector<std::byte> panel(static_cast<size_t>(16 * row_bytes(f.dtype, k)));
      for (std::byte& b : panel) b = static_cast<std::byte>(way < 0 ? random() : static_cast<unsigned>(way));
      for (size_t i = 0; i < 2 * 64; ++i) panel[i] = static_cast<std::byte>(i % 2 == 0 ? 0x23 : 0x1c);  // factors
      std::vector<std::byte> rows(static_cast<size_t>(kTokens * row)),
          steps(static_cast<size_t>(kTokens * as_ints->step.bytes(k)));
      for (int64_t t = 0; t < kTokens; ++t) {  // the largest codes, of one sign and of any
        std::vector<float> x(static_cast<size_t>(k));
        for (float& v : x) v = t == 0 || (t > 1 && random() % 2 == 0) ? 1.0f : -1.0f;
        q8a_quantize_row(q8a, x.data(), k, rows.data() + t * row);
      }
      as_ints->step.arrange({rows.data(), row}, kTokens, k, steps.data());
      alignas(64) float want[16 * kTokens], got[16 * kTokens];
      as_ints->of_tokens[kTokens - 1](panel.data(), 16, k, {steps.data(), 0}, want);
      as_floats->of_tokens[kTokens - 1](panel.data(), 16, k, {steps.data(), 0}, got);
      EXPECT_TRUE(std::equal(want, want + 16 * kTokens, got)) << f.name << " " << way;
    }
  }
}

// A panel of `blocks` asks for as many bytes as it has, line after line, each once.
template <X16Format F>
void expect_each_line_once(int64_t blocks) {
  constexpr int kBytes = F.head_bytes() + F.block_bytes();
  const std::vector<std::byte> panel(static_cast<size_t>(blocks * kBytes));
  DotTokens x = {};
  x.ahead = 1024;
  const std::byte* next = panel.data() + x.ahead;
  for (int64_t q = 0; q < blocks * F.subs(); ++q) {
    const LinesAhead<kBytes, F.subs()> lines(panel.data(), q, x);
    ASSERT_LE(lines.count(), lines.kMost);
    if (lines.count() == 0) continue;
    EXPECT_EQ(lines.first(), next) << dtype_name(F.dtype) << " " << q;
    next += 64 * lines.count();
  }
  EXPECT_EQ((next - panel.data() - x.ahead) / 64, (blocks * kBytes + 63) / 64) << dtype_name(F.dtype);
  x.ahead = 0;
  EXPECT_EQ((LinesAhead<kBytes, F.subs()>(panel.data(), 0, x).count()), 0);
}

TEST(LinesAhead, SubBlocksOfAPanelAskForEachLineOnce) {
  for (const int64_t blocks : {1, 2, 7, 64}) {
    expect_each_line_once<kX16Q4_0>(blocks);
    expect_each_line_once<kX16Q5_1>(blocks);
    expect_each_line_once<kX16Q8_0>(blocks);
    expect_each_line_once<kX16Q3K>(blocks);
    expect_each_line_once<kX16Q4K>(blocks);
    expect_each_line_once<kX16Q6K>(blocks);
  }
}

// Steps share the lines: each asks in sub-blocks of its own. Behind panels side by side, the next group's are asked
// for.
TEST(LinesAhead, StepsShareThemAndGroupsSkip) {
  constexpr int kBytes = kX16Q4K.head_bytes() + kX16Q4K.block_bytes();
  using Lines = LinesAhead<kBytes, kX16Q4K.subs()>;
  const std::vector<std::byte> panel(2 * kBytes);
  DotTokens x = {};
  x.ahead = kBytes, x.ahead_mask = 1, x.ahead_turn = 1;
  for (int64_t q = 0; q < 16; ++q) EXPECT_EQ(Lines(panel.data(), q, x).count() > 0, q % 2 == 1) << q;
  x.ahead_mask = 0, x.ahead_turn = 0, x.skip_from = 2 * kBytes, x.skip = 6 * kBytes;
  EXPECT_EQ(Lines(panel.data(), 0, x).first(), panel.data() + kBytes);
  EXPECT_EQ(Lines(panel.data(), 8, x).first(), panel.data() + 8 * kBytes);
}

// On machines with several levels, all give the same bits.
TEST(X16Levels, AgreeToTheBit) {
  if (!has_isa(Isa::kAvx2)) GTEST_SKIP() << "this machine lacks avx2";
  for (const Isa isa : {Isa::kAvxVnni, Isa::kAvx512, Isa::kAmx}) {
    if (!has_isa(isa)) continue;
    for (const char* name : {"linear_q8", "merged_linear_q8", "gated_linear_q8", "linear_add_q8"}) {
      const Kernel& kernel = *find_kernel(name);
      for (const Case& c : make_cases(kernel)) {
        ASSERT_TRUE(run(kernel, isa, c, 1) == run(kernel, Isa::kAvx2, c, 1))
            << isa_name(isa) << " " << name << " " << c.name;
      }
    }
  }
}

}  // namespace
}  // namespace ll::numerics
