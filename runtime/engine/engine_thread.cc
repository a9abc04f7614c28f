#include "runtime/engine/engine_thread.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace ll {
namespace {

Seconds now() { return std::chrono::steady_clock::now().time_since_epoch(); }

// How long the look back at the rate of beginnings is, about.
constexpr double kRateSeconds = 10;
constexpr Seconds kLeastRetry{1}, kMostRetry{60};

// What wakes the thread. Shared with the streams, which may outlive it.
class Wake {
 public:
  void up() {
    {
      const std::lock_guard lock(mutex_);
      awake_ = true;
    }
    changed_.notify_one();
  }
  // Returns at once if up() was called since the last wait.
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return awake_; });
    awake_ = false;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool awake_ = false;
};

}  // namespace

struct EngineThread::State {
  std::unique_ptr<Scheduler> scheduler;  // the thread's alone, but for what never changes
  DeviceInfo device;
  EngineThreadOptions options;
  const std::shared_ptr<Wake> wake = std::make_shared<Wake>();
  std::atomic<bool> sleeping{false};

  struct Accepted {
    Request request;
    std::shared_ptr<EventStream> stream;
  };
  mutable std::mutex mutex;                  // of all below
  mutable std::condition_variable all_done;  // idle has become true
  std::vector<Accepted> inbox;
  std::vector<std::pair<RequestId, std::optional<uint32_t>>> cancellations;
  bool stop = false, draining = false, idle = true;
  uint32_t queued_sequences = 0;  // in the inbox or not begun
  uint64_t queued_tokens = 0;
  uint64_t accepted = 0, refused = 0;
  double begin_rate = 0;  // sequences that begin in a second, lately
  SchedulerStats stats;
  Seconds progress{0};
  RequestId last_id = 0;

  std::thread thread;

  void loop();
  bool publish();
};

void EngineThread::State::loop() {
  std::vector<Accepted> submissions;
  std::vector<std::pair<RequestId, std::optional<uint32_t>>> cancelled;
  while (true) {
    {
      const std::lock_guard lock(mutex);
      submissions.swap(inbox);
      cancelled.swap(cancellations);
      if (stop) scheduler->cancel_all();
    }
    for (Accepted& s : submissions) scheduler->submit(std::move(s.request), std::move(s.stream));
    for (const auto& [id, index] : cancelled) scheduler->cancel(id, index);
    submissions.clear();
    cancelled.clear();
    const bool ran = scheduler->tick();
    const std::vector<RequestId> notices = scheduler->take_notices();
    const bool stopped = publish();
    // After publish(), so that whoever sees the end of a request also sees its pages freed.
    if (!notices.empty() && options.notify) options.notify(notices);
    if (stopped) return;
    if (ran) continue;
    sleeping = true;
    wake->wait();
    sleeping = false;
  }
}

// Makes what happened visible to the other threads. True when the thread is to end.
bool EngineThread::State::publish() {
  const std::lock_guard lock(mutex);
  const SchedulerStats& next = scheduler->stats();
  const Seconds time = now();
  const double elapsed = (time - progress).count();
  if (elapsed > 0) {
    const double rate = static_cast<double>(next.begun - stats.begun) / elapsed;
    begin_rate += std::min(1.0, elapsed / kRateSeconds) * (rate - begin_rate);
  }
  progress = time;
  stats = next;
  queued_sequences = stats.not_begun;
  queued_tokens = stats.not_begun_tokens;
  for (const Accepted& a : inbox) {
    queued_sequences += a.request.sequences;
    queued_tokens += a.request.prompt.size();
  }
  idle = scheduler->idle() && inbox.empty();
  if (idle) all_done.notify_all();
  return idle && stop;
}

EngineThread::EngineThread(std::unique_ptr<State> state) : state_(std::move(state)) {}

EngineThread::~EngineThread() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = state_->draining = true;
  }
  state_->wake->up();
  state_->thread.join();
}

Result<std::unique_ptr<EngineThread>> EngineThread::start(const Plan& plan, std::unique_ptr<Device> device,
                                                          EngineThreadOptions options) {
  auto state = std::make_unique<State>();
  state->device = device->info();
  TRY_ASSIGN(state->scheduler, Scheduler::create(plan, std::move(device), options.scheduler, now));
  if (options.queue_sequences == 0) options.queue_sequences = 4 * plan.max_batch;
  if (options.queue_tokens == 0) options.queue_tokens = uint64_t{plan.pages} * plan.page_size;
  state->options = std::move(options);
  state->stats = state->scheduler->stats();
  state->progress = now();
  // Signals are for the program's own threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  Status started;
  try {
    state->thread = std::thread([s = state.get()] { s->loop(); });
  } catch (const std::system_error& e) {
    started = error(Code::kOutOfMemory, "cannot start the engine's thread: {}", e.what());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  TRY(std::move(started));
  return std::unique_ptr<EngineThread>(new EngineThread(std::move(state)));
}

const Plan& EngineThread::plan() const { return state_->scheduler->plan(); }
DeviceInfo EngineThread::device() const { return state_->device; }
uint32_t EngineThread::most_tokens() const { return state_->scheduler->most_tokens(); }

Submission EngineThread::submit(Request request) {
  State& s = *state_;
  Submission result;
  if (Status valid = s.scheduler->check(request); !valid) {
    result.refusal = Refusal::kInvalid;
    result.error = std::move(valid).error();
  }
  {
    const std::lock_guard lock(s.mutex);
    if (result.refusal != Refusal::kNone) {
      // As found.
    } else if (s.stats.failed) {
      result.refusal = Refusal::kFailed;
      result.error = error(Code::kRetry, "the device is lost: restart the process");
    } else if (s.draining) {
      result.refusal = Refusal::kDraining;
      result.error = error(Code::kRetry, "no new requests: the engine is being drained");
    } else if (s.queued_sequences > 0 && (s.queued_sequences + request.sequences > s.options.queue_sequences ||
                                          s.queued_tokens + request.prompt.size() > s.options.queue_tokens)) {
      result.refusal = Refusal::kFull;
      result.error = error(Code::kRetry, "{} sequences of {} prompt tokens wait, expected at most {} and {}",
                           s.queued_sequences, s.queued_tokens, s.options.queue_sequences, s.options.queue_tokens);
      const Seconds wait(s.queued_sequences / std::max(s.begin_rate, 1e-3));
      result.retry_after = std::clamp(wait, kLeastRetry, kMostRetry);
    }
    if (result.refusal != Refusal::kNone) {
      ++s.refused;
      return result;
    }
    ++s.accepted;
    s.queued_sequences += request.sequences;
    s.queued_tokens += request.prompt.size();
    s.idle = false;
    // Room for what a step can bring for all of the request's sequences, and its end.
    const size_t capacity = std::max<size_t>(s.options.stream_events, size_t{request.sequences} * 4 + 1);
    result.stream = std::make_shared<EventStream>(++s.last_id, capacity, [wake = s.wake] { wake->up(); });
    s.inbox.push_back({std::move(request), result.stream});
  }
  s.wake->up();
  return result;
}

void EngineThread::cancel(RequestId id, std::optional<uint32_t> index) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->cancellations.emplace_back(id, index);
  }
  state_->wake->up();
}

void EngineThread::drain() {
  const std::lock_guard lock(state_->mutex);
  state_->draining = true;
}

bool EngineThread::idle() const {
  const std::lock_guard lock(state_->mutex);
  return state_->idle;
}

bool EngineThread::wait_idle(Seconds limit) const {
  std::unique_lock lock(state_->mutex);
  return state_->all_done.wait_for(lock, limit, [&] { return state_->idle; });
}

EngineStats EngineThread::stats() const {
  const std::lock_guard lock(state_->mutex);
  EngineStats stats;
  stats.scheduler = state_->stats;
  stats.queued_sequences = state_->queued_sequences;
  stats.queued_tokens = state_->queued_tokens;
  stats.accepted = state_->accepted;
  stats.refused = state_->refused;
  if (!state_->sleeping) stats.since_progress = std::max(Seconds(0), now() - state_->progress);
  stats.draining = state_->draining;
  stats.failed = state_->stats.failed;
  return stats;
}

}  // namespace ll
