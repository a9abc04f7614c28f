#include "runtime/engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "runtime/engine/simulated_device_test.h"

namespace ll {
namespace {

using simulated::Shape;
using Tokens = std::vector<int32_t>;

// What came out of a request.
struct Outcome {
  std::map<uint32_t, Tokens> tokens;
  std::map<uint32_t, FinishedEvent> finished;
  std::vector<PromptEvent> prompt;
  std::vector<TokenEvent> events;
  std::optional<DoneEvent> done;
  std::vector<double> times;  // of the tokens
};

// A scheduler on a simulated device.
class Rig {
 public:
  explicit Rig(const Shape& shape = {}, const SchedulerOptions& options = {})
      : shape_(shape), plan_(simulated::plan(shape)) {
    world.token_tile = shape.token_tile;
    auto scheduler = Scheduler::create(plan_, std::make_unique<simulated::SimulatedDevice>(plan_, world), options,
                                       [this] { return Seconds(world.time); });
    EXPECT_TRUE(scheduler) << scheduler.error().message;
    scheduler_ = std::move(*scheduler);
  }

  Scheduler& operator*() { return *scheduler_; }
  Scheduler* operator->() { return scheduler_.get(); }

  RequestId submit(Request request, size_t capacity = 1000000) {
    const Status status = scheduler_->check(request);
    EXPECT_TRUE(status) << status.error().message;
    const RequestId id = ++last_id_;
    streams_[id] = std::make_shared<EventStream>(id, capacity);
    requests[id] = request;
    scheduler_->submit(std::move(request), streams_[id]);
    return id;
  }

  bool tick() {
    const bool ran = scheduler_->tick();
    const auto& stats = scheduler_->stats();
    EXPECT_LE(stats.pages_used + stats.pages_cached, stats.pages);
    for (const auto& [id, stream] : streams_) {
      if (held.count(id) == 0) take(id);
    }
    return ran;
  }
  void take(RequestId id) {
    std::vector<Event> events;
    streams_[id]->take(events);
    Outcome& o = outcomes[id];
    for (const Event& event : events) {
      EXPECT_FALSE(o.done) << "an event after the last";
      if (const auto* t = std::get_if<TokenEvent>(&event)) {
        EXPECT_EQ(o.finished.count(t->index), 0U);
        o.tokens[t->index].push_back(t->token);
        o.events.push_back(*t);
        o.times.push_back(world.time);
      } else if (const auto* p = std::get_if<PromptEvent>(&event)) {
        EXPECT_TRUE(o.tokens.empty());
        o.prompt.push_back(*p);
      } else if (const auto* f = std::get_if<FinishedEvent>(&event)) {
        EXPECT_TRUE(o.finished.emplace(f->index, *f).second);
      } else {
        o.done = std::get<DoneEvent>(event);
        EXPECT_EQ(o.finished.size(), requests[id].sequences);
      }
    }
  }
  void run(int most_ticks = 100000) {
    while (tick()) ASSERT_GT(--most_ticks, 0) << "does not end";
  }
  // Everything ended with the tokens that the request alone decides.
  void expect_answers() {
    EXPECT_TRUE(scheduler_->idle());
    for (const auto& [id, request] : requests) {
      const Outcome& o = outcomes[id];
      ASSERT_TRUE(o.done) << id;
      for (uint32_t i = 0; i < request.sequences; ++i) {
        EXPECT_EQ(o.finished.at(i).reason, FinishReason::kLength);
        EXPECT_EQ(o.tokens.at(i), simulated::answer(request.prompt, request.max_tokens, shape_.vocab, i))
            << "request " << id << ", sequence " << i;
      }
    }
    EXPECT_EQ(scheduler_->stats().pages_used, 0U);
    EXPECT_EQ(scheduler_->stats().running + scheduler_->stats().waiting, 0U);
  }

  // So many streams, each of which asks again as soon as it is answered: `count` requests, request(1), request(2), ....
  void serve(uint32_t streams, uint32_t count, const std::function<Request(uint32_t)>& request) {
    uint32_t submitted = 0;
    std::set<RequestId> open;
    while (submitted < count || !open.empty()) {
      std::erase_if(open, [&](RequestId id) { return outcomes[id].done.has_value(); });
      while (open.size() < streams && submitted < count) open.insert(submit(request(++submitted)));
      tick();
    }
  }
  // The longest of 99 % of the times between tokens, as a multiple of their median.
  double unevenness() const {
    std::vector<double> gaps;
    for (const auto& [id, o] : outcomes) {
      for (size_t i = 1; i < o.times.size(); ++i) gaps.push_back(o.times[i] - o.times[i - 1]);
    }
    std::sort(gaps.begin(), gaps.end());
    return gaps[gaps.size() * 99 / 100] / gaps[gaps.size() / 2];
  }

  simulated::World world;
  std::map<RequestId, Request> requests;
  std::map<RequestId, Outcome> outcomes;
  std::set<RequestId> held;  // whose events nobody takes

 private:
  Shape shape_;
  Plan plan_;
  std::unique_ptr<Scheduler> scheduler_;
  std::map<RequestId, std::shared_ptr<EventStream>> streams_;
  RequestId last_id_ = 0;
};

Tokens text(size_t count, uint32_t seed = 1, uint32_t vocab = 1000) {
  std::mt19937 random(seed);
  Tokens tokens(count);
  for (int32_t& t : tokens) t = static_cast<int32_t>(random() % vocab);
  return tokens;
}

Request ask(Tokens prompt, uint32_t max_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  return request;
}

TEST(Scheduler, OneRequestIsPrefilledOnceAndThenDecodes) {
  Rig rig;
  const RequestId id = rig.submit(ask(text(20), 5));
  rig.run();
  rig.expect_answers();
  ASSERT_EQ(rig.world.steps.size(), 5U);
  EXPECT_EQ(rig.world.steps[0].token_count(), 20U);
  for (size_t i = 1; i < 5; ++i) EXPECT_EQ(rig.world.steps[i].token_count(), 1U);
  const DoneEvent& done = *rig.outcomes[id].done;
  EXPECT_EQ(done.prompt_tokens, 20U);
  EXPECT_EQ(done.completion_tokens, 5U);
  EXPECT_EQ(done.cached_tokens, 0U);
  EXPECT_DOUBLE_EQ(done.queued.count(), 0);
  EXPECT_NEAR(done.prefill.count(), 0.010 + 20 * 0.0005, 1e-9);
  EXPECT_NEAR(done.decode.count(), 4 * 0.0105, 1e-9);
  EXPECT_EQ(rig->stats().steps, 5U);
  EXPECT_EQ(rig->stats().step_tokens, 24U);
  EXPECT_EQ(rig->stats().generated_tokens, 5U);
}

TEST(Scheduler, RequestsShareSteps) {
  Rig rig;
  for (uint32_t i = 0; i < 8; ++i) rig.submit(ask(text(4, i + 1), 20));
  rig.run();
  rig.expect_answers();
  // All prompts fit one step; then eight tokens a step.
  EXPECT_EQ(rig->stats().steps, 20U);
}

TEST(Scheduler, LongPromptsAreCutIntoChunksOfALargestStep) {
  Rig rig;
  rig.submit(ask(text(150), 2));
  rig.run();
  rig.expect_answers();
  ASSERT_EQ(rig.world.steps.size(), 4U);
  EXPECT_EQ(rig.world.steps[0].token_count(), 64U);
  EXPECT_EQ(rig.world.steps[0].row_count(), 0U);
  EXPECT_EQ(rig.world.steps[2].token_count(), 22U);
  EXPECT_EQ(rig.world.steps[2].row_count(), 1U);
}

TEST(Scheduler, AStepHoldsAtMostTheTokensAsked) {
  SchedulerOptions options;
  options.max_step_tokens = 10;
  Rig rig({}, options);
  for (uint32_t i = 0; i < 5; ++i) rig.submit(ask(text(37, i + 1), 6));
  rig.run();
  rig.expect_answers();
  for (const Step& step : rig.world.steps) EXPECT_LE(step.token_count(), 10U);
}

// Steps of those that decode must not take longer than the stretch says while a long prompt is worked on, whatever
// steps cost.
TEST(Scheduler, ALongPromptStretchesTheStepsOfOthersByTheFactorAtMost) {
  struct Cost {
    double step, token;
  };
  for (const Cost cost : {Cost{0.010, 0.0001}, Cost{0.001, 0.001}, Cost{0.0001, 0.002}}) {
    Shape shape;
    shape.context = 2048;
    shape.pages = 6000;
    shape.max_batch = shape.max_rows = 16;
    shape.max_tokens = 512;
    Rig rig(shape);
    rig.world.step_seconds = cost.step;
    rig.world.token_seconds = cost.token;
    for (uint32_t i = 0; i < 15; ++i) rig.submit(ask(text(10, i + 1), 1000));
    for (int i = 0; i < 300; ++i) rig.tick();  // the costs are learned
    const size_t before = rig.world.steps.size();
    const RequestId id = rig.submit(ask(text(1500, 99), 1));
    while (!rig.outcomes[id].done) ASSERT_TRUE(rig.tick());
    const double alone = cost.step + 15 * cost.token;
    size_t slow = 0;
    for (size_t i = before; i < rig.world.steps.size(); ++i) {
      const Step& step = rig.world.steps[i];
      ASSERT_GE(step.row_count(), 15U);  // nobody is left out
      slow += cost.step + step.token_count() * cost.token > 2 * alone ? 1 : 0;
    }
    EXPECT_EQ(slow, 0U) << "step " << cost.step << " s, token " << cost.token << " s";
    // And the prompt does not starve: the steps are used.
    const size_t steps = rig.world.steps.size() - before;
    const double useful = 1500 / (0.5 * alone / cost.token);
    EXPECT_LT(static_cast<double>(steps), 3 * std::max(useful, 1500.0 / 497) + 5);
    rig->cancel_all();
    rig.run();
  }
}

// Streams that ask again and again: whatever the share of prompts, most streams decode in most steps, and steps are
// alike.
TEST(Scheduler, PromptsAreWorkedOffAsFastAsTheyAreWanted) {
  for (const uint32_t prompt : {20U, 270U, 800U}) {
    Shape shape;
    shape.context = 2048;
    shape.pages = 8000;
    shape.max_batch = shape.max_rows = 16;
    shape.max_tokens = 512;
    SchedulerOptions options;
    options.prefix_cache = false;
    Rig rig(shape, options);
    rig.world.step_seconds = 0.0005;
    rig.world.token_seconds = 0.0002;
    rig.serve(16, 16 * 4, [&](uint32_t n) { return ask(text(prompt + n % 9, n), 120 + n % 17); });
    rig.run();
    rig.expect_answers();
    const SchedulerStats& stats = rig->stats();
    EXPECT_GE(static_cast<double>(stats.generated_tokens) / static_cast<double>(stats.steps), 12) << prompt;
    EXPECT_LE(rig.unevenness(), 2) << prompt;
  }
}

// A GPU, whose steps cost little more with more tokens, when 64 streams come at once after a few: what is not known of
// large steps yet must not make them long.
TEST(Scheduler, StepsAreEvenWhenManyStreamsComeAtOnce) {
  struct Cost {
    double step, token, row;
  };
  for (const Cost cost : {Cost{0.003, 15e-6, 22e-6}, Cost{0.0025, 15e-6, 0}, Cost{0.006, 110e-6, 20e-6}}) {
    Shape shape;
    shape.context = 1024;
    shape.page_size = 32;
    shape.pages = 2112;
    shape.max_batch = shape.max_rows = 64;
    shape.max_tokens = 512;
    SchedulerOptions options;
    options.prefix_cache = false;
    Rig rig(shape, options);
    rig.world.step_seconds = cost.step;
    rig.world.token_seconds = cost.token;
    rig.world.row_seconds = cost.row;
    for (const uint32_t streams : {1U, 16U, 64U}) {
      rig.outcomes.clear();
      rig.serve(streams, streams * 3, [](uint32_t n) { return ask(text(250 + n * 7 % 34, n), 128); });
    }
    EXPECT_LE(rig.unevenness(), 1.9) << cost.step;  // of the 64
  }
}

// A GPU computes tiles of tokens: a step of 197 takes as long as one of 256, so steps with prompts hold whole tiles;
// and where its tiles go in pairs, which is seen from what steps take, whole pairs.
TEST(Scheduler, StepsWithPromptsFillTheirTiles) {
  Shape shape;
  shape.context = 1024;
  shape.page_size = 32;
  shape.pages = 2112;
  shape.max_batch = shape.max_rows = 64;
  shape.max_tokens = 512;
  shape.token_tile = 64;
  SchedulerOptions options;
  options.prefix_cache = false;
  for (const uint32_t tile : {64U, 128U}) {
    Rig rig(shape, options);
    rig.world.step_seconds = 0.004;
    rig.world.token_seconds = 0.0001;
    rig.world.token_tile = tile;
    rig.serve(64, 64 * 4, [](uint32_t n) { return ask(text(250 + n * 7 % 34, n), 120 + n % 17); });
    rig.expect_answers();
    // Between the first answers and the last requests, steps with prompts.
    double used = 0, tiles = 0;
    const size_t steps = rig.world.steps.size();
    for (size_t i = steps / 4; i < steps * 3 / 4; ++i) {
      const uint32_t tokens = rig.world.steps[i].token_count();
      if (tokens <= 64) continue;
      used += tokens;
      tiles += (tokens + tile - 1) / tile;
    }
    EXPECT_GE(used, 0.95 * tile * tiles) << tile;
    EXPECT_GE(static_cast<double>(rig->stats().generated_tokens) / static_cast<double>(steps), 48) << tile;
    EXPECT_LE(rig.unevenness(), 2) << tile;
  }
}

TEST(Scheduler, WithoutAFactorAPromptTakesAllThatAStepHolds) {
  SchedulerOptions options;
  options.prefill_stretch = 0;
  Rig rig({}, options);
  rig.submit(ask(text(4), 50));
  for (int i = 0; i < 10; ++i) rig.tick();
  rig.submit(ask(text(100, 2), 2));
  rig.tick();
  EXPECT_EQ(rig.world.steps.back().token_count(), 64U);
  rig.run();
  rig.expect_answers();
}

TEST(Scheduler, AdmissionFollowsTheOrderOfSubmission) {
  Shape shape;
  shape.max_batch = 2;
  Rig rig(shape);
  std::vector<RequestId> ids;
  for (uint32_t i = 0; i < 6; ++i) ids.push_back(rig.submit(ask(text(5, i + 1), 10)));
  rig.run();
  rig.expect_answers();
  for (size_t i = 1; i < ids.size(); ++i) {
    EXPECT_LE(rig.outcomes[ids[i - 1]].times.front(), rig.outcomes[ids[i]].times.front());
  }
  EXPECT_EQ(rig->stats().preemptions, 0U);
}

// A large request at the head of the queue is not overtaken by small ones for ever.
TEST(Scheduler, SmallRequestsDoNotOvertakeALargeOne) {
  Shape shape;
  shape.pages = 40;
  shape.context = 160;
  Rig rig(shape);
  rig.submit(ask(text(60, 1), 30));
  rig.tick();
  const RequestId large = rig.submit(ask(text(120, 2), 3));
  const RequestId small = rig.submit(ask(text(5, 3), 3));
  rig.run();
  rig.expect_answers();
  EXPECT_LT(rig.outcomes[large].times.front(), rig.outcomes[small].times.back());
}

TEST(Scheduler, PriorityGoesFirstAndTakesThePlaceOfTheLast) {
  Shape shape;
  shape.max_batch = 2;
  Rig rig(shape);
  const RequestId a = rig.submit(ask(text(5, 1), 40)), b = rig.submit(ask(text(5, 2), 40));
  rig.tick();
  const RequestId waiting = rig.submit(ask(text(5, 3), 5));
  Request urgent = ask(text(5, 4), 5);
  urgent.priority = -1;
  const RequestId first = rig.submit(urgent);
  rig.tick();
  rig.tick();
  EXPECT_FALSE(rig.outcomes[first].tokens.empty());
  EXPECT_TRUE(rig.outcomes[waiting].tokens.empty());
  rig.run();
  rig.expect_answers();
  EXPECT_EQ(rig.outcomes[a].done->preemptions, 0U);
  EXPECT_EQ(rig.outcomes[b].done->preemptions, 1U);
}

TEST(Scheduler, WaitingOutweighsPriority) {
  Shape shape;
  shape.max_batch = 1;
  SchedulerOptions options;
  options.priority_step = Seconds(1);
  Rig rig(shape, options);
  Request patient = ask(text(5, 1), 10);
  patient.priority = 1;
  const RequestId low = rig.submit(patient);
  // A stream of more important requests, one as soon as the last is done; each takes 0.1 s.
  RequestId last = 0;
  while (!rig.outcomes[low].done) {
    if (last == 0 || rig.outcomes[last].done) last = rig.submit(ask(text(5, 7), 10));
    ASSERT_TRUE(rig.tick());
    ASSERT_LT(rig.world.time, 3);
  }
  EXPECT_GT(rig.world.time, 0.9);
}

// A quarter of the pages that the load wants: everything ends with the same tokens, in an order that leaves nobody
// behind.
TEST(Scheduler, AQuarterOfThePagesGivesTheSameTokens) {
  for (const bool cache : {true, false}) {
    Shape shape;
    shape.max_batch = shape.max_rows = 16;
    shape.pages = 16 * 30 / 4;  // 16 texts of 120 tokens, 4 a page
    shape.context = 256;
    SchedulerOptions options;
    options.prefix_cache = cache;
    Rig rig(shape, options);
    for (uint32_t i = 0; i < 40; ++i) rig.submit(ask(text(20 + i % 7, i + 1), 100 - i % 5));
    rig.run();
    rig.expect_answers();
    EXPECT_GT(rig->stats().preemptions, 0U);
    // Nobody waits more than ten times the median.
    std::vector<double> waits, ends;
    for (const auto& [id, o] : rig.outcomes) {
      waits.push_back(o.times.front());
      ends.push_back(o.times.back());
      double gap = 0;
      for (size_t i = 1; i < o.times.size(); ++i) gap = std::max(gap, o.times[i] - o.times[i - 1]);
      EXPECT_LT(gap, rig.world.time / 2) << "request " << id;
    }
    std::sort(waits.begin(), waits.end());
    std::sort(ends.begin(), ends.end());
    EXPECT_LT(ends.back(), 10 * ends[ends.size() / 2]);
    EXPECT_LT(waits.back(), 10 * waits[waits.size() / 2]);
    // Work done twice stays small beside the work.
    const uint64_t least = rig->stats().prompt_tokens + rig->stats().generated_tokens;
    EXPECT_LT(rig->stats().step_tokens, 2 * least);
  }
}

TEST(Scheduler, PreemptedTextsFindTheirPagesAgain) {
  Shape shape;
  shape.pages = 26;
  shape.max_batch = 2;
  Rig rig(shape);
  rig.submit(ask(text(40, 1), 20));
  const RequestId b = rig.submit(ask(text(40, 2), 20));
  rig.run();
  rig.expect_answers();
  EXPECT_EQ(rig.outcomes[b].done->preemptions, 1U);
  // 40 + 19 tokens each; of the second, what the first left of its pages was not computed again.
  EXPECT_LT(rig->stats().step_tokens, 2 * 59U + 40U);
}

TEST(Scheduler, ARequestAsLargeAsThePoolRuns) {
  Shape shape;
  shape.pages = 10;
  shape.context = 512;
  Rig rig(shape);
  EXPECT_EQ(rig->most_tokens(), 40U);
  rig.submit(ask(text(30, 1), 10));
  rig.submit(ask(text(30, 2), 10));
  rig.run();
  rig.expect_answers();
  // Beyond the pool: refused, or cut.
  EXPECT_FALSE(rig->check(ask(text(40), 1)));
  const RequestId id = rig.submit(ask(text(39, 3), 100));
  rig.run();
  EXPECT_EQ(rig.outcomes[id].tokens[0].size(), 1U);
  EXPECT_EQ(rig.outcomes[id].finished.at(0).reason, FinishReason::kLength);
}

TEST(Scheduler, CancellationFreesPagesWithinTwoSteps) {
  Rig rig;
  const RequestId decoding = rig.submit(ask(text(10, 1), 400));
  for (int i = 0; i < 5; ++i) rig.tick();
  const RequestId prefilling = rig.submit(ask(text(300, 2), 50));
  rig.tick();
  const uint32_t used = rig->stats().pages_used;
  EXPECT_GT(used, 70U);
  rig->cancel(prefilling);
  rig.tick();
  EXPECT_LT(rig->stats().pages_used, 10U);
  EXPECT_EQ(rig.outcomes[prefilling].finished.at(0).reason, FinishReason::kCancelled);
  EXPECT_TRUE(rig.outcomes[prefilling].done);
  const RequestId waiting = rig.submit(ask(text(5, 3), 5));
  rig->cancel(waiting);
  rig->cancel(decoding);
  EXPECT_FALSE(rig.tick());
  EXPECT_EQ(rig->stats().pages_used, 0U);
  EXPECT_TRUE(rig.outcomes[waiting].tokens.empty());
  EXPECT_EQ(rig.outcomes[waiting].finished.at(0).reason, FinishReason::kCancelled);
  EXPECT_TRUE(rig->idle());
  EXPECT_EQ(rig->stats().finished[static_cast<size_t>(FinishReason::kCancelled)], 3U);
  rig->cancel(decoding);  // unknown by now
  rig->cancel(12345);
  EXPECT_FALSE(rig.tick());
}

TEST(Scheduler, OneSequenceOfManyCanBeCancelled) {
  Rig rig;
  Request request = ask(text(10), 30);
  request.sequences = 3;
  const RequestId id = rig.submit(request);
  for (int i = 0; i < 5; ++i) rig.tick();
  rig->cancel(id, 1);
  rig.run();
  const Outcome& o = rig.outcomes[id];
  EXPECT_EQ(o.finished.at(1).reason, FinishReason::kCancelled);
  EXPECT_LT(o.tokens.at(1).size(), 6U);
  for (const uint32_t i : {0U, 2U}) {
    EXPECT_EQ(o.tokens.at(i), simulated::answer(request.prompt, 30, 1000, i));
  }
}

TEST(Scheduler, SequencesOfARequestShareThePromptsPages) {
  Shape shape;
  shape.pages = 60;
  Rig rig(shape);
  Request request = ask(text(102), 6);  // 25 pages and a half
  request.sequences = 8;
  const RequestId id = rig.submit(request);
  uint32_t most = 0;
  while (rig.tick()) most = std::max(most, rig->stats().pages_used);
  rig.expect_answers();
  EXPECT_LE(most, 25U + 8 * 2);
  EXPECT_EQ(rig->stats().preemptions, 0U);
  // The prompt once, and its last token again for each of the others.
  EXPECT_EQ(rig->stats().step_tokens, 102U + 7 + 8 * 5);
  // The half page is written by eight: seven copies.
  EXPECT_EQ(rig->stats().page_copies, 7U);
  EXPECT_EQ(rig.world.copies.size(), 7U);
  EXPECT_EQ(rig.outcomes[id].done->completion_tokens, 48U);
  EXPECT_EQ(rig.outcomes[id].done->prompt_tokens, 102U);
}

TEST(Scheduler, MoreSequencesThanPlacesAllEnd) {
  Shape shape;
  shape.max_batch = 3;
  shape.pages = 30;
  Rig rig(shape);
  Request request = ask(text(33), 20);
  request.sequences = 11;
  rig.submit(request);
  rig.submit(ask(text(20, 5), 10));
  rig.run();
  rig.expect_answers();
}

TEST(Scheduler, ASecondRequestFindsTheFirstOnesPrompt) {
  Rig rig;
  Tokens prompt = text(100);
  rig.submit(ask(prompt, 3));
  rig.run();
  const uint64_t before = rig->stats().step_tokens;
  prompt.resize(81);
  prompt.push_back(7);
  const RequestId second = rig.submit(ask(prompt, 3));
  rig.run();
  rig.expect_answers();
  EXPECT_EQ(rig.outcomes[second].done->cached_tokens, 81U);
  EXPECT_EQ(rig->stats().step_tokens - before, 1U + 2);
  EXPECT_EQ(rig->stats().prefix_hits, 81U);
  EXPECT_EQ(rig->stats().prefix_queries, 182U);
}

TEST(Scheduler, TheWholePromptInTheCacheComputesItsLastTokenAlone) {
  for (const size_t length : {100, 101, 103}) {
    Rig rig;
    rig.submit(ask(text(length), 8));
    rig.run();
    const uint64_t before = rig->stats().step_tokens;
    const RequestId second = rig.submit(ask(text(length), 3));
    rig.run();
    rig.expect_answers();
    // The page of the last token is full by what the first was answered, and copied before the token is written again,
    // unless it begins with it.
    EXPECT_EQ(rig.outcomes[second].done->cached_tokens, length - 1);
    EXPECT_EQ(rig->stats().step_tokens - before, 3U);
    EXPECT_EQ(rig->stats().page_copies, length == 101 ? 0U : 1U);
  }
}

// Holding the cached page and its copy at once would take one page more than there are.
TEST(Scheduler, ACachedPromptAsLargeAsThePoolRunsAgain) {
  Shape shape;
  shape.pages = 10;
  Rig rig(shape);
  for (int i = 0; i < 3; ++i) {
    rig.submit(ask(text(39), 1));
    rig.run();
    rig.submit(ask(text(30), 10));
    rig.run();
  }
  rig.expect_answers();
}

TEST(Scheduler, RequestsAtTheSameTimeShareWhatTheyComputedAlike) {
  Rig rig;
  for (uint32_t i = 0; i < 6; ++i) {
    Tokens prompt = text(40);
    prompt.push_back(static_cast<int32_t>(i));
    rig.submit(ask(prompt, 10));
  }
  for (int i = 0; i < 8; ++i) rig.tick();
  EXPECT_LE(rig->stats().pages_used, 10U + 6 * 4);
  rig.run();
  rig.expect_answers();
}

TEST(Scheduler, SaltedAndUncachedPromptsAreComputed) {
  Rig rig;
  rig.submit(ask(text(40), 2));
  rig.run();
  Request salted = ask(text(40), 2);
  salted.cache_salt = 5;
  const RequestId a = rig.submit(salted);
  rig.run();
  Request uncached = ask(text(40), 2);
  uncached.cache_prompt = false;
  const RequestId b = rig.submit(uncached);
  rig.run();
  const RequestId c = rig.submit(salted);
  rig.run();
  EXPECT_EQ(rig.outcomes[a].done->cached_tokens, 0U);
  EXPECT_EQ(rig.outcomes[b].done->cached_tokens, 0U);
  EXPECT_EQ(rig.outcomes[c].done->cached_tokens, 39U);
  rig.expect_answers();
}

TEST(Scheduler, TheOldestPromptsLeaveTheCacheFirst) {
  Shape shape;
  shape.pages = 40;
  Rig rig(shape);
  for (uint32_t i = 1; i <= 3; ++i) {
    rig.submit(ask(text(48, i), 1));  // 12 pages each
    rig.run();
  }
  rig.submit(ask(text(48, 1), 1));  // used again
  rig.run();
  rig.submit(ask(text(48, 4), 1));
  rig.run();
  EXPECT_GT(rig->stats().evictions, 0U);
  const RequestId first = rig.submit(ask(text(48, 1), 1)), third = rig.submit(ask(text(48, 3), 1)),
                  second = rig.submit(ask(text(48, 2), 1));
  rig.run();
  rig.expect_answers();
  EXPECT_EQ(rig.outcomes[first].done->cached_tokens, 47U);
  EXPECT_EQ(rig.outcomes[third].done->cached_tokens, 47U);
  EXPECT_LT(rig.outcomes[second].done->cached_tokens, 20U);
}

TEST(Scheduler, EndAndStopTokensEndAnAnswer) {
  Shape shape;
  const Tokens prompt = text(10);
  const Tokens expected = simulated::answer(prompt, 20, shape.vocab);
  shape.eos = {expected[6], 3};
  {
    Rig rig(shape);
    const RequestId id = rig.submit(ask(prompt, 20));
    rig.run();
    const Outcome& o = rig.outcomes[id];
    EXPECT_EQ(o.tokens.at(0), Tokens(expected.begin(), expected.begin() + 7));
    EXPECT_EQ(o.finished.at(0).reason, FinishReason::kStop);
    EXPECT_EQ(o.finished.at(0).stop_token, expected[6]);
    for (size_t i = 0; i < 7; ++i) EXPECT_EQ(o.events[i].ends, i == 6);
  }
  {
    Rig rig(shape);
    Request request = ask(prompt, 20);
    request.ignore_eos = true;
    request.stop_tokens = {expected[12], 5};
    const RequestId id = rig.submit(request);
    rig.run();
    EXPECT_EQ(rig.outcomes[id].tokens.at(0), Tokens(expected.begin(), expected.begin() + 13));
    EXPECT_EQ(rig.outcomes[id].finished.at(0).reason, FinishReason::kStop);
  }
  {
    Rig rig(shape);
    Request request = ask(prompt, 20);
    request.min_tokens = 9;
    const RequestId id = rig.submit(request);
    rig.run();
    const Tokens& tokens = rig.outcomes[id].tokens.at(0);
    EXPECT_GE(tokens.size(), 9U);
    for (size_t i = 0; i < 9; ++i) EXPECT_NE(tokens[i], expected[6]);
  }
}

TEST(Scheduler, LogprobsOfPromptAndAnswer) {
  for (const size_t cached : {0, 1}) {
    Rig rig;
    Request request = ask(text(30), 4);
    if (cached == 1) {
      rig.submit(request);
      rig.run();
    }
    request.logprobs = request.prompt_logprobs = true;
    request.top_logprobs = 2;
    const RequestId id = rig.submit(request);
    rig.run();
    rig.expect_answers();
    const Outcome& o = rig.outcomes[id];
    ASSERT_EQ(o.prompt.size(), 29U);
    for (uint32_t i = 0; i < 29; ++i) {
      EXPECT_EQ(o.prompt[i].position, i + 1);
      EXPECT_EQ(o.prompt[i].token, request.prompt[i + 1]);
      EXPECT_EQ(o.prompt[i].logprob, -static_cast<float>(request.prompt[i + 1]));
      EXPECT_EQ(o.prompt[i].top.size(), 2U);
    }
    for (const TokenEvent& e : o.events) {
      EXPECT_EQ(e.logprob, -static_cast<float>(e.token));
      EXPECT_EQ(e.top.size(), 2U);
    }
    EXPECT_EQ(o.done->cached_tokens, 0U);
  }
}

TEST(Scheduler, AFullStreamPausesItsRequestAlone) {
  Rig rig;
  const RequestId slow = rig.submit(ask(text(10, 1), 60), 20), other = rig.submit(ask(text(10, 2), 60));
  rig.held = {slow};
  rig.run();
  EXPECT_EQ(rig.outcomes[other].tokens.at(0).size(), 60U);
  rig.take(slow);
  const size_t first = rig.outcomes[slow].tokens.at(0).size();
  EXPECT_GT(first, 10U);
  EXPECT_LE(first, 20U);
  rig.held.clear();
  rig.run();
  rig.expect_answers();
}

TEST(Scheduler, APausedRequestGivesItsPlaceAndPagesToOthers) {
  Shape shape;
  shape.max_batch = 1;
  shape.pages = 20;
  Rig rig(shape);
  const RequestId slow = rig.submit(ask(text(30, 1), 40), 12), other = rig.submit(ask(text(60, 2), 5));
  rig.held = {slow};
  rig.run();
  EXPECT_EQ(rig.outcomes[other].tokens.at(0).size(), 5U);
  rig.held.clear();
  rig.tick();
  rig.run();
  rig.expect_answers();
}

TEST(Scheduler, ManySequencesWithASmallStreamAllEnd) {
  Rig rig;
  Request request = ask(text(10), 30);
  request.sequences = 8;
  rig.submit(request, 8);
  rig.run();
  rig.expect_answers();
}

TEST(Scheduler, ARowThatFailsEndsItsSequenceAloneAndLeavesNothingInTheCache) {
  Rig rig;
  const RequestId bad = rig.submit(ask(text(40, 1), 20)), good = rig.submit(ask(text(40, 2), 20));
  bool happened = false;
  rig.world.bad_row = [&](const Step& step, size_t row) {
    const bool bad_now = !happened && step.positions[static_cast<size_t>(step.rows[row])] == 45;
    happened |= bad_now;
    return bad_now;
  };
  rig.run();
  const Outcome& o = rig.outcomes[bad];
  EXPECT_EQ(o.finished.at(0).reason, FinishReason::kError);
  EXPECT_EQ(o.finished.at(0).error.code, Code::kBadData);
  EXPECT_EQ(o.tokens.at(0).size(), 6U);
  EXPECT_TRUE(o.done);
  EXPECT_EQ(rig.outcomes[good].tokens.at(0).size(), 20U);
  rig.world.bad_row = nullptr;
  const RequestId again = rig.submit(ask(text(40, 1), 3));
  rig.run();
  EXPECT_EQ(rig.outcomes[again].done->cached_tokens, 0U);
  EXPECT_EQ(rig.outcomes[again].tokens.at(0), simulated::answer(text(40, 1), 3, 1000));
}

// A request that makes every step it is in fail ends with an error; those beside it never notice.
TEST(Scheduler, AFailingStepIsTriedAgainOneByOne) {
  Rig rig;
  std::vector<RequestId> good;
  for (uint32_t i = 0; i < 4; ++i) good.push_back(rig.submit(ask(text(20 + i, i + 1), 30)));
  for (int i = 0; i < 5; ++i) rig.tick();
  Tokens poison = text(20, 50);
  poison[10] = 666;
  for (Tokens* t : {&rig.requests[1].prompt, &rig.requests[2].prompt})
    ASSERT_EQ(std::count(t->begin(), t->end(), 666), 0);
  const RequestId bad = rig.submit(ask(poison, 5));
  rig.world.fault = [&](const Step& step) -> std::optional<Error> {
    if (std::count(step.tokens.begin(), step.tokens.end(), 666) == 0) return std::nullopt;
    return error(Code::kInternal, "the device stumbled");
  };
  rig.run();
  EXPECT_EQ(rig.outcomes[bad].finished.at(0).reason, FinishReason::kError);
  EXPECT_EQ(rig.outcomes[bad].finished.at(0).error.code, Code::kInternal);
  EXPECT_EQ(rig->stats().failed_steps, 2U);
  rig.requests.erase(bad);
  rig.expect_answers();
}

TEST(Scheduler, OneFaultOfTheDeviceIsNotSeen) {
  Rig rig;
  for (uint32_t i = 0; i < 5; ++i) rig.submit(ask(text(30, i + 1), 30));
  int steps = 0;
  rig.world.fault = [&](const Step&) -> std::optional<Error> {
    return ++steps == 7 ? std::optional<Error>(error(Code::kInternal, "once")) : std::nullopt;
  };
  rig.run();
  rig.expect_answers();
  EXPECT_EQ(rig->stats().failed_steps, 1U);
}

TEST(Scheduler, ALostDeviceEndsEverything) {
  Rig rig;
  const RequestId a = rig.submit(ask(text(30, 1), 30));
  rig.tick();
  rig.world.fault = [](const Step&) { return std::optional<Error>(error(Code::kRetry, "the device is gone")); };
  rig.run();
  EXPECT_EQ(rig.outcomes[a].finished.at(0).reason, FinishReason::kError);
  EXPECT_EQ(rig.outcomes[a].finished.at(0).error.code, Code::kRetry);
  EXPECT_TRUE(rig->stats().failed);
  const RequestId b = rig.submit(ask(text(30, 1), 30));
  EXPECT_FALSE(rig.tick());
  EXPECT_TRUE(rig.outcomes[b].done);
  EXPECT_EQ(rig.outcomes[b].finished.at(0).error.code, Code::kRetry);
  EXPECT_TRUE(rig->idle());
}

TEST(Scheduler, ADeviceThatKeepsFailingIsGivenUp) {
  Rig rig;
  for (uint32_t i = 0; i < 20; ++i) rig.submit(ask(text(30, i + 1), 30));
  rig.world.fault = [](const Step&) { return std::optional<Error>(error(Code::kInternal, "broken")); };
  rig.run();
  EXPECT_TRUE(rig->idle());
  EXPECT_TRUE(rig->stats().failed);
  EXPECT_LE(rig->stats().failed_steps, 8U);
}

TEST(Scheduler, RequestsOutOfRangeAreNamed) {
  Rig rig;
  const auto message = [&](auto change) {
    Request request = ask(text(5), 5);
    change(request);
    const Status status = rig->check(request);
    EXPECT_FALSE(status);
    return status ? std::string() : status.error().message;
  };
  EXPECT_NE(message([](Request& r) { r.prompt.clear(); }).find("no tokens"), std::string::npos);
  EXPECT_NE(message([](Request& r) { r.prompt[2] = 1000; }).find("1000 is outside"), std::string::npos);
  EXPECT_NE(message([](Request& r) { r.prompt[2] = -1; }).find("-1 is outside"), std::string::npos);
  EXPECT_NE(message([](Request& r) { r.prompt = text(512); }).find("512 tokens"), std::string::npos);
  EXPECT_NE(message([](Request& r) { r.sequences = 0; }).find("0 sequences"), std::string::npos);
  EXPECT_NE(message([](Request& r) { r.sequences = 129; }).find("129 sequences"), std::string::npos);
  EXPECT_NE(message([](Request& r) { r.max_tokens = 0; }).find("max_tokens"), std::string::npos);
  EXPECT_NE(message([](Request& r) { r.stop_tokens = {1000}; }).find("stop token 1000"), std::string::npos);
  EXPECT_NE(message([](Request& r) { r.stop_tokens.resize(129); }).find("129 stop tokens"), std::string::npos);
  EXPECT_NE(message([](Request& r) { r.priority = 101; }).find("priority"), std::string::npos);
  EXPECT_NE(message([](Request& r) { r.logprobs = true, r.top_logprobs = 21; }).find("top_logprobs"),
            std::string::npos);
  EXPECT_NE(message([](Request& r) { r.top_logprobs = 1; }).find("without logprobs"), std::string::npos);
  EXPECT_NE(message([](Request& r) { r.sampling.top_p = 2; }).find("top_p"), std::string::npos);
  EXPECT_NE(message([](Request& r) { r.sampling.logit_bias = {{1000, 1}}; }).find("logit_bias"), std::string::npos);
}

// Everything at once: random requests, cancellations, slow consumers, faults and few pages. Whatever is answered is
// the beginning of what the request alone decides, and in the end nothing is left.
TEST(Scheduler, NothingIsLostOrChangedInATurmoil) {
  for (uint32_t seed = 1; seed <= 12; ++seed) {
    std::mt19937 engine(seed);
    const auto random = [&](uint32_t below) { return static_cast<uint32_t>(engine() % below); };
    Shape shape;
    shape.vocab = 50;
    shape.context = 120;
    shape.pages = 40 + random(100);
    shape.max_batch = 1 + random(8);
    shape.max_rows = 1 + random(8);
    shape.max_tokens = 8U << random(4);
    shape.eos = {7};
    SchedulerOptions options;
    options.prefix_cache = seed % 4 != 0;
    options.prefill_stretch = seed % 3 == 0 ? 0 : 1.7;
    if (seed % 5 == 0) options.max_step_tokens = 1 + random(10);
    Rig rig(shape, options);
    rig.world.fault = [&](const Step&) -> std::optional<Error> {
      if (random(60) != 0) return std::nullopt;
      return error(Code::kInternal, "now and then");
    };
    std::set<RequestId> cancelled;
    for (int round = 0; round < 1500; ++round) {
      if (round < 1000 && random(6) == 0) {
        Tokens prompt = text(1 + random(60), 1 + random(3), shape.vocab);
        if (random(2) == 0) prompt.back() = static_cast<int32_t>(random(shape.vocab));
        Request request = ask(prompt, 1 + random(40));
        request.sequences = random(5) == 0 ? 1 + random(6) : 1;
        request.priority = static_cast<int32_t>(random(3)) - 1;
        request.ignore_eos = random(2) == 0;
        request.prompt_logprobs = request.logprobs = random(6) == 0;
        const RequestId id = rig.submit(request, 8 + random(30));
        if (random(4) == 0) rig.held.insert(id);
      }
      if (random(20) == 0 && !rig.requests.empty()) {
        const RequestId id = 1 + random(static_cast<uint32_t>(rig.requests.size()));
        rig->cancel(id, random(3) == 0 ? std::optional<uint32_t>(0) : std::nullopt);
        cancelled.insert(id);
      }
      if (random(10) == 0) rig.held.clear();
      rig.tick();
    }
    rig.held.clear();
    rig.tick();
    rig.run();
    EXPECT_TRUE(rig->idle()) << seed;
    EXPECT_EQ(rig->stats().pages_used, 0U);
    for (const auto& [id, request] : rig.requests) {
      const Outcome& o = rig.outcomes[id];
      ASSERT_TRUE(o.done) << seed << ", " << id;
      uint32_t completion = 0;
      for (uint32_t i = 0; i < request.sequences; ++i) {
        const auto found = o.tokens.find(i);
        const Tokens got = found == o.tokens.end() ? Tokens() : found->second;
        completion += static_cast<uint32_t>(got.size());
        const uint32_t most =
            std::min<uint32_t>(request.max_tokens, rig->most_tokens() - static_cast<uint32_t>(request.prompt.size()));
        Tokens want = simulated::answer(request.prompt, most, shape.vocab, i);
        if (!request.ignore_eos) {
          const auto end = std::find(want.begin(), want.end(), 7);
          if (end != want.end()) want.erase(end + 1, want.end());
        }
        const FinishReason reason = o.finished.at(i).reason;
        if (reason == FinishReason::kStop || reason == FinishReason::kLength) {
          EXPECT_EQ(got, want) << seed << ", " << id << ", " << i;
        } else {
          // A sequence whose step fails twice in a row, the second time alone, is taken to be at fault.
          const bool unlucky = reason == FinishReason::kError && o.finished.at(i).error.message == "now and then";
          EXPECT_TRUE(unlucky || (reason == FinishReason::kCancelled && cancelled.count(id) == 1));
          ASSERT_LE(got.size(), want.size());
          EXPECT_TRUE(std::equal(got.begin(), got.end(), want.begin()));
        }
      }
      EXPECT_EQ(o.done->completion_tokens, completion);
    }
  }
}

}  // namespace
}  // namespace ll
