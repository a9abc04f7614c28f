#include "runtime/device/shortlist_words.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

namespace ll::shortlist_words {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Tokens 0, 1, ... with logits that fall by one half each.
std::vector<float> words_of(int64_t listed) {
  std::vector<float> words(kShortlistWords, 0);
  words[kShortlistCount] = static_cast<float>(listed);
  words[kShortlistSum] = 2.5F;
  words[kShortlistSumAtOne] = 3;
  for (size_t i = 0; i < static_cast<size_t>(listed); ++i) {
    words[kShortlistLogits + i] = 7 - static_cast<float>(i) / 2;
    words[kShortlistTokens + i] = static_cast<float>(i);
  }
  return words;
}

TEST(ShortlistWords, AreReadAsTheKernelWritesThem) {
  std::vector<Candidate> room(kShortlist);
  const auto list = read_shortlist(words_of(kShortlist), 1000, room);
  ASSERT_TRUE(list) << list.error().message;
  ASSERT_EQ(list->candidates.size(), 64U);
  EXPECT_EQ(list->vocab_size, 1000U);
  EXPECT_EQ(list->candidates[3].token, 3);
  EXPECT_EQ(list->candidates[3].logit, 5.5F);
  EXPECT_EQ(list->sum, 2.5);
  EXPECT_EQ(list->sum_at_one, 3);
  const auto small = read_shortlist(words_of(5), 5, room);
  ASSERT_TRUE(small);
  EXPECT_EQ(small->candidates.size(), 5U);
}

TEST(ShortlistWords, RowsThatMakeNoDistributionAreLeftToTheirLogits) {
  std::vector<Candidate> room(kShortlist);
  std::vector<float> words(kShortlistWords, 0);
  words[kShortlistBad] = 2;
  auto list = read_shortlist(words, 1000, room);
  ASSERT_TRUE(list);
  EXPECT_TRUE(list->candidates.empty());
  words = words_of(kShortlist);
  std::fill_n(words.begin() + kShortlistLogits, kShortlist, -kInfinity);
  words[kShortlistSum] = words[kShortlistSumAtOne] = 0;
  list = read_shortlist(words, 1000, room);
  ASSERT_TRUE(list);
  EXPECT_TRUE(list->candidates.empty());
}

TEST(ShortlistWords, WhatNoRowGivesIsAnError) {
  const auto message = [](int64_t word, float value) {
    std::vector<Candidate> room(kShortlist);
    std::vector<float> words = words_of(kShortlist);
    words[static_cast<size_t>(word)] = value;
    const auto list = read_shortlist(words, 1000, room);
    EXPECT_FALSE(list) << word << " " << value;
    return list ? std::string() : list.error().message;
  };
  const float nan = std::nanf("");
  for (const float count : {0.0F, 63.0F, 65.0F, 1e9F, -1.0F, nan}) {
    EXPECT_NE(message(kShortlistCount, count).find("expected 64"), std::string::npos);
  }
  for (const float token : {1000.0F, 3e9F, -1.0F, nan, kInfinity}) {
    EXPECT_NE(message(kShortlistTokens + 9, token).find("vocabulary has 1000"), std::string::npos);
  }
  for (const float sum : {0.0F, -1.0F, nan, kInfinity}) {
    EXPECT_NE(message(kShortlistSum, sum).find("sums of"), std::string::npos);
    EXPECT_NE(message(kShortlistSumAtOne, sum).find("sums of"), std::string::npos);
  }
  for (const float largest : {nan, kInfinity}) {
    EXPECT_NE(message(kShortlistLogits, largest).find("largest logit of"), std::string::npos);
  }
}

TEST(ShortlistWords, FactorsAreInverseTemperaturesOfRowsThatListsMayDecide) {
  SampleParams params;
  RowSampling row;
  row.params = &params;
  const auto factor = [&](float temperature) {
    params.temperature = temperature;
    return shortlist_factor(row, 1000);
  };
  EXPECT_EQ(factor(0), 1);
  EXPECT_EQ(factor(0.5F), 2);
  EXPECT_EQ(factor(100), 1 / 100.0F);
  EXPECT_EQ(factor(1e-45F), std::numeric_limits<float>::max());
  params.mirostat = 2;
  EXPECT_EQ(factor(0.5F), 0);
}

}  // namespace
}  // namespace ll::shortlist_words
