// Steps whose rows ask for different things, chosen by a device and, from the same logits, by Sampler. Included by
// tests alone: on the driver of tests/cuda_driver/ (runtime/device/cuda/) and on GPUs (tests/gpu_check/).
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <vector>

#include "runtime/device/device.h"
#include "runtime/sampling/sampler.h"

namespace ll::sampled_steps {

inline constexpr uint32_t kTokens = 24;

// One sequence, from its start.
inline Step step_of(const Plan& plan, const std::vector<int32_t>& rows) {
  Step step;
  for (uint32_t i = 0; i < kTokens; ++i) step.tokens.push_back(static_cast<int32_t>((i * 37 + 11) % 1000));
  step.positions.resize(kTokens);
  std::iota(step.positions.begin(), step.positions.end(), 0);
  step.slots = step.positions;
  step.sequences.assign(kTokens, 0);
  step.block_table.resize(plan.pages_per_sequence);
  std::iota(step.block_table.begin(), step.block_table.end(), 0);
  step.rows = rows;
  step.sequence_count = 1;
  return step;
}

// The program of those steps.
inline size_t program_of(const Plan& plan) {
  return static_cast<size_t>(plan.program_for(kTokens, 1, kTokens) - plan.programs.data());
}

inline std::vector<SampledToken> sample(Device& device, const Plan& plan, const std::vector<int32_t>& places,
                                        const std::vector<RowSampling>& rows) {
  const auto sampled = device.run_sampled(program_of(plan), step_of(plan, places), rows);
  EXPECT_TRUE(sampled) << sampled.error().message;
  return sampled ? std::vector<SampledToken>(sampled->begin(), sampled->end()) : std::vector<SampledToken>();
}

// What rows ask for, one after another.
struct Asked {
  const char* what;
  bool list;  // decided by its shortlist, whatever the logits
  void (*set)(SampleParams&, RowSampling&);
};
inline constexpr int32_t kHistory[] = {5, 9, 9}, kBanned[] = {0, 3};
inline constexpr Asked kAsked[] = {
    {"greedy", true, [](SampleParams& p, RowSampling&) { p.temperature = 0; }},
    {"the defaults", true, [](SampleParams& p, RowSampling&) { p.temperature = 0.8F; }},
    {"top_k of all that is listed", true,
     [](SampleParams& p, RowSampling&) { p.temperature = 1.3F, p.top_k = 64, p.top_p = 1, p.min_p = 0; }},
    {"more than is listed", false, [](SampleParams& p, RowSampling&) { p.temperature = 1, p.top_k = 65; }},
    {"all", false, [](SampleParams& p, RowSampling&) { p.temperature = 1, p.top_k = 0, p.top_p = 1, p.min_p = 0; }},
    {"min_p", true, [](SampleParams& p, RowSampling&) { p.temperature = 1, p.top_k = 0, p.top_p = 1, p.min_p = 0.2F; }},
    {"a nucleus", true, [](SampleParams& p, RowSampling&) { p.temperature = 0.5F, p.top_k = 0, p.top_p = 0.2F; }},
    {"a nucleus beyond any list", false,
     [](SampleParams& p, RowSampling&) { p.temperature = 100, p.top_k = 0, p.top_p = 0.9F, p.min_p = 0; }},
    {"a given token", true, [](SampleParams&, RowSampling& r) { r.given = 17; }},
    {"logprobs", true,
     [](SampleParams& p, RowSampling& r) { p.temperature = 0.7F, r.logprob = true, r.top_logprobs = 20; }},
    {"a given token's logprob", false, [](SampleParams&, RowSampling& r) { r.given = 2, r.logprob = true; }},
    {"penalties", false, [](SampleParams& p, RowSampling& r) { p.repetition_penalty = 1.2F, r.history = kHistory; }},
    {"banned tokens", false, [](SampleParams&, RowSampling& r) { r.banned = kBanned; }},
    {"mirostat", false, [](SampleParams& p, RowSampling&) { p.temperature = 1, p.mirostat = 2; }},
    {"typical and XTC", true,
     [](SampleParams& p, RowSampling&) { p.temperature = 1, p.typical_p = 0.8F, p.xtc_probability = 1; }},
};

struct Rows {
  std::vector<SampleParams> params;
  std::vector<RowSampling> rows;

  explicit Rows(const std::vector<size_t>& asked) : params(asked.size()), rows(asked.size()) {
    for (size_t i = 0; i < asked.size(); ++i) {
      params[i].seed = 100 + asked[i];
      rows[i].params = &params[i];
      rows[i].draw = asked[i];
      kAsked[asked[i]].set(params[i], rows[i]);
    }
  }
};

// The same tokens as Sampler's, logprobs but for rounding, and to the bit whatever else the step holds. With a count of
// the bytes that came back, also that no more of the logits did than the rows need.
inline void expect_the_logits_choices(Device& device, const Plan& plan, uint64_t (*bytes_to_host)() = nullptr) {
  const size_t program = program_of(plan), vocab = plan.model.vocab_size;
  ASSERT_LT(program, plan.programs.size());
  ASSERT_TRUE(plan.programs[program].has_shortlists);
  std::vector<size_t> asked(std::size(kAsked));
  std::iota(asked.begin(), asked.end(), 0);
  std::vector<int32_t> places(asked.size());
  std::iota(places.begin(), places.end(), 3);
  Rows all(asked);
  const auto run = device.run(program, step_of(plan, places));
  ASSERT_TRUE(run) << run.error().message;
  const std::vector<float> logits(run->begin(), run->end());
  ASSERT_EQ(logits.size(), asked.size() * vocab);

  const std::vector<SampledToken> together = sample(device, plan, places, all.rows);
  ASSERT_EQ(together.size(), asked.size());
  for (size_t i = 0; i < asked.size(); ++i) {
    SCOPED_TRACE(kAsked[i].what);
    const SampledToken want = Sampler().sample(std::span(logits).subspan(i * vocab, vocab), all.rows[i]);
    EXPECT_EQ(together[i].token, want.token);
    EXPECT_EQ(together[i].error.message, want.error.message);
    EXPECT_NEAR(together[i].logprob, want.logprob, 1e-5);
    ASSERT_EQ(together[i].top.size(), want.top.size());
    for (size_t t = 0; t < want.top.size(); ++t) {
      EXPECT_EQ(together[i].top[t].token, want.top[t].token);
      EXPECT_NEAR(together[i].top[t].logprob, want.top[t].logprob, 1e-5);
    }
  }
  // With other rows beside them: to the bit, and no more of the logits than are needed.
  for (const bool list : {true, false}) {
    std::vector<size_t> some;
    std::vector<int32_t> there;
    for (const size_t i : asked) {
      if (kAsked[i].list != list) continue;
      some.push_back(i);
      there.push_back(places[i]);
    }
    Rows rows(some);
    const uint64_t before = bytes_to_host == nullptr ? 0 : bytes_to_host();
    const std::vector<SampledToken> apart = sample(device, plan, there, rows.rows);
    ASSERT_EQ(apart.size(), some.size());
    for (size_t i = 0; i < some.size(); ++i) {
      SCOPED_TRACE(kAsked[some[i]].what);
      EXPECT_EQ(apart[i].token, together[some[i]].token);
      EXPECT_EQ(apart[i].logprob, together[some[i]].logprob);
    }
    if (bytes_to_host == nullptr) continue;
    const uint64_t copied = bytes_to_host() - before, whole = list ? 0 : some.size() * vocab * sizeof(float);
    EXPECT_LE(whole, copied);
    EXPECT_LE(copied, whole + some.size() * 1000);
  }
}

}  // namespace ll::sampled_steps
