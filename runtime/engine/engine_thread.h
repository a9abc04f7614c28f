// The scheduler on a thread of its own, behind bounded queues.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "runtime/engine/scheduler.h"

namespace ll {

struct EngineThreadOptions {
  SchedulerOptions scheduler;
  // Accepted requests that have not begun, and their prompt tokens together. A request is refused beyond either; one
  // alone in the queue is never refused for its tokens. 0: 4 * max_batch sequences, and as many tokens as the pool of
  // KV pages holds.
  uint32_t queue_sequences = 0;
  uint64_t queue_tokens = 0;
  // Events a stream holds before its request pauses; it goes on when they are taken.
  size_t stream_events = 256;
  // Called on the engine's thread after a step with the requests whose streams have gone from empty to not empty. Must
  // neither block nor throw: it wakes an event loop, which takes from those streams. May be empty.
  std::function<void(std::span<const RequestId>)> notify;
};

enum class Refusal : uint8_t {
  kNone,      // accepted
  kInvalid,   // Submission::error says what is out of range
  kFull,      // the queue is; try again after retry_after
  kDraining,  // drain() was called
  kFailed,    // the device is lost
};

struct Submission {
  std::shared_ptr<EventStream> stream;  // null when refused
  Refusal refusal = Refusal::kNone;
  Error error;
  Seconds retry_after{0};  // of kFull: until the queue has room, by the rate at which requests began lately; >= 1
};

struct EngineStats {
  SchedulerStats scheduler;
  uint32_t queued_sequences = 0;  // accepted, not begun
  uint64_t queued_tokens = 0;
  uint64_t accepted = 0, refused = 0;  // requests
  // Since the loop last turned (idle or after a step). Below the time of a step unless the device hangs.
  Seconds since_progress{0};
  bool draining = false;
  bool failed = false;  // the device is lost: the process must be restarted (exit 75)
};

// Every method may be called from any thread and returns at once, unless it says otherwise.
class EngineThread {
 public:
  // Starts the thread. The plan outlives this object.
  static Result<std::unique_ptr<EngineThread>> start(const Plan& plan, std::unique_ptr<Device> device,
                                                     EngineThreadOptions options);
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;
  // Cancels what runs, which takes at most one step, and joins.
  ~EngineThread();

  const Plan& plan() const;
  DeviceInfo device() const;
  uint32_t most_tokens() const;  // Scheduler::most_tokens

  // A request that is refused leaves no trace. One that is accepted ends with a DoneEvent in its stream, whatever
  // happens. The stream may be dropped at any time; the request runs on until it is cancelled.
  Submission submit(Request request);
  // The request (or one of its sequences) ends with FinishReason::kCancelled before the next step begins; events that
  // are on their way still arrive. Unknown and finished ones are ignored.
  void cancel(RequestId id, std::optional<uint32_t> index = std::nullopt);
  // From now on requests are refused; those accepted run on.
  void drain();
  // True when no accepted request is left (their streams may still hold events).
  bool idle() const;
  // Waits until idle() or until `limit` has passed; returns idle().
  bool wait_idle(Seconds limit) const;

  EngineStats stats() const;

 private:
  struct State;
  explicit EngineThread(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ll
