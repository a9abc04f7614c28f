// llrt run --chat: a conversation in a terminal, or one answer for a pipe.
#pragma once

#include <llrt.hpp>
#include <optional>
#include <string>

#include "runtime/base/result.h"

namespace ll {

struct ChatOptions {
  llrt::SampleParams sample;
  int32_t count = -1;                 // tokens of an answer at most; -1: what the context holds
  std::optional<std::string> prompt;  // one message, one answer; else a conversation, or all of a pipe as the message
  std::string system;                 // empty: none
  std::string history;                // file; empty: none
};

// Text goes to stdout, everything else to stderr.
Status run_chat(const llrt::Model& model, const ChatOptions& options);

}  // namespace ll
