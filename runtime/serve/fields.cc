#include "runtime/serve/fields.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/text/utf8.h"

namespace ll::serve {
namespace {

using T = FieldType;
using U = FieldUse;
constexpr double kInt32Max = 2147483647;

constexpr Field kFields[] = {
    {.name = "model",
     .type = T::kString,
     .endpoints = kGenerate | kTokenize | kDetokenize | kTemplate,
     .max = 256,
     .doc = "any name: one model is served, and answers say its name"},
    {.name = "messages",
     .type = T::kList,
     .endpoints = kChat | kTemplate,
     .min = 1,
     .max = kMostMessages,
     .required = true,
     .doc = "the conversation: objects with `role` (system, developer, user, assistant, tool) and `content`, text or a "
            "list of text parts"},
    {.name = "prompt",
     .type = T::kPrompt,
     .endpoints = kCompletion,
     .max = kMostPrompts,
     .required = true,
     .doc = "text or token ids to continue; a list of several is answered with choices for each"},
    {.name = "suffix",
     .type = T::kString,
     .endpoints = kCompletion,
     .use = U::kRefused,
     .doc = "text that comes after the answer: filling in the middle is not supported"},
    {.name = "stream",
     .type = T::kBool,
     .endpoints = kGenerate,
     .default_json = "false",
     .doc = "answer in parts, as server-sent events"},
    {.name = "stream_options", .type = T::kObject, .endpoints = kGenerate, .max = 16, .doc = "with `stream`"},
    {.name = "stream_options.include_usage",
     .type = T::kBool,
     .endpoints = kGenerate,
     .default_json = "false",
     .doc = "one more event with `usage` at the end"},
    {.name = "stream_options.continuous_usage_stats",
     .type = T::kBool,
     .endpoints = kGenerate,
     .default_json = "false",
     .doc = "`usage` so far in every event"},
    {.name = "max_tokens",
     .type = T::kInteger,
     .endpoints = kCompletion,
     .max = kInt32Max,
     .default_json = "16",
     .doc = "tokens of an answer at most"},
    {.name = "max_tokens",
     .type = T::kInteger,
     .endpoints = kChat,
     .min = 1,
     .max = kInt32Max,
     .doc = "tokens of an answer at most; default: what the context has room for"},
    {.name = "max_completion_tokens",
     .type = T::kInteger,
     .endpoints = kChat,
     .min = 1,
     .max = kInt32Max,
     .doc = "the newer name of max_tokens; wins over it"},
    {.name = "min_tokens",
     .type = T::kInteger,
     .endpoints = kGenerate,
     .max = kInt32Max,
     .default_json = "0",
     .doc = "end tokens are not chosen before so many tokens"},
    {.name = "n",
     .type = T::kInteger,
     .endpoints = kGenerate,
     .min = 1,
     .max = 8,
     .default_json = "1",
     .doc = "answers to the one prompt"},
    {.name = "best_of",
     .type = T::kInteger,
     .endpoints = kCompletion,
     .min = 1,
     .max = 8,
     .doc = "has to equal n: answers are not ranked"},
    {.name = "seed",
     .type = T::kInteger,
     .endpoints = kGenerate,
     .min = -9223372036854775808.0,
     .max = 18446744073709551615.0,
     .doc = "64 bits; the same seed and request draw the same answer; default: a new one for each request"},
    {.name = "temperature",
     .type = T::kNumber,
     .endpoints = kGenerate,
     .max = 2,
     .default_json = "1",
     .doc = "0: always the most likely token"},
    {.name = "top_p",
     .type = T::kNumber,
     .endpoints = kGenerate,
     .max = 1,
     .default_json = "1",
     .doc = "draw from the fewest tokens whose probabilities reach it"},
    {.name = "top_k",
     .type = T::kInteger,
     .endpoints = kGenerate,
     .min = -1,
     .max = kInt32Max,
     .default_json = "0",
     .doc = "draw from the k most likely tokens; 0 or -1: from all"},
    {.name = "min_p",
     .type = T::kNumber,
     .endpoints = kGenerate,
     .max = 1,
     .default_json = "0",
     .doc = "draw from tokens at least so many times as likely as the best"},
    {.name = "typical_p",
     .type = T::kNumber,
     .endpoints = kGenerate,
     .max = 1,
     .default_json = "1",
     .doc = "locally typical sampling; 1: off"},
    {.name = "repetition_penalty",
     .type = T::kNumber,
     .endpoints = kGenerate,
     .min = 0.01,
     .max = 100,
     .default_json = "1",
     .doc = "divides the logits of earlier tokens; 1: off"},
    {.name = "repeat_penalty",
     .type = T::kNumber,
     .endpoints = kGenerate,
     .min = 0.01,
     .max = 100,
     .doc = "another name of repetition_penalty"},
    {.name = "repeat_last_n",
     .type = T::kInteger,
     .endpoints = kGenerate,
     .min = -1,
     .max = kInt32Max,
     .default_json = "-1",
     .doc = "tokens that penalties look back at; -1: all"},
    {.name = "presence_penalty",
     .type = T::kNumber,
     .endpoints = kGenerate,
     .min = -2,
     .max = 2,
     .default_json = "0",
     .doc = "lowers the logits of earlier tokens"},
    {.name = "frequency_penalty",
     .type = T::kNumber,
     .endpoints = kGenerate,
     .min = -2,
     .max = 2,
     .default_json = "0",
     .doc = "lowers them for each time they came"},
    {.name = "dry_multiplier",
     .type = T::kNumber,
     .endpoints = kGenerate,
     .max = 100,
     .default_json = "0",
     .doc = "DRY: penalty on tokens that continue a repetition; 0: off"},
    {.name = "dry_base",
     .type = T::kNumber,
     .endpoints = kGenerate,
     .min = 1,
     .max = 8,
     .default_json = "1.75",
     .doc = "DRY: growth with the repetition's length"},
    {.name = "dry_allowed_length",
     .type = T::kInteger,
     .endpoints = kGenerate,
     .min = 1,
     .max = kInt32Max,
     .default_json = "2",
     .doc = "DRY: shorter repetitions are free"},
    {.name = "dry_penalty_last_n",
     .type = T::kInteger,
     .endpoints = kGenerate,
     .min = -1,
     .max = kInt32Max,
     .default_json = "-1",
     .doc = "DRY: tokens looked back at; -1: all"},
    {.name = "dry_sequence_breakers",
     .type = T::kStrings,
     .endpoints = kGenerate,
     .max = kMostStops,
     .default_json = R"(["\n", ":", "\"", "*"])",
     .doc = "DRY: texts that repetitions do not reach across"},
    {.name = "xtc_probability",
     .type = T::kNumber,
     .endpoints = kGenerate,
     .max = 1,
     .default_json = "0",
     .doc = "XTC: how often the most likely tokens are left out; 0: off"},
    {.name = "xtc_threshold",
     .type = T::kNumber,
     .endpoints = kGenerate,
     .max = 1,
     .default_json = "0.1",
     .doc = "XTC: from which probability on"},
    {.name = "mirostat",
     .type = T::kInteger,
     .endpoints = kGenerate,
     .max = 2,
     .default_json = "0",
     .doc = "0: off; 1 or 2: its version, instead of top_k to xtc"},
    {.name = "mirostat_tau",
     .type = T::kNumber,
     .endpoints = kGenerate,
     .max = 100,
     .default_json = "5",
     .doc = "bits of surprise aimed at"},
    {.name = "mirostat_eta",
     .type = T::kNumber,
     .endpoints = kGenerate,
     .max = 1,
     .default_json = "0.1",
     .doc = "learning rate"},
    {.name = "logit_bias",
     .type = T::kTokenBiases,
     .endpoints = kGenerate,
     .min = -100,
     .max = 100,
     .doc = "from token ids to what is added to their logits; -100 bans; at most 1024 entries"},
    {.name = "logprobs",
     .type = T::kInteger,
     .endpoints = kCompletion,
     .max = 20,
     .doc = "log-probabilities of the answer's tokens and of so many of the most likely ones"},
    {.name = "logprobs",
     .type = T::kBool,
     .endpoints = kChat,
     .default_json = "false",
     .doc = "log-probabilities of the answer's tokens"},
    {.name = "top_logprobs",
     .type = T::kInteger,
     .endpoints = kChat,
     .max = 20,
     .default_json = "0",
     .doc = "with `logprobs`: and of so many of the most likely ones"},
    {.name = "echo",
     .type = T::kBool,
     .endpoints = kCompletion,
     .default_json = "false",
     .doc = "the answer begins with the prompt; with `logprobs`, those of the prompt too"},
    {.name = "stop",
     .type = T::kStrings,
     .endpoints = kGenerate,
     .max = kMostStops,
     .doc = "the answer ends before any of these texts, of at most 256 bytes each"},
    {.name = "stop_token_ids",
     .type = T::kIntegers,
     .endpoints = kGenerate,
     .max = kInt32Max,
     .doc = "tokens that end the answer; at most 64"},
    {.name = "include_stop_str_in_output",
     .type = T::kBool,
     .endpoints = kGenerate,
     .default_json = "false",
     .doc = "the text that ended the answer is part of it"},
    {.name = "ignore_eos",
     .type = T::kBool,
     .endpoints = kGenerate,
     .default_json = "false",
     .doc = "go on after the model's end tokens"},
    {.name = "skip_special_tokens",
     .type = T::kBool,
     .endpoints = kGenerate,
     .default_json = "true",
     .doc = "special tokens leave no text"},
    {.name = "priority",
     .type = T::kInteger,
     .endpoints = kGenerate,
     .min = -100,
     .max = 100,
     .default_json = "0",
     .doc = "lower is served earlier"},
    {.name = "cache_prompt",
     .type = T::kBool,
     .endpoints = kGenerate,
     .default_json = "true",
     .doc = "use what earlier requests computed of the same beginning"},
    {.name = "cache_salt",
     .type = T::kString,
     .endpoints = kGenerate,
     .max = 256,
     .doc = "prompts share cached beginnings only with prompts of the same salt"},
    {.name = "timeout",
     .type = T::kNumber,
     .endpoints = kGenerate,
     .min = 0.001,
     .max = 86400,
     .doc = "seconds until the request is given up, if that is sooner than the server's limit"},
    {.name = "timings_per_token",
     .type = T::kBool,
     .endpoints = kGenerate,
     .default_json = "false",
     .doc = "`timings` in every event"},
    {.name = "return_token_ids",
     .type = T::kBool,
     .endpoints = kGenerate,
     .default_json = "false",
     .doc = "`token_ids` with each choice"},
    {.name = "add_special_tokens",
     .type = T::kBool,
     .endpoints = kCompletion | kTokenize,
     .default_json = "true",
     .doc = "put what the model wants around a text, such as BOS"},
    {.name = "parse_special",
     .type = T::kBool,
     .endpoints = kCompletion | kTokenize,
     .default_json = "true",
     .doc = "text that spells a special token becomes it"},
    {.name = "tools",
     .type = T::kList,
     .endpoints = kChat | kTemplate,
     .max = kMostTools,
     .doc = "functions the model may call: {\"type\": \"function\", \"function\": {\"name\", \"description\", "
            "\"parameters\"}}"},
    {.name = "tool_choice",
     .type = T::kAny,
     .endpoints = kChat,
     .default_json = "\"auto\"",
     .doc = "\"none\", \"auto\", \"required\" or {\"type\": \"function\", \"function\": {\"name\"}}; the last two "
            "begin the call for the model"},
    {.name = "parallel_tool_calls",
     .type = T::kBool,
     .endpoints = kChat,
     .default_json = "true",
     .doc = "false: the answer ends with its first call"},
    {.name = "response_format",
     .type = T::kObject,
     .endpoints = kGenerate,
     .max = 16,
     .doc = "{\"type\": \"text\"}; the JSON formats are not supported"},
    {.name = "response_format.type",
     .type = T::kChoice,
     .endpoints = kGenerate,
     .choices = "text|json_object|json_schema|structural_tag",
     .doc = "text"},
    {.name = "chat_template_kwargs",
     .type = T::kObject,
     .endpoints = kChat | kTemplate,
     .max = 64,
     .doc = "more variables for the chat template, such as enable_thinking"},
    {.name = "add_generation_prompt",
     .type = T::kBool,
     .endpoints = kChat | kTemplate,
     .default_json = "true",
     .doc = "end the prompt where the assistant's answer begins"},
    {.name = "continue_final_message",
     .type = T::kBool,
     .endpoints = kChat | kTemplate,
     .default_json = "false",
     .doc = "continue the last message instead of beginning an answer"},
    {.name = "reasoning_format",
     .type = T::kChoice,
     .endpoints = kChat,
     .default_json = "\"auto\"",
     .choices = "auto|none|deepseek|deepseek-legacy",
     .doc = "none: thoughts stay in `content`; else they go to `reasoning_content` (deepseek-legacy: to both)"},
    {.name = "reasoning_effort",
     .type = T::kString,
     .endpoints = kChat,
     .max = 32,
     .doc = "handed to the chat template"},
    {.name = "chat_template",
     .type = T::kString,
     .endpoints = kChat | kTemplate,
     .use = U::kRefused,
     .doc = "a request cannot bring a template: the plan's is used"},
    {.name = "functions", .type = T::kAny, .endpoints = kChat, .use = U::kRefused, .doc = "use tools"},
    {.name = "function_call", .type = T::kAny, .endpoints = kChat, .use = U::kRefused, .doc = "use tool_choice"},
    {.name = "grammar",
     .type = T::kAny,
     .endpoints = kGenerate,
     .use = U::kRefused,
     .doc = "constrained decoding is not supported"},
    {.name = "json_schema",
     .type = T::kAny,
     .endpoints = kGenerate,
     .use = U::kRefused,
     .doc = "constrained decoding is not supported"},
    {.name = "guided_json",
     .type = T::kAny,
     .endpoints = kGenerate,
     .use = U::kRefused,
     .doc = "constrained decoding is not supported"},
    {.name = "guided_regex",
     .type = T::kAny,
     .endpoints = kGenerate,
     .use = U::kRefused,
     .doc = "constrained decoding is not supported"},
    {.name = "guided_choice",
     .type = T::kAny,
     .endpoints = kGenerate,
     .use = U::kRefused,
     .doc = "constrained decoding is not supported"},
    {.name = "guided_grammar",
     .type = T::kAny,
     .endpoints = kGenerate,
     .use = U::kRefused,
     .doc = "constrained decoding is not supported"},
    {.name = "structured_outputs",
     .type = T::kAny,
     .endpoints = kGenerate,
     .use = U::kRefused,
     .doc = "constrained decoding is not supported"},
    {.name = "lora", .type = T::kAny, .endpoints = kGenerate, .use = U::kRefused, .doc = "adapters are not supported"},
    {.name = "id_slot",
     .type = T::kInteger,
     .endpoints = kGenerate,
     .min = -1,
     .max = kInt32Max,
     .use = U::kIgnored,
     .doc = "there are no slots"},
    {.name = "user",
     .type = T::kString,
     .endpoints = kGenerate,
     .max = 512,
     .use = U::kIgnored,
     .doc = "not looked at"},
    {.name = "content", .type = T::kString, .endpoints = kTokenize, .max = 16 << 20, .doc = "the text"},
    {.name = "prompt", .type = T::kString, .endpoints = kTokenize, .max = 16 << 20, .doc = "another name of content"},
    {.name = "with_pieces",
     .type = T::kBool,
     .endpoints = kTokenize,
     .default_json = "false",
     .doc = "tokens as objects with `id` and `piece`"},
    {.name = "add_special",
     .type = T::kBool,
     .endpoints = kTokenize,
     .default_json = "false",
     .doc = "another name of add_special_tokens; the default with `content`"},
    {.name = "tokens",
     .type = T::kIntegers,
     .endpoints = kDetokenize,
     .max = kInt32Max,
     .required = true,
     .doc = "token ids"},
    {.name = "show_special",
     .type = T::kBool,
     .endpoints = kDetokenize,
     .default_json = "true",
     .doc = "spell special tokens out"},
};

// The default of a field of this endpoint, as JSON; empty: none.
std::string_view default_of(std::string_view name, Endpoints endpoint) {
  for (const Field& f : kFields) {
    if (name == f.name && (f.endpoints & endpoint) != 0) return f.default_json;
  }
  return {};
}

// The value that a dotted name points at; null when absent or null.
const Json* lookup(const Json& body, std::string_view name) {
  const Json* at = &body;
  while (true) {
    const size_t dot = name.find('.');
    if (!at->is_object()) return nullptr;
    const auto found = at->find(std::string(name.substr(0, dot)));
    if (found == at->end() || found->is_null()) return nullptr;
    at = &*found;
    if (dot == std::string_view::npos) return at;
    name.remove_prefix(dot + 1);
  }
}

ApiError wrong_type(const std::string& name, const char* expected, const Json& value) {
  return invalid(name, "Invalid type for '{}': expected {}, but got {} instead.", name, expected,
                 json_type_name(value));
}

std::string show(double value) {
  return std::abs(value) < 1e15 && value == std::floor(value) ? fmt::format("{}", static_cast<int64_t>(value))
                                                              : fmt::format("{}", value);
}

std::optional<ApiError> check_range(const std::string& name, const char* kind, double value, const Field& f) {
  // Written so that NaN fails.
  if (!(value >= f.min)) {
    return invalid(name, "Invalid '{}': {} below minimum value. Expected a value >= {}, but got {} instead.", name,
                   kind, show(f.min), show(value));
  }
  if (!(value <= f.max)) {
    return invalid(name, "Invalid '{}': {} above maximum value. Expected a value <= {}, but got {} instead.", name,
                   kind, show(f.max), show(value));
  }
  return std::nullopt;
}

std::optional<ApiError> check_integer(const std::string& name, const Json& value, const Field& f) {
  if (!value.is_number_integer()) return wrong_type(name, "an integer", value);
  return check_range(name, "integer", value.get<double>(), f);
}

std::optional<ApiError> check_count(const std::string& name, size_t count, const Field& f) {
  if (static_cast<double>(count) < f.min) {
    return invalid(name, "Invalid '{}': array too short. Expected at least {} entries, but got {} instead.", name,
                   show(f.min), count);
  }
  if (static_cast<double>(count) > f.max) {
    return invalid(name, "Invalid '{}': array too long. Expected at most {} entries, but got {} instead.", name,
                   show(f.max), count);
  }
  return std::nullopt;
}

std::optional<ApiError> check_strings(const std::string& name, const Json& value, const Field& f) {
  const auto one = [&](const std::string& where, const Json& v) -> std::optional<ApiError> {
    if (!v.is_string()) return wrong_type(where, "a string", v);
    const size_t bytes = v.get_ref<const std::string&>().size();
    if (bytes <= kMostStopBytes) return std::nullopt;
    return invalid(where, "Invalid '{}': string too long. Expected at most {} bytes, but got {} instead.", where,
                   kMostStopBytes, bytes);
  };
  if (value.is_string()) return one(name, value);
  if (!value.is_array()) return wrong_type(name, "a string or an array of strings", value);
  if (auto failed = check_count(name, value.size(), f)) return failed;
  for (size_t i = 0; i < value.size(); ++i) {
    if (auto failed = one(fmt::format("{}[{}]", name, i), value[i])) return failed;
  }
  return std::nullopt;
}

std::optional<ApiError> check_integers(const std::string& name, const Json& value, const Field& f) {
  if (!value.is_array()) return wrong_type(name, "an array of integers", value);
  for (size_t i = 0; i < value.size(); ++i) {
    if (auto failed = check_integer(fmt::format("{}[{}]", name, i), value[i], f)) return failed;
  }
  return std::nullopt;
}

std::optional<ApiError> check_prompt(const std::string& name, const Json& value, const Field& f) {
  constexpr Field kIds = {.name = "", .type = T::kIntegers, .endpoints = 0, .max = kInt32Max};
  if (value.is_string()) return std::nullopt;
  if (!value.is_array()) return wrong_type(name, "a string or an array", value);
  if (value.empty()) return invalid(name, "Invalid '{}': empty array. Expected at least one entry.", name);
  if (value[0].is_number()) return check_integers(name, value, kIds);
  if (auto failed = check_count(name, value.size(), f)) return failed;
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string where = fmt::format("{}[{}]", name, i);
    if (value[i].is_string() && value[0].is_string()) continue;
    if (!value[i].is_array() || !value[0].is_array()) {
      return wrong_type(where, value[0].is_array() ? "an array of token ids" : "a string", value[i]);
    }
    if (auto failed = check_integers(where, value[i], kIds)) return failed;
  }
  return std::nullopt;
}

std::optional<ApiError> check_biases(const std::string& name, const Json& value, const Field& f) {
  if (!value.is_object()) return wrong_type(name, "an object from token ids to numbers", value);
  if (value.size() > 1024) {
    return invalid(name, "Invalid '{}': too many entries. Expected at most 1024, but got {} instead.", name,
                   value.size());
  }
  for (const auto& [key, bias] : value.items()) {
    const bool digits = !key.empty() && key.size() <= 9 && key.find_first_not_of("0123456789") == std::string::npos;
    if (!digits) return invalid(name, "Invalid '{}': a key is not a token id.", name);
    const std::string where = fmt::format("{}.{}", name, key);
    if (!bias.is_number()) return wrong_type(where, "a number", bias);
    if (auto failed = check_range(where, "decimal", bias.get<double>(), f)) return failed;
  }
  return std::nullopt;
}

std::optional<ApiError> check_choice(const std::string& name, const Json& value, const Field& f) {
  if (!value.is_string()) return wrong_type(name, "a string", value);
  std::string listed;
  for (std::string_view rest = f.choices;;) {
    const size_t bar = rest.find('|');
    if (value.get_ref<const std::string&>() == rest.substr(0, bar)) return std::nullopt;
    listed += fmt::format("{}'{}'", listed.empty() ? "" : ", ", rest.substr(0, bar));
    if (bar == std::string_view::npos) break;
    rest.remove_prefix(bar + 1);
  }
  return invalid(name, "Invalid value for '{}'. Supported values are: {}.", name, listed);
}

std::optional<ApiError> check_field(const Field& f, const Json& value) {
  const std::string name = f.name;
  switch (f.type) {
    case T::kBool:
      if (!value.is_boolean()) return wrong_type(name, "a boolean", value);
      return std::nullopt;
    case T::kInteger:
      return check_integer(name, value, f);
    case T::kNumber:
      if (!value.is_number()) return wrong_type(name, "a number", value);
      return check_range(name, "decimal", value.get<double>(), f);
    case T::kString: {
      if (!value.is_string()) return wrong_type(name, "a string", value);
      const size_t bytes = value.get_ref<const std::string&>().size();
      if (static_cast<double>(bytes) <= f.max) return std::nullopt;
      return invalid(name, "Invalid '{}': string too long. Expected at most {} bytes, but got {} instead.", name,
                     show(f.max), bytes);
    }
    case T::kStrings:
      return check_strings(name, value, f);
    case T::kIntegers:
      return check_integers(name, value, f);
    case T::kPrompt:
      return check_prompt(name, value, f);
    case T::kObject:
      if (!value.is_object()) return wrong_type(name, "an object", value);
      if (static_cast<double>(value.size()) > f.max) {
        return invalid(name, "Invalid '{}': too many members. Expected at most {}, but got {} instead.", name,
                       show(f.max), value.size());
      }
      return std::nullopt;
    case T::kList:
      if (!value.is_array()) return wrong_type(name, "an array of objects", value);
      if (auto failed = check_count(name, value.size(), f)) return failed;
      for (size_t i = 0; i < value.size(); ++i) {
        if (!value[i].is_object()) return wrong_type(fmt::format("{}[{}]", name, i), "an object", value[i]);
      }
      return std::nullopt;
    case T::kChoice:
      return check_choice(name, value, f);
    case T::kTokenBiases:
      return check_biases(name, value, f);
    case T::kAny:
      return std::nullopt;
  }
  return std::nullopt;
}

// What a parser would do with hostile text before it sees that it is too much: nesting, number of values, and objects
// with so many keys that looking each up takes quadratic time.
std::optional<ApiError> check_shape(std::string_view body) {
  constexpr uint64_t kMostKeyWork = 1 << 24;
  struct Open {
    bool object;
    uint64_t entries;
  };
  std::vector<Open> open;
  uint64_t values = 1, work = 0;
  bool in_string = false;
  for (size_t i = 0; i < body.size(); ++i) {
    const char c = body[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    switch (c) {
      case '"':
        in_string = true;
        break;
      case '{':
      case '[':
        if (open.size() >= kMostJsonDepth) {
          return invalid("", "The request's JSON is nested more than {} levels deep.", kMostJsonDepth);
        }
        open.push_back({c == '{', 0});
        ++values;
        break;
      case '}':
      case ']':
        if (!open.empty()) open.pop_back();
        break;
      case ',':
        ++values;
        if (!open.empty() && open.back().object) work += ++open.back().entries;
        break;
      default:
        break;
    }
    if (values > kMostJsonValues || work > kMostKeyWork) {
      return invalid("", "The request's JSON has too many values or keys.");
    }
  }
  return std::nullopt;
}

}  // namespace

std::span<const Field> fields() { return kFields; }

const char* json_type_name(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return "a boolean";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::number_float:
      return "a decimal number";
    default:
      return "an integer";
  }
}

Checked<Json> parse_body(std::string_view body) {
  if (!is_utf8(body)) return invalid("", "The request's body is not UTF-8.");
  if (auto failed = check_shape(body)) return *std::move(failed);
  Json json = Json::parse(body, nullptr, false);
  if (json.is_discarded()) return invalid("", "The request's body is not JSON.");
  if (!json.is_object()) return invalid("", "The request's body is not a JSON object, but {}.", json_type_name(json));
  return json;
}

Checked<Fields> Fields::check(const Json& body, Endpoints endpoint) {
  for (const Field& f : kFields) {
    if ((f.endpoints & endpoint) == 0) continue;
    const Json* value = lookup(body, f.name);
    if (value == nullptr) {
      if (f.required) return invalid(f.name, "Missing required parameter: '{}'.", f.name);
      continue;
    }
    if (f.use == U::kRefused) return not_supported(f.name, "'{}' is not supported: {}.", f.name, f.doc);
    if (auto failed = check_field(f, *value)) return *std::move(failed);
  }
  Fields checked(body);
  checked.endpoint_ = endpoint;
  return checked;
}

const Json* Fields::find(std::string_view name) const { return lookup(*body_, name); }

bool Fields::boolean(std::string_view name) const {
  if (const Json* value = find(name)) return value->get<bool>();
  return default_of(name, endpoint_) == "true";
}

int64_t Fields::integer(std::string_view name) const {
  if (const Json* value = find(name)) {
    if (value->is_number_unsigned()) return static_cast<int64_t>(value->get<uint64_t>());
    return value->get<int64_t>();
  }
  const std::string_view fallback = default_of(name, endpoint_);
  return fallback.empty() ? 0 : std::stoll(std::string(fallback));
}

double Fields::number(std::string_view name) const {
  if (const Json* value = find(name)) return value->get<double>();
  const std::string_view fallback = default_of(name, endpoint_);
  return fallback.empty() ? 0 : std::stod(std::string(fallback));
}

std::string Fields::text(std::string_view name) const {
  if (const Json* value = find(name)) return value->get<std::string>();
  const std::string_view fallback = default_of(name, endpoint_);
  return fallback.size() < 2 ? std::string() : std::string(fallback.substr(1, fallback.size() - 2));
}

}  // namespace ll::serve
