// From the engine's events to the text that clients read: OpenAI's chat and text completions, whole or in parts.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/engine/request.h"
#include "runtime/serve/api_error.h"
#include "runtime/serve/prepare.h"
#include "runtime/serve/reply_parser.h"
#include "runtime/serve/served_model.h"
#include "runtime/serve/stop_matcher.h"
#include "runtime/text/detokenizer.h"

namespace ll::serve {

// One request's answer under construction. Knows neither engine nor connection: events come in, text goes out.
class Answer {
 public:
  // `id` is unique ("chatcmpl-..", "cmpl-.."), `created` in seconds of Unix time.
  Answer(std::shared_ptr<const ServedModel> model, Prepared prepared, std::string id, int64_t created);
  ~Answer();

  // What an event leads to besides text.
  struct Effect {
    bool cancel = false;  // the choice has all it needs: end its sequence
    bool done = false;    // every prompt's DoneEvent has come
    std::optional<ApiError> error;
  };
  // An event of prepared().requests[prompt], at most one step's worth at a time. With `stream`, appends server-sent
  // events to `out`.
  Effect event(size_t prompt, const Event& event, std::string& out);
  // Times so far, for `timings` before the DoneEvents bring the engine's own.
  void set_times(Seconds prefill, Seconds decode);
  // With `stream`, after the last event: usage if asked for, and [DONE].
  void finish_stream(std::string& out);
  // Without `stream`, after the last event: the body.
  std::string body() const;

  const Prepared& prepared() const { return prepared_; }
  uint64_t prompt_tokens() const;
  uint64_t completion_tokens() const { return completion_tokens_; }
  uint64_t longest_prompt() const;
  // Of the choice that has most.
  uint64_t longest_answer() const { return longest_answer_; }
  uint64_t cached_tokens() const { return cached_tokens_; }
  // How the first choice ended: "stop", "length", "tool_calls"; "" before.
  const char* finish_reason() const;

 private:
  struct Entry;
  struct Call {
    std::string id, name, arguments;
  };
  struct Choice;
  void token(Choice& choice, const TokenEvent& event, Effect& effect, std::string& out);
  void finished(Choice& choice, const FinishedEvent& event, Effect& effect, std::string& out);
  void take_text(Choice& choice, std::string_view text, std::string& out);
  void take_deltas(Choice& choice, std::vector<Delta>& deltas, std::string& out);
  void end_choice(Choice& choice, const char* reason, std::string& out);
  void chunk(Choice& choice, const Delta* delta, std::string& out);
  void begin_chunk(std::string& out) const;
  void echo(Choice& choice, size_t prompt, std::string& out);
  std::string logprobs(std::vector<Entry>::const_iterator begin, std::vector<Entry>::const_iterator end) const;
  std::string entry_json(const Entry& entry) const;
  std::string usage() const;
  std::string timings() const;
  std::string call_id(const Choice& choice, const Delta& delta) const;

  std::shared_ptr<const ServedModel> model_;
  Prepared prepared_;
  std::string id_, head_;
  int64_t created_;
  std::vector<int32_t> shown_special_;              // markers that the parser has to see, ascending
  std::vector<std::vector<Entry>> prompt_entries_;  // of each prompt
  std::vector<std::unique_ptr<Choice>> choices_;
  size_t done_ = 0;
  uint64_t completion_tokens_ = 0, longest_answer_ = 0, cached_tokens_ = 0, reasoning_tokens_ = 0;
  DoneEvent totals_;  // sums of times
};

}  // namespace ll::serve
