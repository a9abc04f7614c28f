// What is asked of the scheduler, and what it answers.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/sampling/sampling.h"

namespace ll {

// Durations, and times of a monotonic clock of any origin.
using Seconds = std::chrono::duration<double>;

using RequestId = uint64_t;  // never 0, never used again

inline constexpr uint32_t kMostSequences = 128;   // Request::sequences
inline constexpr uint32_t kMostStopTokens = 128;  // Request::stop_tokens
inline constexpr int32_t kMostPriority = 100;     // of either sign

struct Request {
  std::vector<int32_t> prompt;       // at least one token, shorter than Scheduler::most_tokens()
  uint32_t sequences = 1;            // answers to the one prompt, 1 .. kMostSequences; they share its pages
  uint32_t max_tokens = 16;          // of each answer, at least 1; what the context leaves room for if that is less
  uint32_t min_tokens = 0;           // before these, end and stop tokens are not chosen
  bool ignore_eos = false;           // the model's end tokens are tokens like any other
  std::vector<int32_t> stop_tokens;  // end an answer as the model's end tokens do; ignore_eos does not touch them
  int32_t priority = 0;              // lower is served earlier: one level is worth SchedulerOptions::priority_step of
                                     // waiting, so that nothing waits for ever
  SampleParams sampling;             // a seed is always given: whoever wants chance draws one
  bool logprobs = false;             // TokenEvent::logprob
  uint32_t top_logprobs = 0;         // TokenEvent::top, at most kMostTopLogprobs; needs logprobs
  bool prompt_logprobs = false;      // PromptEvents for the tokens after the first; the whole prompt is computed then
  uint64_t cache_salt = 0;           // prompts share cached pages only with prompts of the same salt
  bool cache_prompt = true;          // look for cached pages of the prompt (they are kept for others in any case)
};

enum class FinishReason : uint8_t {
  kStop,       // an end or stop token
  kLength,     // max_tokens, or the context is full
  kCancelled,  // cancel()
  kError,      // FinishedEvent::error says what
};
const char* finish_reason_name(FinishReason reason);  // "stop", "length", "cancelled", "error"

// `index` of the events: which of Request::sequences.

// A token of an answer. The n-th TokenEvent of an index is the answer's n-th token.
struct TokenEvent {
  uint32_t index = 0;
  int32_t token = 0;
  bool ends = false;  // an end or stop token: counted in the answer, not part of its text
  float logprob = 0;  // when asked for
  std::vector<TokenLogprob> top;
};

// Logprob of a token of the prompt given those before it; positions 1 .. prompt - 1, in order, once for the request,
// before the first TokenEvent.
struct PromptEvent {
  uint32_t position = 0;
  int32_t token = 0;
  float logprob = 0;
  std::vector<TokenLogprob> top;
};

// The last event of an index.
struct FinishedEvent {
  uint32_t index = 0;
  FinishReason reason = FinishReason::kStop;
  int32_t stop_token = -1;  // of kStop
  Error error;              // of kError: kBadData (logits that are not numbers), kRetry (the device is lost), kInternal
};

// The last event of a request, after the FinishedEvents of all its sequences.
struct DoneEvent {
  uint32_t prompt_tokens = 0;
  uint32_t cached_tokens = 0;      // of the prompt, that were not computed for the request's first sequence
  uint32_t completion_tokens = 0;  // of all sequences
  uint32_t preemptions = 0;
  Seconds queued{0};   // from submission to the first step
  Seconds prefill{0};  // from there to the first token
  Seconds decode{0};   // from there to the end
};

using Event = std::variant<TokenEvent, PromptEvent, FinishedEvent, DoneEvent>;

}  // namespace ll
