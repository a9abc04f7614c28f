// The scheduler over a real model on the CPU: what a request is answered does not depend on what else is served, on
// chunks, preemption or pages found in the cache. The plan is compiled by this build's llcc from the bundled model.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "runtime/device/cpu/cpu_device.h"
#include "runtime/engine/scheduler.h"
#include "tests/files.h"

namespace ll {
namespace {

using Tokens = std::vector<int32_t>;
namespace fs = std::filesystem;

// An opened plan of the model; null when this build has no compiler.
std::unique_ptr<ValidatedPlan> compile(const fs::path& model) {
  const fs::path llcc = fs::path(LLCUDA_BINARY_DIR) / "llcc";
  if (!fs::exists(llcc)) return nullptr;
  const std::string path = testing::TempDir() + "/kjv_" + std::to_string(getpid()) + ".llcp";
  const std::string command =
      llcc.string() + " compile -q " + model.string() + " -o " + path + " --ctx-size 512 --max-batch 16";
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  auto plan = open_plan(path);
  EXPECT_TRUE(plan) << plan.error().message;
  unlink(path.c_str());
  return plan ? std::make_unique<ValidatedPlan>(std::move(*plan)) : nullptr;
}

struct Answer {
  Tokens tokens;
  std::vector<float> logprobs;
  uint32_t preemptions = 0, cached = 0;
  bool operator==(const Answer& o) const { return tokens == o.tokens && logprobs == o.logprobs; }
};

// Serves the requests, submitted all at once or a few at a time, and returns what each of their sequences was answered.
std::vector<Answer> serve(const ValidatedPlan& plan, const std::vector<Request>& requests,
                          const SchedulerOptions& options, size_t at_once, SchedulerStats* stats = nullptr) {
  auto weights = Weights::load(plan);
  EXPECT_TRUE(weights);
  auto device = open_cpu_device(*plan, std::move(*weights), {.threads = 2, .isa = std::nullopt, .deterministic = true});
  EXPECT_TRUE(device) << device.error().message;
  auto scheduler = Scheduler::create(*plan, std::move(*device), options,
                                     [] { return Seconds(std::chrono::steady_clock::now().time_since_epoch()); });
  EXPECT_TRUE(scheduler);
  std::vector<std::shared_ptr<EventStream>> streams;
  std::vector<Answer> answers;
  std::vector<size_t> first;  // answer of each request
  size_t open = 0, next = 0;
  while (next < requests.size() || open > 0) {
    for (; next < requests.size() && open < at_once; ++next, ++open) {
      EXPECT_TRUE((*scheduler)->check(requests[next]));
      streams.push_back(std::make_shared<EventStream>(next + 1, 100000));
      first.push_back(answers.size());
      answers.resize(answers.size() + requests[next].sequences);
      (*scheduler)->submit(requests[next], streams.back());
    }
    (*scheduler)->tick();
    for (size_t i = 0; i < streams.size(); ++i) {
      std::vector<Event> events;
      streams[i]->take(events);
      for (const Event& event : events) {
        if (const auto* t = std::get_if<TokenEvent>(&event)) {
          answers[first[i] + t->index].tokens.push_back(t->token);
          answers[first[i] + t->index].logprobs.push_back(t->logprob);
        } else if (const auto* d = std::get_if<DoneEvent>(&event)) {
          answers[first[i]].preemptions = d->preemptions;
          answers[first[i]].cached = d->cached_tokens;
          --open;
        }
      }
    }
  }
  if (stats != nullptr) *stats = (*scheduler)->stats();
  return answers;
}

TEST(KjvScheduler, TokensDoNotDependOnWhatElseIsServed) {
  const auto plan = compile(fs::path(LLCUDA_SOURCE_DIR) / "examples/kjv-7m-Q8_0.gguf");
  if (plan == nullptr) GTEST_SKIP() << "this build has no llcc to compile the model with";
  std::mt19937 random(1);
  std::vector<Request> requests;
  Tokens common(75);
  for (int32_t& t : common) t = static_cast<int32_t>(4 + random() % 4000);
  for (uint32_t i = 0; i < 18; ++i) {
    Request r;
    r.prompt.assign(common.begin(), common.begin() + (i % 3 == 0 ? 0 : 40 + i));
    for (uint32_t n = 0; n < 1 + random() % 60; ++n) r.prompt.push_back(static_cast<int32_t>(4 + random() % 4000));
    r.max_tokens = 40 + static_cast<uint32_t>(random() % 50);
    r.ignore_eos = true;
    r.logprobs = true;
    r.sequences = i % 8 == 5 ? 3 : 1;
    r.sampling.temperature = i % 2 == 0 ? 0.0F : 1.0F;
    r.sampling.seed = i;
    if (i % 4 == 3) r.sampling.repetition_penalty = 1.2F;
    if (i % 6 == 5) r.sampling.mirostat = 2;
    requests.push_back(r);
  }
  SchedulerOptions alone;
  alone.prefix_cache = false;
  alone.prefill_stretch = 0;
  const std::vector<Answer> want = serve(*plan, requests, alone, 1);
  struct Case {
    size_t at_once;
    uint32_t pages, step_tokens;
    bool cache;
  };
  for (const Case& c : {Case{18, 0, 0, true}, Case{18, 24, 0, true}, Case{18, 24, 0, false}, Case{5, 60, 7, true},
                        Case{18, 0, 33, false}}) {
    SchedulerOptions options;
    options.kv_pages = c.pages;
    options.max_step_tokens = c.step_tokens;
    options.prefix_cache = c.cache;
    SchedulerStats stats;
    const std::vector<Answer> got = serve(*plan, requests, options, c.at_once, &stats);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_EQ(got[i].tokens, want[i].tokens) << "answer " << i << " of " << c.pages << " pages";
      EXPECT_EQ(got[i].logprobs, want[i].logprobs) << "answer " << i << " of " << c.pages << " pages";
    }
    EXPECT_EQ(stats.preemptions > 0, c.pages == 24);
    EXPECT_EQ(stats.prefix_hits > 0, c.cache);
    EXPECT_EQ(stats.pages_used, 0U);
  }
}

TEST(KjvScheduler, GreedyAnswersAreTheReferences) {
  const fs::path folder = test_files::shared_folder() / "models/kjv-7m";
  if (!fs::exists(folder / "reference.json")) GTEST_SKIP() << folder << " is not here";
  const auto plan = compile(folder);
  if (plan == nullptr) GTEST_SKIP() << "this build has no llcc to compile the model with";
  std::ifstream file(folder / "reference.json");
  const auto reference = nlohmann::json::parse(file);
  std::vector<Request> requests;
  std::vector<Tokens> want;
  auto cases = reference.at("chat");
  cases.push_back(reference.at("completion"));
  for (int copy = 0; copy < 12; ++copy) {
    for (const auto& c : cases) {
      Request r;
      r.prompt = c.at("prompt_ids").get<Tokens>();
      want.push_back(c.at("greedy_ids").get<Tokens>());
      r.max_tokens = static_cast<uint32_t>(want.back().size());
      requests.push_back(r);
    }
  }
  for (const size_t at_once : {size_t{1}, size_t{64}}) {
    const size_t count = at_once == 1 ? cases.size() : requests.size();
    const auto got = serve(*plan, {requests.begin(), requests.begin() + static_cast<ptrdiff_t>(count)}, {}, at_once);
    for (size_t i = 0; i < count; ++i) EXPECT_EQ(got[i].tokens, want[i]) << i << ", " << at_once << " at once";
  }
}

}  // namespace
}  // namespace ll
