#include "runtime/engine/step_cost.h"

#include <gtest/gtest.h>

#include <random>

namespace ll {
namespace {

const std::vector<uint32_t> kSizes = {1, 2, 4, 8, 16, 32, 64, 128};

TEST(StepCost, KnowsNothingBeforeTheFirstStep) {
  StepCost cost(kSizes);
  EXPECT_EQ(cost.predict(7), 0);
  EXPECT_EQ(cost.most_tokens(1e-9), 128U);
}

TEST(StepCost, OneStepGivesAProportion) {
  StepCost cost(kSizes);
  cost.observe(32, 0.032);
  EXPECT_NEAR(cost.predict(64), 0.064, 1e-12);
  EXPECT_NEAR(cost.predict(8), 0.008, 1e-12);
  EXPECT_NEAR(cost.predict(48), 0.048, 1e-12);
  EXPECT_EQ(cost.most_tokens(0.050), 50U);
  EXPECT_EQ(cost.most_tokens(0.0005), 0U);
  cost.observe(0, 1);
  cost.observe(32, 0);
  EXPECT_NEAR(cost.predict(32), 0.032, 1e-12);
}

TEST(StepCost, TwoStepsGiveALine) {
  StepCost cost(kSizes);
  cost.observe(1, 0.003);
  cost.observe(16, 0.0045);
  EXPECT_NEAR(cost.predict(6), 0.0035, 1e-12);
  EXPECT_NEAR(cost.predict(116), 0.0145, 1e-12);
  EXPECT_EQ(cost.most_tokens(0.0105), 76U);
  // Never steeper than in proportion, and never down.
  StepCost steep(kSizes), flat(kSizes);
  steep.observe(1, 0.0001);
  steep.observe(16, 0.0045);
  EXPECT_NEAR(steep.predict(32), 0.009, 1e-12);
  flat.observe(1, 0.0045);
  flat.observe(16, 0.0045);
  EXPECT_NEAR(flat.predict(128), 0.0045, 1e-12);
}

// Whatever the law, after some steps the predictions near where steps ran are right.
TEST(StepCost, LearnsFlatAndSteepLaws) {
  std::mt19937 random(1);
  for (const auto& law : {+[](double t) { return 0.01 + 1e-5 * t; }, +[](double t) { return 1e-4 * t; },
                          +[](double t) { return t <= 32 ? 0.005 : 0.005 + 2e-4 * (t - 32); }}) {
    StepCost cost(kSizes);
    for (int i = 0; i < 3000; ++i) {
      const auto tokens = static_cast<uint32_t>(1 + random() % 128);
      // One step in ten is delayed tenfold.
      cost.observe(tokens, law(tokens) * (random() % 10 == 0 ? 10 : 1));
    }
    for (const uint32_t tokens : {1U, 5U, 16U, 40U, 100U, 128U}) {
      EXPECT_NEAR(cost.predict(tokens), law(tokens), 0.25 * law(tokens)) << tokens;
    }
    const uint32_t most = cost.most_tokens(law(60));
    EXPECT_LE(law(most), 1.3 * law(60));
    EXPECT_GE(law(most), law(60) / 1.3);
  }
}

TEST(StepCost, PredictionsNeverDescend) {
  StepCost cost(kSizes);
  std::mt19937 random(2);
  for (int i = 0; i < 500; ++i) {
    cost.observe(static_cast<uint32_t>(1 + random() % 128), static_cast<double>(1 + random() % 100));
    for (uint32_t t = 2; t <= 128; ++t) ASSERT_GE(cost.predict(t), cost.predict(t - 1) * (1 - 1e-12));
  }
}

TEST(StepCost, FollowsAChange) {
  StepCost cost(kSizes);
  for (int i = 0; i < 100; ++i) cost.observe(16, 0.010);
  for (int i = 0; i < 100; ++i) cost.observe(16, 0.040);
  EXPECT_NEAR(cost.predict(16), 0.040, 0.002);
}

}  // namespace
}  // namespace ll
