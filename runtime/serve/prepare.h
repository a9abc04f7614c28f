// From a request's body to what the scheduler is asked: parsing, checks, chat template, tokens. The only work on
// requests that takes long; runs on worker threads and touches nothing but the model.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/engine/request.h"
#include "runtime/serve/api_error.h"
#include "runtime/serve/reply_parser.h"
#include "runtime/serve/served_model.h"

namespace ll::serve {

// A checked request of /v1/chat/completions or /v1/completions.
struct Prepared {
  bool chat = false;
  bool stream = false, include_usage = false, continuous_usage = false;
  bool echo = false, include_stop = false, skip_special = true, timings = false, token_ids = false;
  bool no_answer = false;  // max_tokens 0: the prompt alone is scored
  bool logprobs = false;
  uint32_t top_logprobs = 0;
  std::vector<std::string> stops;
  double timeout = 0;  // seconds; 0: the server's
  // One request of the engine for each prompt; choices count on from prompt to prompt.
  std::vector<Request> requests;

  // Chat.
  ReplyOptions reply;
  std::string reply_opening;  // what the prompt has begun of the answer and the parser has to see
  bool reasoning_in_content = false;
  bool one_call = false;  // parallel_tool_calls false
};

Checked<Prepared> prepare_chat(const ServedModel& model, std::string_view body);
Checked<Prepared> prepare_completion(const ServedModel& model, std::string_view body);

// Answers of the endpoints that need no engine, as JSON.
Checked<std::string> tokenize(const ServedModel& model, std::string_view body);
Checked<std::string> detokenize(const ServedModel& model, std::string_view body);
Checked<std::string> apply_template(const ServedModel& model, std::string_view body);

}  // namespace ll::serve
