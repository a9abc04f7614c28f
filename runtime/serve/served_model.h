// The text side of a plan, as requests need it: tokenizer, chat template, names and limits. Immutable; any number of
// threads may use it at once.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/plan/plan.h"
#include "runtime/serve/reply_parser.h"
#include "runtime/text/jinja/template.h"
#include "runtime/text/tokenizer.h"

namespace ll::serve {

struct ServedModel {
  std::string name;  // as answers say it
  Tokenizer tokenizer;
  std::optional<jinja::Template> chat_template{};
  std::string template_source{};
  std::optional<ToolFormat> tool_format{};  // none without a template
  bool has_reasoning = false;               // the template knows <think>
  bool has_developer_role = false;
  uint32_t context_length = 0;
  uint32_t most_tokens = 0;  // prompt and answer together: what context and KV pool can hold
  int32_t bos_token = -1;
  std::vector<bool> hidden{};  // ids that leave no text unless asked for

  // kUnsupported: the plan has no tokenizer. kBadData: tokenizer or template are damaged. `alias` replaces the plan's
  // name when not empty.
  static Result<std::shared_ptr<ServedModel>> load(const Plan& plan, std::string_view alias);
};

// The bytes a token stands for, alone.
std::string token_bytes(const Tokenizer& tokenizer, int32_t id);

}  // namespace ll::serve
