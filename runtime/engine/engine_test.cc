#include "runtime/engine/engine.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>

#include "runtime/device/cpu/cpu_device.h"
#include "runtime/engine/tiny_plan_test.h"

namespace ll {
namespace {

using Tokens = std::vector<int32_t>;
using Logits = std::vector<float>;

// A plan with an engine on it.
struct EngineRig {
  std::unique_ptr<ValidatedPlan> plan;
  std::unique_ptr<Engine> engine;
};

EngineRig make_rig(int threads = 1, const tiny::Options& options = {}, std::optional<Isa> isa = std::nullopt) {
  const std::string path = tiny::write_plan("engine", options);
  auto plan = open_plan(path);
  EXPECT_TRUE(plan) << plan.error().message;
  EngineRig rig;
  rig.plan = std::make_unique<ValidatedPlan>(std::move(*plan));
  auto weights = Weights::load(*rig.plan);
  EXPECT_TRUE(weights);
  auto device = open_cpu_device(**rig.plan, std::move(*weights), {threads, isa});
  EXPECT_TRUE(device) << device.error().message;
  auto engine = Engine::create(**rig.plan, std::move(*device));
  EXPECT_TRUE(engine);
  rig.engine = std::move(*engine);
  unlink(path.c_str());
  return rig;
}

Tokens tokens_of(size_t count, uint32_t seed = 1) {
  std::mt19937 random(seed);
  Tokens tokens(count);
  for (int32_t& t : tokens) t = static_cast<int32_t>(random() % tiny::kVocab);
  return tokens;
}

// Runs work whose rows are all wanted and returns them, by item and token.
std::vector<std::vector<Logits>> rows_of(Engine& engine, std::span<const Work> work) {
  std::vector<std::vector<Logits>> rows(work.size());
  const Status status = engine.run(work, [&](size_t item, size_t token, std::span<const float> logits) {
    EXPECT_EQ(rows[item].size(), token);
    rows[item].emplace_back(logits.begin(), logits.end());
  });
  EXPECT_TRUE(status) << status.error().message;
  return rows;
}

std::vector<Logits> all_rows(Engine& engine, const Tokens& tokens) {
  const auto sequence = engine.make_sequence();
  const Work work = {sequence.get(), tokens, LogitRows::kAll};
  return rows_of(engine, {&work, 1})[0];
}

bool same_bits(const Logits& a, const Logits& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(Engine, LogitsAreFiniteAndDependOnThePast) {
  const EngineRig rig = make_rig();
  const auto a = all_rows(*rig.engine, {1, 2, 3}), b = all_rows(*rig.engine, {4, 2, 3});
  ASSERT_EQ(a.size(), 3U);
  for (const Logits& row : a) {
    ASSERT_EQ(row.size(), static_cast<size_t>(tiny::kVocab));
    for (const float l : row) EXPECT_TRUE(std::isfinite(l));
  }
  EXPECT_FALSE(same_bits(a[2], b[2]));
}

TEST(Engine, LogitsDoNotDependOnThreads) {
  const Tokens tokens = tokens_of(50);
  const auto want = all_rows(*make_rig(1).engine, tokens);
  for (const int threads : {2, 3, 5}) {
    const auto got = all_rows(*make_rig(threads).engine, tokens);
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_TRUE(same_bits(got[i], want[i])) << threads << " threads, row " << i;
  }
}

TEST(Engine, LogitsDoNotDependOnChunks) {
  const EngineRig rig = make_rig(2);
  const Tokens tokens = tokens_of(70);
  const auto want = all_rows(*rig.engine, tokens);
  std::mt19937 random(3);
  for (int round = 0; round < 10; ++round) {
    const auto sequence = rig.engine->make_sequence();
    for (size_t done = 0; done < tokens.size();) {
      const size_t count = std::min<size_t>(1 + random() % (round + 5), tokens.size() - done);
      const LogitRows rows = random() % 2 == 0 ? LogitRows::kAll : LogitRows::kLast;
      const Work work = {sequence.get(), std::span(tokens).subspan(done, count), rows};
      size_t seen = 0;
      ASSERT_TRUE(rig.engine->run({&work, 1}, [&](size_t, size_t token, std::span<const float> logits) {
        EXPECT_TRUE(same_bits({logits.begin(), logits.end()}, want[done + token]));
        ++seen;
      }));
      EXPECT_EQ(seen, rows == LogitRows::kAll ? count : 1);
      done += count;
    }
  }
}

// Prompts, parts of prompts and single tokens of five sequences share steps at random: each must come out as it does
// alone.
TEST(Engine, LogitsDoNotDependOnNeighbours) {
  const EngineRig rig = make_rig(2);
  constexpr size_t kSequences = 5, kLength = 30;  // one page each
  std::vector<Tokens> texts;
  std::vector<std::vector<Logits>> want;
  for (uint32_t i = 0; i < kSequences; ++i) {
    texts.push_back(tokens_of(kLength, 10 + i));
    want.push_back(all_rows(*rig.engine, texts.back()));
  }
  std::mt19937 random(4);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::unique_ptr<Sequence>> sequences;
    for (size_t i = 0; i < kSequences; ++i) sequences.push_back(rig.engine->make_sequence());
    while (true) {
      std::vector<Work> work;
      std::vector<size_t> owners, begins;
      for (size_t i = 0; i < kSequences; ++i) {
        const size_t done = sequences[i]->length(), left = kLength - done;
        if (left == 0 || random() % 3 == 0) continue;
        const size_t count = std::min<size_t>(random() % 2 == 0 ? 1 : 1 + random() % 20, left);
        const LogitRows rows = std::array{LogitRows::kNone, LogitRows::kLast, LogitRows::kAll}[random() % 3];
        work.push_back({sequences[i].get(), std::span(texts[i]).subspan(done, count), rows});
        owners.push_back(i);
        begins.push_back(done);
      }
      ASSERT_TRUE(rig.engine->run(work, [&](size_t item, size_t token, std::span<const float> logits) {
        EXPECT_TRUE(same_bits({logits.begin(), logits.end()}, want[owners[item]][begins[item] + token]));
      }));
      bool all = true;
      for (const auto& s : sequences) all &= s->length() == kLength;
      if (all) break;
    }
  }
  EXPECT_EQ(rig.engine->pages().free(), tiny::kPages);
}

TEST(Engine, ATruncatedSequenceGoesOnAsIfTheRestHadNeverBeen) {
  const EngineRig rig = make_rig();
  const Tokens tokens = tokens_of(40), other = tokens_of(40, 9);
  const auto want = all_rows(*rig.engine, tokens);
  const auto sequence = rig.engine->make_sequence();
  Work work = {sequence.get(), other, LogitRows::kNone};
  ASSERT_TRUE(rig.engine->run({&work, 1}, [](size_t, size_t, std::span<const float>) { FAIL(); }));
  sequence->truncate(0);
  work = {sequence.get(), std::span(tokens).first(35), LogitRows::kNone};
  ASSERT_TRUE(rig.engine->run({&work, 1}, {}));
  work = {sequence.get(), std::span(other).first(5), LogitRows::kNone};
  ASSERT_TRUE(rig.engine->run({&work, 1}, {}));
  sequence->truncate(33);
  work = {sequence.get(), std::span(tokens).subspan(33), LogitRows::kAll};
  const auto rows = rows_of(*rig.engine, {&work, 1})[0];
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_TRUE(same_bits(rows[i], want[33 + i]));
}

TEST(Engine, SimdAndScalarLevelsAgree) {
  const Tokens tokens = tokens_of(20);
  const auto scalar = all_rows(*make_rig(1, {}, Isa::kScalar).engine, tokens),
             best = all_rows(*make_rig().engine, tokens);
  for (size_t i = 0; i < scalar.size(); ++i) {
    for (size_t j = 0; j < scalar[i].size(); ++j) EXPECT_NEAR(scalar[i][j], best[i][j], 1e-4F);
  }
}

TEST(Engine, APlanOfReferenceKernelsRunsScalar) {
  tiny::Options options;
  options.reference_kernels = true;
  EXPECT_EQ(make_rig(1, options).engine->device().info().isa, "scalar");
}

class Failing : public testing::Test {
 protected:
  void expect(std::span<const Work> work, Code code, const std::string& part) {
    std::vector<uint32_t> lengths;
    for (const Work& w : work) lengths.push_back(w.sequence->length());
    const uint32_t free = rig_.engine->pages().free();
    const Status status = rig_.engine->run(work, {});
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, code);
    EXPECT_NE(status.error().message.find(part), std::string::npos) << status.error().message;
    for (size_t i = 0; i < work.size(); ++i) EXPECT_EQ(work[i].sequence->length(), lengths[i]);
    EXPECT_EQ(rig_.engine->pages().free(), free);
  }
  EngineRig rig_ = make_rig();
};

TEST_F(Failing, TokensOutsideTheVocabulary) {
  const auto sequence = rig_.engine->make_sequence();
  for (const int32_t token : {-1, static_cast<int32_t>(tiny::kVocab), INT32_MAX, INT32_MIN}) {
    const Tokens tokens = {1, token};
    const Work work = {sequence.get(), tokens, LogitRows::kNone};
    expect({&work, 1}, Code::kUsage, "vocabulary of 40");
  }
}

TEST_F(Failing, NoTokens) {
  const auto sequence = rig_.engine->make_sequence();
  const Work work = {sequence.get(), {}, LogitRows::kNone};
  expect({&work, 1}, Code::kUsage, "no tokens");
}

TEST_F(Failing, ASequenceTwice) {
  const auto sequence = rig_.engine->make_sequence();
  const Tokens tokens = {1};
  const Work work[] = {{sequence.get(), tokens, LogitRows::kNone}, {sequence.get(), tokens, LogitRows::kNone}};
  expect(work, Code::kUsage, "twice");
}

TEST_F(Failing, AFullContext) {
  const auto sequence = rig_.engine->make_sequence();
  const Tokens tokens = tokens_of(tiny::kContext + 1);
  Work work = {sequence.get(), tokens, LogitRows::kNone};
  expect({&work, 1}, Code::kOutOfMemory, "--ctx-size");
  work.tokens = std::span(tokens).first(tiny::kContext);
  ASSERT_TRUE(rig_.engine->run({&work, 1}, {}));
  work.tokens = std::span(tokens).first(1);
  expect({&work, 1}, Code::kOutOfMemory, "--ctx-size");
}

TEST_F(Failing, AFullPool) {
  std::vector<std::unique_ptr<Sequence>> sequences;
  const Tokens tokens = tokens_of(tiny::kContext);
  for (int i = 0; i < 3; ++i) sequences.push_back(rig_.engine->make_sequence());
  for (int i = 0; i < 2; ++i) {  // three of seven pages each
    const Work work = {sequences[static_cast<size_t>(i)].get(), tokens, LogitRows::kNone};
    ASSERT_TRUE(rig_.engine->run({&work, 1}, {}));
  }
  Work work = {sequences[2].get(), std::span(tokens).first(33), LogitRows::kNone};
  expect({&work, 1}, Code::kOutOfMemory, "--max-batch");
  work.tokens = std::span(tokens).first(32);
  EXPECT_TRUE(rig_.engine->run({&work, 1}, {}));
  sequences[0].reset();
  work.tokens = std::span(tokens).first(40);
  EXPECT_TRUE(rig_.engine->run({&work, 1}, {}));
}

TEST(CpuDevice, OptionsOutOfRangeAreErrors) {
  const std::string path = tiny::write_plan("options");
  auto plan = open_plan(path);
  ASSERT_TRUE(plan) << plan.error().message;
  const auto device = open_cpu_device(**plan, *Weights::load(*plan), {100000, std::nullopt});
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().code, Code::kUsage);
  unlink(path.c_str());
}

TEST(CpuDevice, AStepThatDoesNotFitItsProgramIsRefused) {
  const std::string path = tiny::write_plan("refused");
  auto plan = open_plan(path);
  ASSERT_TRUE(plan);
  auto device = open_cpu_device(**plan, *Weights::load(*plan), {});
  ASSERT_TRUE(device);
  Step step;
  step.tokens = step.sequences = {0, 0};
  step.positions = step.slots = {0, 1};
  step.sequence_count = 1;
  step.block_table = {0, 0, 0};
  EXPECT_FALSE((*device)->run(0, step));
  EXPECT_TRUE((*device)->run(1, step));
  unlink(path.c_str());
}

TEST(StepBuilder, FillsEveryInput) {
  const EngineRig rig = make_rig();
  KvPages pages(tiny::kPages);
  pages.allocate();
  Sequence a(pages), b(pages);
  const Tokens tokens = tokens_of(40);
  ASSERT_TRUE(a.reserve(33));
  ASSERT_TRUE(b.reserve(2));
  for (int i = 0; i < 31; ++i) a.append(tokens[static_cast<size_t>(i)]);
  StepBuilder builder(**rig.plan);
  ASSERT_TRUE(builder.add(a, std::span(tokens).subspan(31, 2), LogitRows::kLast));
  ASSERT_TRUE(builder.add(b, std::span(tokens).first(2), LogitRows::kAll));
  const Step& step = builder.step();
  EXPECT_EQ(step.tokens, Tokens({tokens[31], tokens[32], tokens[0], tokens[1]}));
  EXPECT_EQ(step.positions, Tokens({31, 32, 0, 1}));
  EXPECT_EQ(step.sequences, Tokens({0, 0, 1, 1}));
  EXPECT_EQ(step.slots, Tokens({32 + 31, 64, 96, 97}));
  EXPECT_EQ(step.block_table, Tokens({1, 2, 0, 3, 0, 0}));
  EXPECT_EQ(step.rows, Tokens({1, 2, 3}));
  EXPECT_EQ(step.sequence_count, 2U);
  EXPECT_FALSE(builder.add(b, std::span(tokens).first(33), LogitRows::kNone));  // reaches a page that b does not hold
  EXPECT_EQ(step.sequence_count, 2U);
}

TEST(Engine, StepBytesCountWeightsAndKeysRead) {
  const EngineRig rig = make_rig();
  const uint64_t at0 = rig.engine->step_bytes(1, 1, 0), at50 = rig.engine->step_bytes(1, 1, 50);
  EXPECT_EQ(at50 - at0, 50 * (*rig.plan)->kv_bytes_per_token);
  EXPECT_GT(at0, sizeof(float) * (tiny::kVocab + 3 * tiny::kWidth) * tiny::kWidth);
  EXPECT_EQ(rig.engine->step_bytes(17, 1, 0), 0U);
}

}  // namespace
}  // namespace ll
