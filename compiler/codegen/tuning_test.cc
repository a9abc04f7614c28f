#include "compiler/codegen/tuning.h"

#include <gtest/gtest.h>

namespace ll {
namespace {

TEST(Tuning, NarrowerScopesWin) {
  const auto tuning = parse_tuning(
      "# of all launches\n"
      "linear.ahead 1\r\n"
      "  step-1:linear.ahead\t2   # of one program\n"
      "linear_add_q8:linear.ahead 3\n"
      "step-1/linear_add_q8:linear.ahead 4\n"
      "\n"
      "step-8/attention:attention.blocks 40",
      "t");
  ASSERT_TRUE(tuning) << tuning.error().message;
  const auto ahead = [&](std::string_view program, std::string_view kernel) {
    const cuda::Tuning t = tuning_of(*tuning, program, kernel);
    return t.at("linear.ahead");
  };
  EXPECT_EQ(ahead("step-8", "linear_q8"), 1);
  EXPECT_EQ(ahead("step-1", "linear_q8"), 2);
  EXPECT_EQ(ahead("step-8", "linear_add_q8"), 3);
  EXPECT_EQ(ahead("step-1", "linear_add_q8"), 4);
  EXPECT_EQ(tuning_of(*tuning, "step-8", "attention").at("attention.blocks"), 40);
  EXPECT_FALSE(tuning_of(*tuning, "step-1", "attention").contains("attention.blocks"));
}

TEST(Tuning, WrongLinesAreNamed) {
  const std::pair<const char*, const char*> kWrong[] = {
      {"linear.ahead", "t: line 1: 'linear.ahead', expected a key and a number"},
      {"\nlinear.ahead 1x", "t: line 2: 'linear.ahead 1x', expected a key and a number"},
      {"linear.ahead 99999999999999999999", "expected a key and a number"},
      {"linear.speed 1", "t: line 1: unknown key 'linear.speed', expected one of "},
      {"gemm:linear.ahead 1", "t: line 1: 'gemm' is neither a program nor a kernel that GPUs run"},
      {"big/linear_q8:linear.ahead 1", "t: line 1: 'big' is no program, expected step-N"},
      {":linear.ahead 1", "t: line 1: an empty scope"},
      {"linear.ahead 1\nlinear.ahead 2", "t: line 2: 'linear.ahead' is set twice"},
  };
  for (const auto& [text, message] : kWrong) {
    const auto tuning = parse_tuning(text, "t");
    ASSERT_FALSE(tuning) << text;
    EXPECT_EQ(tuning.error().code, Code::kBadData);
    EXPECT_NE(tuning.error().message.find(message), std::string::npos) << tuning.error().message;
  }
}

}  // namespace
}  // namespace ll
