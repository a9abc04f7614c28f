#include "runtime/engine/engine_thread.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "runtime/engine/simulated_device_test.h"

namespace ll {
namespace {

using simulated::Shape;
using Tokens = std::vector<int32_t>;
constexpr Seconds kLong{60};  // longer than anything here takes

Tokens prompt_of(uint32_t i) { return {static_cast<int32_t>(i % 1000), 1, 2, static_cast<int32_t>(i / 1000), 4}; }

Request request_of(Tokens prompt, uint32_t max_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  return request;
}

// A door that a device's step waits at.
class Gate {
 public:
  void open(bool open = true) {
    const std::lock_guard lock(mutex_);
    open_ = open;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    --waiting_;
  }
  void wait_for_visitor() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ > 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  int waiting_ = 0;
};

class ThreadRig {
 public:
  explicit ThreadRig(const Shape& shape = {}, EngineThreadOptions options = {})
      : shape_(shape), plan_(simulated::plan(shape)) {
    world.during_step = [this] { gate.pass(); };
    options.notify = [this](std::span<const RequestId> ids) {
      const std::lock_guard lock(mutex_);
      notices_.insert(notices_.end(), ids.begin(), ids.end());
      noticed_.notify_all();
    };
    auto thread =
        EngineThread::start(plan_, std::make_unique<simulated::SimulatedDevice>(plan_, world), std::move(options));
    EXPECT_TRUE(thread);
    engine = std::move(*thread);
  }

  // The next stream that has something to take.
  RequestId wait_for_notice() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(noticed_.wait_for(lock, kLong, [&] { return !notices_.empty(); }));
    const RequestId id = notices_.front();
    notices_.erase(notices_.begin());
    return id;
  }
  int32_t vocab() const { return static_cast<int32_t>(shape_.vocab); }

  simulated::World world;
  Gate gate;

 private:
  Shape shape_;
  Plan plan_;
  std::mutex mutex_;
  std::condition_variable noticed_;
  std::vector<RequestId> notices_;

 public:
  std::unique_ptr<EngineThread> engine;  // goes first
};

struct Taken {
  Tokens tokens;
  std::optional<FinishedEvent> finished;
  bool done = false;
};

void take(EventStream& stream, Taken& taken) {
  std::vector<Event> events;
  stream.take(events);
  for (const Event& event : events) {
    EXPECT_FALSE(taken.done);
    if (const auto* t = std::get_if<TokenEvent>(&event)) taken.tokens.push_back(t->token);
    if (const auto* f = std::get_if<FinishedEvent>(&event)) taken.finished = *f;
    taken.done |= std::holds_alternative<DoneEvent>(event);
  }
}

void take_all(EventStream& stream, Taken& taken) {
  while (!taken.done) {
    take(stream, taken);
    std::this_thread::yield();
  }
}

TEST(EngineThread, OneLoopServesManyStreamsByNotices) {
  ThreadRig rig;
  std::map<RequestId, std::shared_ptr<EventStream>> streams;
  std::map<RequestId, Taken> taken;
  std::map<RequestId, uint32_t> numbers;
  for (uint32_t i = 0; i < 30; ++i) {
    Submission s = rig.engine->submit(request_of(prompt_of(i), 20));
    ASSERT_EQ(s.refusal, Refusal::kNone) << s.error.message;
    numbers[s.stream->id()] = i;
    streams[s.stream->id()] = std::move(s.stream);
  }
  for (size_t done = 0; done < 30;) {
    const RequestId id = rig.wait_for_notice();
    take(*streams.at(id), taken[id]);
    done += taken[id].done ? 1 : 0;
  }
  for (const auto& [id, number] : numbers) {
    EXPECT_EQ(taken[id].tokens, simulated::answer(prompt_of(number), 20, 1000));
  }
  EXPECT_TRUE(rig.engine->wait_idle(kLong));
  const EngineStats stats = rig.engine->stats();
  EXPECT_EQ(stats.accepted, 30U);
  EXPECT_EQ(stats.scheduler.generated_tokens, 600U);
  EXPECT_EQ(stats.scheduler.pages_used, 0U);
  EXPECT_EQ(stats.queued_sequences, 0U);
}

TEST(EngineThread, ManyThreadsSubmitTakeAndCancel) {
  ThreadRig rig;
  constexpr uint32_t kThreads = 4, kRequests = 25;
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (uint32_t i = 0; i < kRequests; ++i) {
        const Tokens prompt = prompt_of(t * 1000 + i % 7);
        Submission s = rig.engine->submit(request_of(prompt, 15));
        ASSERT_EQ(s.refusal, Refusal::kNone) << s.error.message;
        if (i % 5 == 4) rig.engine->cancel(s.stream->id());
        Taken taken;
        take_all(*s.stream, taken);
        const Tokens want = simulated::answer(prompt, 15, 1000);
        if (taken.finished->reason == FinishReason::kLength) {
          EXPECT_EQ(taken.tokens, want);
        } else {
          EXPECT_EQ(taken.finished->reason, FinishReason::kCancelled);
          EXPECT_EQ(i % 5, 4U);
        }
        (void)rig.engine->stats();
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_TRUE(rig.engine->wait_idle(kLong));
  EXPECT_EQ(rig.engine->stats().scheduler.pages_used, 0U);
}

TEST(EngineThread, TheQueueIsBoundedBySequencesAndTokens) {
  Shape shape;
  shape.max_batch = 1;
  EngineThreadOptions options;
  options.queue_sequences = 3;
  options.queue_tokens = 100;
  ThreadRig rig(shape, options);
  rig.gate.open(false);
  std::vector<std::shared_ptr<EventStream>> streams;
  const auto submit = [&](Tokens prompt, uint32_t sequences = 1) {
    Request request = request_of(std::move(prompt), 3);
    request.sequences = sequences;
    Submission s = rig.engine->submit(std::move(request));
    if (s.stream) streams.push_back(s.stream);
    return s;
  };
  EXPECT_EQ(submit(prompt_of(1)).refusal, Refusal::kNone);
  rig.gate.wait_for_visitor();  // the first runs
  // The first is still counted: nothing was published since. It makes one of three.
  EXPECT_EQ(submit(prompt_of(2)).refusal, Refusal::kNone);
  EXPECT_EQ(submit(prompt_of(3), 5).refusal, Refusal::kFull);
  EXPECT_EQ(submit(Tokens(96, 1)).refusal, Refusal::kFull);
  EXPECT_EQ(submit(prompt_of(4)).refusal, Refusal::kNone);
  const Submission full = submit(prompt_of(5));
  EXPECT_EQ(full.refusal, Refusal::kFull);
  EXPECT_EQ(full.stream, nullptr);
  EXPECT_GE(full.retry_after.count(), 1);
  EXPECT_LE(full.retry_after.count(), 60);
  EXPECT_NE(full.error.message.find("expected at most 3"), std::string::npos) << full.error.message;
  EXPECT_EQ(rig.engine->stats().refused, 3U);
  rig.gate.open();
  EXPECT_TRUE(rig.engine->wait_idle(kLong));
  // An empty queue takes a request of any size.
  EXPECT_EQ(submit(Tokens(300, 1), 5).refusal, Refusal::kNone);
  EXPECT_TRUE(rig.engine->wait_idle(kLong));
  for (const auto& stream : streams) {
    Taken taken;
    take(*stream, taken);
    EXPECT_TRUE(taken.done);
  }
}

TEST(EngineThread, InvalidRequestsAreRefusedWithTheReason) {
  ThreadRig rig;
  const Submission s = rig.engine->submit(request_of({1, 2, 5000}, 3));
  EXPECT_EQ(s.refusal, Refusal::kInvalid);
  EXPECT_EQ(s.error.code, Code::kUsage);
  EXPECT_NE(s.error.message.find("5000"), std::string::npos);
  EXPECT_TRUE(rig.engine->idle());
}

TEST(EngineThread, DrainingRefusesWhatIsNewAndEndsWhatRuns) {
  ThreadRig rig;
  rig.gate.open(false);
  Submission running = rig.engine->submit(request_of(prompt_of(1), 10));
  rig.gate.wait_for_visitor();
  Submission queued = rig.engine->submit(request_of(prompt_of(2), 10));
  rig.engine->drain();
  EXPECT_EQ(rig.engine->submit(request_of(prompt_of(3), 10)).refusal, Refusal::kDraining);
  EXPECT_FALSE(rig.engine->wait_idle(Seconds(0)));
  EXPECT_TRUE(rig.engine->stats().draining);
  rig.gate.open();
  EXPECT_TRUE(rig.engine->wait_idle(kLong));
  for (Submission* s : {&running, &queued}) {
    Taken taken;
    take(*s->stream, taken);
    EXPECT_EQ(taken.tokens.size(), 10U);
    EXPECT_TRUE(taken.done);
  }
}

TEST(EngineThread, AConsumerThatDoesNotTakeDelaysItsOwnRequestOnly) {
  EngineThreadOptions options;
  options.stream_events = 10;
  ThreadRig rig({}, options);
  Submission slow = rig.engine->submit(request_of(prompt_of(1), 100));
  Submission other = rig.engine->submit(request_of(prompt_of(2), 100));
  Taken taken;
  take_all(*other.stream, taken);
  EXPECT_EQ(taken.tokens.size(), 100U);
  EXPECT_FALSE(rig.engine->idle());
  Taken late;
  take_all(*slow.stream, late);
  EXPECT_EQ(late.tokens, simulated::answer(prompt_of(1), 100, 1000));
}

TEST(EngineThread, APausedRequestCanBeCancelled) {
  EngineThreadOptions options;
  options.stream_events = 10;
  ThreadRig rig({}, options);
  Submission slow = rig.engine->submit(request_of(prompt_of(1), 100));
  while (rig.engine->stats().scheduler.generated_tokens < 7) std::this_thread::yield();
  rig.engine->cancel(slow.stream->id());
  EXPECT_TRUE(rig.engine->wait_idle(kLong));
  Taken taken;
  take(*slow.stream, taken);
  EXPECT_EQ(taken.finished->reason, FinishReason::kCancelled);
  EXPECT_TRUE(taken.done);
}

TEST(EngineThread, ItsEndEndsAllStreamsWhichMayOutliveIt) {
  std::shared_ptr<EventStream> running, paused;
  {
    EngineThreadOptions options;
    options.stream_events = 10;
    ThreadRig rig({}, options);
    paused = rig.engine->submit(request_of(prompt_of(1), 400)).stream;
    while (rig.engine->stats().scheduler.generated_tokens < 7) std::this_thread::yield();
    rig.gate.open(false);
    running = rig.engine->submit(request_of(prompt_of(2), 400)).stream;
    rig.gate.wait_for_visitor();
    std::thread opener([&] { rig.gate.open(); });
    rig.engine.reset();
    opener.join();
  }
  for (const auto& stream : {running, paused}) {
    Taken taken;
    take(*stream, taken);
    EXPECT_TRUE(taken.done);
    EXPECT_EQ(taken.finished->reason, FinishReason::kCancelled);
  }
}

TEST(EngineThread, ProgressIsOldWhileTheDeviceHangsAndNewWhenIdle) {
  ThreadRig rig;
  rig.gate.open(false);
  Submission s = rig.engine->submit(request_of(prompt_of(1), 2));
  rig.gate.wait_for_visitor();
  const Seconds first = rig.engine->stats().since_progress;
  while (rig.engine->stats().since_progress <= first + Seconds(0.01)) std::this_thread::yield();
  rig.gate.open();
  EXPECT_TRUE(rig.engine->wait_idle(kLong));
  while (rig.engine->stats().since_progress != Seconds(0)) std::this_thread::yield();
}

TEST(EngineThread, ALostDeviceEndsStreamsAndRefusesRequests) {
  ThreadRig rig;
  rig.gate.open(false);
  Submission a = rig.engine->submit(request_of(prompt_of(1), 20));
  rig.gate.wait_for_visitor();
  rig.world.fault = [](const Step&) { return std::optional<Error>(error(Code::kRetry, "the device is gone")); };
  rig.gate.open();
  EXPECT_TRUE(rig.engine->wait_idle(kLong));
  Taken taken;
  take(*a.stream, taken);
  EXPECT_EQ(taken.finished->reason, FinishReason::kError);
  EXPECT_EQ(taken.finished->error.message, "the device is gone");
  EXPECT_TRUE(rig.engine->stats().failed);
  EXPECT_EQ(rig.engine->submit(request_of(prompt_of(1), 20)).refusal, Refusal::kFailed);
}

TEST(EventStream, RoomThatWasMissedIsAnnouncedOnce) {
  int announced = 0;
  EventStream stream(5, 8, [&] { ++announced; });
  std::vector<Event> events;
  EXPECT_EQ(stream.room(8), 8U);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(stream.push(TokenEvent{}), i == 0);
  EXPECT_EQ(stream.take(events), 6U);
  EXPECT_EQ(announced, 0);
  EXPECT_TRUE(stream.push(TokenEvent{}));
  EXPECT_EQ(stream.room(8), 7U);
  EXPECT_EQ(stream.take(events), 1U);
  EXPECT_EQ(stream.take(events), 0U);
  EXPECT_EQ(announced, 1);
  EXPECT_EQ(events.size(), 7U);
}

}  // namespace
}  // namespace ll
