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

TEST(HostSampling, RowsThatListsDecideNeedNoLogits) {
  constexpr size_t kRows = 37, kVocab = 900;
  std::mt19937 random(2);
  std::vector<float> logits(kRows * kVocab);
  for (float& l : logits) l = static_cast<float>(random() % 1000) / 50;
  std::vector<SampleParams> params(kRows);
  std::vector<RowSampling> rows(kRows);
  std::vector<std::vector<Candidate>> candidates(kRows);
  std::vector<Shortlist> lists(kRows);
  std::vector<uint32_t> left;
  std::vector<SampledToken> want;
  for (size_t i = 0; i < kRows; ++i) {
    const auto row = std::span(logits).subspan(i * kVocab, kVocab);
    params[i].temperature = 0.9F;
    params[i].mirostat = i % 5 == 0 ? 2 : 0;
    rows[i].params = &params[i];
    rows[i].draw = i;
    want.push_back(Sampler().sample(row, rows[i]));
    if (i % 7 == 3 || i % 5 == 0) left.push_back(static_cast<uint32_t>(i));
    if (i % 7 == 3) continue;  // no list
    TopK().find(row, 64, candidates[i]);
    const float largest = candidates[i][0].logit;
    lists[i] = {candidates[i], kVocab, exp_sum(row, largest, params[i].temperature), exp_sum(row, largest, 1)};
  }
  std::vector<float> needed(logits.size(), std::numeric_limits<float>::quiet_NaN());
  for (const uint32_t i : left) {
    std::copy_n(logits.begin() + static_cast<ptrdiff_t>(i * kVocab), kVocab,
                needed.begin() + static_cast<ptrdiff_t>(i * kVocab));
  }
  for (const int threads : {1, 3}) {
    auto team = Team::create(threads);
    ASSERT_TRUE(team);
    HostSampling sampling(**team);
    for (int round = 0; round < 2; ++round) {
      const auto rest = sampling.sample_lists(lists, rows);
      EXPECT_EQ(std::vector<uint32_t>(rest.begin(), rest.end()), left);
      const auto got = sampling.sample_rest(needed, rows);
      ASSERT_EQ(got.size(), kRows);
      for (size_t i = 0; i < kRows; ++i) EXPECT_EQ(got[i].token, want[i].token) << i;
    }
  }
}

}  // namespace
}  // namespace ll
