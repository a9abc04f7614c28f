#include "runtime/device/host_sampling.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

namespace ll {
namespace {

TEST(HostSampling, RowsAreSampledAsByOneSampler) {
  constexpr size_t kRows = 13, kVocab = 5000;
  std::mt19937 random(1);
  std::vector<float> logits(kRows * kVocab);
  for (float& l : logits) l = static_cast<float>(random() % 1000) / 50;
  logits[4 * kVocab + 7] = std::numeric_limits<float>::quiet_NaN();
  std::vector<SampleParams> params(kRows);
  std::vector<RowSampling> rows(kRows);
  for (size_t i = 0; i < kRows; ++i) {
    params[i].temperature = i % 2 == 0 ? 0.0F : 1.0F;
    rows[i].params = &params[i];
    rows[i].draw = i;
    rows[i].logprob = i % 3 == 0;
  }
  for (const int threads : {1, 2, 5}) {
    auto team = Team::create(threads);
    ASSERT_TRUE(team);
    HostSampling sampling(**team);
    for (const size_t count : {size_t{1}, size_t{6}, kRows, size_t{0}}) {
      const auto got = sampling.sample(std::span(logits).first(count * kVocab), std::span(rows).first(count));
      ASSERT_EQ(got.size(), count);
      for (size_t i = 0; i < count; ++i) {
        const SampledToken want = Sampler().sample(std::span(logits).subspan(i * kVocab, kVocab), rows[i]);
        EXPECT_EQ(got[i].token, want.token);
        EXPECT_EQ(got[i].logprob, want.logprob);
        EXPECT_EQ(got[i].error.message, want.error.message);
        EXPECT_EQ(got[i].token == -1, i == 4);
      }
    }
  }
  EXPECT_TRUE(HostSampling::create());
}

}  // namespace
}  // namespace ll
