// The numerics suite: walks the catalog. Each kernel runs every case of its generator (kernels/numerics.h) at each
// level that the machine has, inside poisoned, guarded memory, with 1, 2, 3 and 7 threads, and is compared with its
// scalar level.
#include "kernels/numerics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "kernels/quant/q8a.h"

namespace ll::numerics {
namespace {

TEST(Catalog, RowsAreComplete) {
  std::set<std::string_view> names;
  for (const Kernel& kernel : catalog()) {
    SCOPED_TRACE(kernel.name);
    EXPECT_TRUE(names.insert(kernel.name).second) << "listed twice";
    EXPECT_EQ(find_kernel(kernel.name), &kernel);
    EXPECT_NE(kernel.fn[0], nullptr);
    ASSERT_NE(kernel.check, nullptr);
    ASSERT_NE(kernel.cost, nullptr);
    const std::vector<Case> cases = make_cases(kernel);
    ASSERT_FALSE(cases.empty()) << "no case generator: add one to the lists that kernels/numerics.h names";
    // Indices are what check cannot prove, so each must name the step input it comes from.
    for (size_t i = 0; i < cases[0].in.size(); ++i) {
      const TensorType& t = cases[0].in[i].type;
      if (t.dtype != DType::kI32) continue;
      const auto wired = std::find_if(kernel.indices.begin(), kernel.indices.end(),
                                      [&](const IndexOperand& index) { return index.in == static_cast<int>(i); });
      ASSERT_NE(wired, kernel.indices.end()) << "input " << i << " is i32 and names no step input";
      const auto inputs = step_inputs();
      const auto input =
          std::find_if(inputs.begin(), inputs.end(), [&](const StepInput& s) { return s.name == wired->step_input; });
      ASSERT_NE(input, inputs.end()) << wired->step_input;
      EXPECT_EQ(input->rank, t.rank);
      EXPECT_EQ(input->dtype, t.dtype);
      EXPECT_EQ(input->symbol, t.dim(0).symbol);
    }
  }
  EXPECT_EQ(find_kernel("no such kernel"), nullptr);
  for (const CaseList& list : all_cases()) EXPECT_NE(find_kernel(list.kernel), nullptr) << list.kernel;
}

TEST(Catalog, CostsCountEveryOutputByte) {
  for (const Kernel& kernel : catalog()) {
    for (const Case& c : make_cases(kernel)) {
      SCOPED_TRACE(std::string(kernel.name) + " " + c.name);
      int64_t written = 0;
      for (size_t o = 0; o < c.out.size(); ++o) {
        if (shared_input(c, o) < 0) written += rows_of(c.out[o].type) * dense_row_bytes(c.out[o].type);
      }
      EXPECT_GE(kernel.cost(Spec(c).view()).bytes, static_cast<uint64_t>(written));
    }
  }
}

struct Level {
  size_t kernel;
  Isa isa;
};

std::string name_of(const Level& level) {
  std::string name = std::string(catalog()[level.kernel].name) + "_" + isa_name(level.isa);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
void PrintTo(const Level& level, std::ostream* out) { *out << name_of(level); }

std::vector<Level> levels() {
  std::vector<Level> all;
  for (size_t k = 0; k < catalog().size(); ++k) {
    for (int isa = 0; isa < kIsaCount; ++isa) {
      if (catalog()[k].fn[static_cast<size_t>(isa)] != nullptr) all.push_back({k, static_cast<Isa>(isa)});
    }
  }
  return all;
}

class Numerics : public testing::TestWithParam<Level> {};

TEST_P(Numerics, MatchesReferenceWithAnyThreads) {
  const Kernel& kernel = catalog()[GetParam().kernel];
  const Isa isa = GetParam().isa;
  if (!has_isa(isa)) GTEST_SKIP() << "this machine lacks " << isa_name(isa);
  const std::vector<Case> cases = make_cases(kernel);
  ASSERT_FALSE(cases.empty()) << "no case generator";
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const Status checked = kernel.check(Spec(c).view());
    ASSERT_TRUE(checked) << checked.error().message;
    const Outputs want = run(kernel, Isa::kScalar, c, 1), got = run(kernel, isa, c, 1);
    expect_near(c, isa == Isa::kAmx && !c.tolerance_amx.empty() ? c.tolerance_amx : c.tolerance, got, want);
    for (const int threads : {2, 3, 7}) {
      EXPECT_TRUE(run(kernel, isa, c, threads) == got) << "differs with " << threads << " threads";
    }
    const Outputs any = run(kernel, isa, c, 1, false);
    // At kAvx512 products alone are faster then.
    const bool may_differ = isa == Isa::kAmx || (isa == Isa::kAvx512 && is_q8a(c.in[0].type.dtype));
    if (!may_differ || c.tolerance_any.empty()) {
      EXPECT_TRUE(any == got) << "differs where it need not be deterministic";
    } else {
      expect_near(c, c.tolerance_any, any, want);
      EXPECT_TRUE(run(kernel, isa, c, 3, false) == any) << "differs with 3 threads";
    }
    if (kernel.in_place >= 0 && shared_input(c, 0) < 0) {
      Case shared = c;
      shared.shares = {kernel.in_place};
      EXPECT_TRUE(run(kernel, isa, shared, 2) == got)
          << "differs when output 0 is the memory of input " << kernel.in_place;
    }
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Catalog, Numerics, testing::ValuesIn(levels()),
                         [](const auto& p) { return name_of(p.param); });

}  // namespace
}  // namespace ll::numerics
