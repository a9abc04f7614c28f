// Continuous batching: decides, step by step, which sequences run, how much of their prompts, and who gives way when
// KV pages run out. Design: docs/decisions/0005-scheduling.md.
#pragma once

#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/device/device.h"
#include "runtime/engine/event_stream.h"
#include "runtime/engine/request.h"

namespace ll {

struct SchedulerOptions {
  // KV pages in use, at most the plan's; 0: all of them.
  uint32_t kv_pages = 0;
  // Tokens of a step at most; 0: what the plan's largest program holds.
  uint32_t max_step_tokens = 0;
  // While others decode, prompts are cut into chunks such that a step takes at most so many times as long as without
  // them, as measured steps predict, or holds as many prompt tokens as have been wanted lately, if those are more. 0:
  // as much as a step holds.
  double prefill_stretch = 1.6;
  // Waiting time that one level of priority outweighs.
  Seconds priority_step{10};
  // Keep full pages of finished and preempted sequences until their room is needed, and find them by content.
  bool prefix_cache = true;
  // Pages that may be in use or cached before cached ones are given away (KvPages::Options::resident). 0: all, or half
  // where a page takes memory when first used (DeviceInfo::kv_on_demand).
  uint32_t resident_pages = 0;
};

// Counts since the start, and what is now. A copy; reading it costs nothing to the engine.
struct SchedulerStats {
  // Now.
  uint32_t running = 0;           // sequences that hold a place in the batch
  uint32_t waiting = 0;           // sequences that do not, preempted ones too
  uint32_t not_begun = 0;         // of those waiting, the ones that never ran
  uint64_t not_begun_tokens = 0;  // of their prompts
  uint32_t pages = 0;             // all
  uint32_t page_size = 0;         // tokens of each
  uint32_t pages_used = 0;        // with an owner
  uint32_t pages_cached = 0;      // without one, but with a prefix worth keeping; given away when needed
  // Since the start.
  uint64_t steps = 0;
  uint64_t step_tokens = 0;    // of all steps: prompt tokens computed and tokens decoded
  uint64_t begun = 0;          // sequences
  uint64_t prompt_tokens = 0;  // of requests that began
  uint64_t generated_tokens = 0;
  uint64_t prefix_queries = 0;  // prompt tokens looked up in the cache
  uint64_t prefix_hits = 0;     // of those, found
  uint64_t preemptions = 0;
  uint64_t evictions = 0;    // cached pages given away
  uint64_t page_copies = 0;  // copy on write
  uint64_t failed_steps = 0;
  uint64_t finished[4] = {};  // sequences, by FinishReason
  double step_seconds = 0;    // inside the device
  double host_seconds = 0;    // of ticks that ran a step, outside the device
  // Steps that took at most kStepBounds[i]; the last entry counts the longer ones.
  static constexpr double kStepBounds[] = {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5};
  uint64_t step_histogram[std::size(kStepBounds) + 1] = {};
  // The same for tokens of a step.
  static constexpr uint32_t kTokenBounds[] = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
  uint64_t token_histogram[std::size(kTokenBounds) + 1] = {};
  bool failed = false;  // the device is lost; nothing runs any more
  std::string failure;  // why
};

// The unit of scheduling is a sequence. All sequences of all requests are ordered by submission time + priority *
// priority_step; of equals, the earlier submitted, the lower index. In each step
//   1. running sequences that decode get one token each, in that order;
//   2. the rest of the step's tokens go to prompts, in that order, a long one in chunks (prefill_stretch);
//   3. waiting sequences join while a place in the batch and pages are there, strictly in that order.
// When a sequence needs a page and none is free or cached, the last running sequence in the order gives all of its
// pages back (those with full content stay cached as long as there is room) and waits; when it runs again its tokens
// are computed again. The first in the order is never preempted, so everything ends. A waiting sequence of a lower
// priority number takes the place of the last running one of a higher number.
//
// What a sequence's tokens are depends on its request alone if the device computes a row in an order of its own, as
// the CPU's kernels do.
//
// Not thread safe; EngineThread runs it on a thread of its own.
class Scheduler {
 public:
  // `clock` is monotonic; a test's moves as its device says. The plan outlives the scheduler. kUsage for options out of
  // range, kBadData: see Engine::create.
  static Result<std::unique_ptr<Scheduler>> create(const Plan& plan, std::unique_ptr<Device> device,
                                                   const SchedulerOptions& options, std::function<Seconds()> clock);
  ~Scheduler();

  const Plan& plan() const;
  DeviceInfo device() const;
  // Prompt and answer of a sequence together: what the context and the pool can hold.
  uint32_t most_tokens() const;

  // Whether submit() would take it. kUsage names what is out of range.
  Status check(const Request& request) const;
  // Takes a request that check() accepts. Its events go to `stream`, whose id is the request's.
  void submit(Request request, std::shared_ptr<EventStream> stream);
  // The next tick ends the request (or one of its sequences) with FinishReason::kCancelled and frees its pages before
  // it does anything else. Unknown and finished ones are ignored.
  void cancel(RequestId id, std::optional<uint32_t> index = std::nullopt);
  void cancel_all();

  // Carries cancellations out and runs at most one step. Returns whether it ran one; if not, nothing will change until
  // submit(), cancel() or a stream's on_room.
  bool tick();
  // True when no request is left.
  bool idle() const;

  const SchedulerStats& stats() const;
  // Requests whose streams have gone from empty to not empty since the last call.
  std::vector<RequestId> take_notices();

 private:
  struct Core;
  explicit Scheduler(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};

}  // namespace ll
