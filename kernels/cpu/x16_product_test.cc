// The products of the VNNI and tile levels over words of plain C++, so that what does not depend on the instructions
// is tested on every machine: the same bits as AVX2's. The instructions themselves are tested by
// kernels/numerics_test.cc and kernels/ref/linear_test.cc where the CPU has them.
#include "kernels/cpu/x16_product.h"

#include <gtest/gtest.h>

#include "kernels/cpu/plain_words_test.h"
#include "kernels/numerics.h"

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
