#include "runtime/serve/prepare.h"

#include <sys/random.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/serve/fields.h"
#include "runtime/serve/json_writer.h"
#include "runtime/text/jinja/json_value.h"

// The value of a Checked expression, or its error from the enclosing function.
#define CHECK_ASSIGN(var, expr)                                                                \
  auto LL_CONCAT(checked_, __LINE__) = (expr);                                                 \
  if (!LL_CONCAT(checked_, __LINE__)) return std::move(LL_CONCAT(checked_, __LINE__)).error(); \
  var = *std::move(LL_CONCAT(checked_, __LINE__))

namespace ll::serve {
namespace {

constexpr size_t kMostChoices = 128;

using Problem = std::optional<ApiError>;

// ---- Messages and tools, as templates see them ----

// Text parts joined by newlines. Parts of other types are for models that see or hear.
Checked<std::string> join_parts(const Json& parts, const std::string& where) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string part = fmt::format("{}[{}]", where, i);
    if (!parts[i].is_object()) {
      return invalid(part, "Invalid type for '{}': expected an object, but got {} instead.", part,
                     json_type_name(parts[i]));
    }
    const auto type = parts[i].find("type");
    const auto found = parts[i].find("text");
    if (type == parts[i].end() || !type->is_string()) {
      return invalid(part + ".type", "Missing required parameter: '{}.type'.", part);
    }
    if (*type != "text") return not_supported(part + ".type", "The model takes text alone: only parts of type 'text'.");
    if (found == parts[i].end() || !found->is_string()) {
      return invalid(part + ".text", "Missing required parameter: '{}.text'.", part);
    }
    if (i > 0) text += '\n';
    text += found->get_ref<const std::string&>();
  }
  return text;
}

// Clients send a call's arguments as text; templates print them as the object that the text spells.
Problem read_calls(Json& calls, const std::string& where) {
  if (!calls.is_array()) {
    return invalid(where, "Invalid type for '{}': expected an array, but got {} instead.", where,
                   json_type_name(calls));
  }
  for (size_t i = 0; i < calls.size(); ++i) {
    const std::string call = fmt::format("{}[{}].function", where, i);
    if (!calls[i].is_object() || !calls[i].contains("function") || !calls[i]["function"].is_object()) {
      return invalid(call, "Missing required parameter: '{}'.", call);
    }
    Json& function = calls[i]["function"];
    if (!function.contains("name") || !function["name"].is_string()) {
      return invalid(call + ".name", "Missing required parameter: '{}.name'.", call);
    }
    const auto arguments = function.find("arguments");
    if (arguments == function.end() || !arguments->is_string()) continue;
    const auto parsed = parse_body(arguments->get_ref<const std::string&>());
    if (parsed) *arguments = *parsed;
  }
  return std::nullopt;
}

Problem read_message(const ServedModel& model, Json& message, size_t index) {
  const std::string where = fmt::format("messages[{}]", index);
  const auto role = message.find("role");
  if (role == message.end()) return invalid(where + ".role", "Missing required parameter: '{}.role'.", where);
  constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool"};
  if (!role->is_string() ||
      std::find(std::begin(kRoles), std::end(kRoles), role->get_ref<const std::string&>()) == std::end(kRoles)) {
    return invalid(where + ".role",
                   "Invalid value for '{}.role'. Supported values are: 'system', 'developer', 'user', 'assistant', "
                   "'tool'.",
                   where);
  }
  // Templates that do not know the newer name know the older one.
  if (*role == "developer" && !model.has_developer_role) *role = "system";
  const bool assistant = *role == "assistant";
  const auto content = message.find("content");
  if (content == message.end() || content->is_null()) {
    if (!assistant) return invalid(where + ".content", "Missing required parameter: '{}.content'.", where);
  } else if (content->is_array()) {
    CHECK_ASSIGN(std::string text, join_parts(*content, where + ".content"));
    *content = std::move(text);
  } else if (!content->is_string()) {
    return invalid(where + ".content",
                   "Invalid type for '{}.content': expected a string or an array, but got {} instead.", where,
                   json_type_name(*content));
  }
  if (const auto calls = message.find("tool_calls"); calls != message.end()) {
    if (calls->is_null()) {
      message.erase("tool_calls");
    } else {
      return read_calls(*calls, where + ".tool_calls");
    }
  }
  return std::nullopt;
}

bool is_function_name(std::string_view name) {
  return !name.empty() && name.size() <= 128 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.' || c == ':';
  });
}

Checked<std::vector<std::string>> function_names(const Json& tools) {
  std::vector<std::string> names;
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string where = fmt::format("tools[{}]", i);
    const Json& tool = tools[i];
    if (!tool.contains("type") || tool["type"] != "function") {
      return invalid(where + ".type", "Invalid value for '{}.type'. Supported values are: 'function'.", where);
    }
    if (!tool.contains("function") || !tool["function"].is_object()) {
      return invalid(where + ".function", "Missing required parameter: '{}.function'.", where);
    }
    const Json& function = tool["function"];
    const auto name = function.find("name");
    if (name == function.end() || !name->is_string() || !is_function_name(name->get_ref<const std::string&>())) {
      return invalid(where + ".function.name",
                     "Invalid '{}.function.name': expected 1 to 128 letters, digits, '_', '-', '.' or ':'.", where);
    }
    for (const char* key : {"description", "parameters"}) {
      const auto member = function.find(key);
      if (member == function.end() || member->is_null()) continue;
      const bool text = key == std::string_view("description");
      if (text ? member->is_string() : member->is_object()) continue;
      return invalid(fmt::format("{}.function.{}", where, key),
                     "Invalid type for '{}.function.{}': expected {}, but got {} instead.", where, key,
                     text ? "a string" : "an object", json_type_name(*member));
    }
    names.push_back(name->get<std::string>());
  }
  return names;
}

// What tool_choice asks for: nothing, what the model likes, some call, or a call of `function`.
struct ToolChoice {
  bool none = false, required = false;
  std::string function;
};

Checked<ToolChoice> read_tool_choice(const Fields& fields, const std::vector<std::string>& names) {
  ToolChoice choice;
  const Json* value = fields.find("tool_choice");
  if (value == nullptr || *value == "auto") return choice;
  if (*value == "none") {
    choice.none = true;
    return choice;
  }
  if (*value == "required") {
    choice.required = true;
  } else if (value->is_object() && value->contains("type") && (*value)["type"] == "function" &&
             value->contains("function") && (*value)["function"].is_object() && (*value)["function"].contains("name") &&
             (*value)["function"]["name"].is_string()) {
    choice.required = true;
    choice.function = (*value)["function"]["name"].get<std::string>();
    if (std::find(names.begin(), names.end(), choice.function) == names.end()) {
      return invalid("tool_choice", "Invalid 'tool_choice': the function is not among 'tools'.");
    }
  } else {
    return invalid("tool_choice",
                   "Invalid value for 'tool_choice'. Supported values are: 'none', 'auto', 'required', and an object "
                   "{{\"type\": \"function\", \"function\": {{\"name\": ..}}}}.");
  }
  if (names.empty()) return invalid("tool_choice", "Invalid 'tool_choice': it is only allowed when 'tools' are given.");
  return choice;
}

struct RenderedChat {
  std::string text;
  std::vector<TextRange> trusted;
};

Checked<RenderedChat> render(const ServedModel& model, const Fields& fields, const Json& messages, bool with_tools) {
  if (!model.chat_template) {
    return not_supported("messages", "The model has no chat template: use /v1/completions.");
  }
  jinja::Value context = jinja::Value::dict();
  // From the least to the most important: a request's own variables cannot take the place of ours.
  constexpr std::string_view kReserved[] = {"messages",  "tools",    "add_generation_prompt", "bos_token", "eos_token",
                                            "unk_token", "pad_token"};
  if (const Json* more = fields.find("chat_template_kwargs")) {
    for (const auto& [key, value] : more->items()) {
      if (std::find(std::begin(kReserved), std::end(kReserved), key) != std::end(kReserved)) {
        return invalid("chat_template_kwargs",
                       "Invalid 'chat_template_kwargs': it may not hold what the request says elsewhere.");
      }
      auto converted = jinja::from_json(value);
      if (!converted) return from_error(converted.error(), "chat_template_kwargs");
      context.set(key, *std::move(converted));
    }
  }
  if (fields.has("reasoning_effort")) {
    context.set("reasoning_effort", jinja::Value::of(fields.text("reasoning_effort")));
  }
  auto list = jinja::from_json(messages);
  if (!list) return from_error(list.error(), "messages");
  context.set("messages", *std::move(list));
  const Json* tools = with_tools ? fields.find("tools") : nullptr;
  if (tools != nullptr && !tools->empty()) {
    auto converted = jinja::from_json(*tools);
    if (!converted) return from_error(converted.error(), "tools");
    context.set("tools", *std::move(converted));
  }
  const bool continues = fields.boolean("continue_final_message");
  if (continues && fields.has("add_generation_prompt") && fields.boolean("add_generation_prompt")) {
    return invalid("continue_final_message", "Invalid 'continue_final_message': it excludes 'add_generation_prompt'.");
  }
  context.set("add_generation_prompt", jinja::Value::of(!continues && fields.boolean("add_generation_prompt")));
  const TokenizerSpec& spec = model.tokenizer.spec();
  const auto special = [&](const char* name, int32_t id) {
    if (id >= 0) context.set(name, jinja::Value::of(std::string(model.tokenizer.token_text(id)), true));
  };
  special("bos_token", spec.bos_id);
  special("eos_token", spec.eos_id);
  special("unk_token", spec.unk_id);
  special("pad_token", spec.pad_id);

  auto rendered = model.chat_template->render(context);
  if (!rendered) return invalid("messages", "{}", rendered.error().message);
  RenderedChat chat{std::move(rendered->text), {}};
  size_t at = 0;
  for (const jinja::Segment& segment : rendered->segments) {
    if (segment.trusted) chat.trusted.push_back({at, at + segment.size});
    at += segment.size;
  }
  if (continues) {
    // The prompt ends where the last message's text does.
    const Json& last = messages.back();
    const std::string text =
        last.contains("content") && last["content"].is_string() ? last["content"].get<std::string>() : "";
    const size_t end = text.find_last_not_of(" \t\r\n");
    const std::string trimmed = end == std::string::npos ? "" : text.substr(0, end + 1);
    size_t place = trimmed.empty() ? std::string::npos : chat.text.rfind(trimmed);
    size_t length = trimmed.size();
    if (place != std::string::npos && chat.text.compare(place, text.size(), text) == 0) length = text.size();
    if (place == std::string::npos) {
      return invalid("continue_final_message",
                     "Invalid 'continue_final_message': the chat template does not print the last message's content.");
    }
    chat.text.resize(place + length);
    std::erase_if(chat.trusted, [&](const TextRange& r) { return r.begin >= chat.text.size(); });
    if (!chat.trusted.empty()) chat.trusted.back().end = std::min(chat.trusted.back().end, chat.text.size());
  }
  return chat;
}

Checked<Json> read_messages(const ServedModel& model, const Fields& fields) {
  Json messages = *fields.find("messages");
  for (size_t i = 0; i < messages.size(); ++i) {
    if (auto failed = read_message(model, messages[i], i)) return *std::move(failed);
  }
  return messages;
}

// ---- Sampling and what else both endpoints share ----

uint64_t chance() {
  uint64_t value = 0;
  if (getrandom(&value, sizeof value, 0) != static_cast<ssize_t>(sizeof value)) {
    static std::atomic<uint64_t> counter{0x9E3779B97F4A7C15};
    value = counter.fetch_add(0x9E3779B97F4A7C15);
  }
  return value;
}

// FNV-1a. Zero is no salt.
uint64_t salt_of(const std::string& text) {
  if (text.empty()) return 0;
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3;
  return hash | 1;
}

std::vector<std::string> texts_of(const Json* value) {
  if (value == nullptr) return {};
  if (value->is_string()) return {value->get<std::string>()};
  return value->get<std::vector<std::string>>();
}

// Ids of all tokens whose text holds one of these.
std::shared_ptr<const std::vector<int32_t>> tokens_with(const ServedModel& model,
                                                        const std::vector<std::string>& texts) {
  auto ids = std::make_shared<std::vector<int32_t>>();
  for (size_t id = 0; id < model.tokenizer.vocab_size(); ++id) {
    const std::string bytes = token_bytes(model.tokenizer, static_cast<int32_t>(id));
    const auto held = [&](const std::string& t) { return !t.empty() && bytes.find(t) != std::string::npos; };
    if (std::any_of(texts.begin(), texts.end(), held)) ids->push_back(static_cast<int32_t>(id));
  }
  return ids;
}

Problem read_sampling(const ServedModel& model, const Fields& fields, SampleParams& p) {
  const auto number = [&](const char* name) { return static_cast<float>(fields.number(name)); };
  const auto integer = [&](const char* name) { return static_cast<int32_t>(fields.integer(name)); };
  p.temperature = number("temperature");
  p.top_k = std::max(0, integer("top_k"));
  p.top_p = number("top_p");
  p.min_p = number("min_p");
  p.typical_p = number("typical_p");
  p.repetition_penalty = number(fields.has("repetition_penalty") || !fields.has("repeat_penalty") ? "repetition_penalty"
                                                                                                  : "repeat_penalty");
  p.presence_penalty = number("presence_penalty");
  p.frequency_penalty = number("frequency_penalty");
  p.penalty_window = integer("repeat_last_n");
  p.dry_multiplier = number("dry_multiplier");
  p.dry_base = number("dry_base");
  p.dry_allowed_length = integer("dry_allowed_length");
  p.dry_window = integer("dry_penalty_last_n");
  if (p.dry_multiplier > 0) {
    std::vector<std::string> breakers = {"\n", ":", "\"", "*"};
    if (fields.has("dry_sequence_breakers")) breakers = texts_of(fields.find("dry_sequence_breakers"));
    p.dry_breakers = tokens_with(model, breakers);
  }
  p.xtc_probability = number("xtc_probability");
  p.xtc_threshold = number("xtc_threshold");
  p.mirostat = integer("mirostat");
  p.mirostat_tau = number("mirostat_tau");
  p.mirostat_eta = number("mirostat_eta");
  p.seed = fields.has("seed") ? static_cast<uint64_t>(fields.integer("seed")) : chance();
  if (const Json* biases = fields.find("logit_bias")) {
    for (const auto& [key, bias] : biases->items()) {
      const int32_t token = std::stoi(key);
      if (static_cast<size_t>(token) >= model.tokenizer.vocab_size()) {
        return invalid("logit_bias", "Invalid 'logit_bias': token {} is outside of the vocabulary of {}.", token,
                       model.tokenizer.vocab_size());
      }
      const auto value = bias.get<float>();
      p.logit_bias.push_back({token, value <= -100 ? -std::numeric_limits<float>::infinity() : value});
    }
  }
  return std::nullopt;
}

// Fills all but the prompts and what is chat's alone.
Problem read_generation(const ServedModel& model, const Fields& fields, Prepared& out, Request& request) {
  if (fields.has("response_format") && fields.has("response_format.type") &&
      fields.text("response_format.type") != "text") {
    return not_supported("response_format", "response_format '{}' is not supported: answers are not constrained.",
                         fields.text("response_format.type"));
  }
  out.stream = fields.boolean("stream");
  if (fields.has("stream_options") && !out.stream) {
    return invalid("stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled.");
  }
  out.include_usage = fields.boolean("stream_options.include_usage");
  out.continuous_usage = fields.boolean("stream_options.continuous_usage_stats");
  out.include_stop = fields.boolean("include_stop_str_in_output");
  out.skip_special = fields.boolean("skip_special_tokens");
  out.timings = fields.boolean("timings_per_token");
  out.token_ids = fields.boolean("return_token_ids");
  out.timeout = fields.number("timeout");
  out.stops = texts_of(fields.find("stop"));

  request.sequences = static_cast<uint32_t>(fields.integer("n"));
  request.min_tokens = static_cast<uint32_t>(fields.integer("min_tokens"));
  request.ignore_eos = fields.boolean("ignore_eos");
  request.priority = static_cast<int32_t>(fields.integer("priority"));
  request.cache_prompt = fields.boolean("cache_prompt");
  request.cache_salt = salt_of(fields.text("cache_salt"));
  if (const Json* stops = fields.find("stop_token_ids")) {
    if (stops->size() > kMostStopTokenIds) {
      return invalid("stop_token_ids",
                     "Invalid 'stop_token_ids': array too long. Expected at most {} entries, but got {} instead.",
                     kMostStopTokenIds, stops->size());
    }
    for (const Json& id : *stops) {
      if (id.get<uint64_t>() >= model.tokenizer.vocab_size()) {
        return invalid("stop_token_ids", "Invalid 'stop_token_ids': token {} is outside of the vocabulary of {}.",
                       id.get<uint64_t>(), model.tokenizer.vocab_size());
      }
      request.stop_tokens.push_back(id.get<int32_t>());
    }
  }
  request.logprobs = out.logprobs;
  request.top_logprobs = out.top_logprobs;
  return read_sampling(model, fields, request.sampling);
}

// Adds a request for one prompt: `tokens` of answer at most, 0 for what there is room for.
Problem add_prompt(const ServedModel& model, Prepared& out, const Request& like, std::vector<int32_t> ids,
                   uint64_t tokens, const std::string& where) {
  if (ids.empty())
    return invalid(where, "Invalid '{}': the prompt is empty, and the model has no token to begin with.", where);
  if (ids.size() >= model.most_tokens) {
    ApiError error =
        invalid(where, "This model's maximum context length is {} tokens. However, your prompt has {} tokens.",
                model.most_tokens, ids.size());
    error.context = {ids.size(), model.most_tokens};
    return error;
  }
  Request request = like;
  const uint64_t room = model.most_tokens - ids.size();
  request.max_tokens = static_cast<uint32_t>(tokens == 0 ? room : std::min<uint64_t>(tokens, room));
  if (request.min_tokens > request.max_tokens) {
    return invalid("min_tokens",
                   "Invalid 'min_tokens': expected at most the {} tokens that the answer may have, but got {} instead.",
                   request.max_tokens, request.min_tokens);
  }
  request.prompt = std::move(ids);
  out.requests.push_back(std::move(request));
  return std::nullopt;
}

Checked<std::vector<int32_t>> encode_text(const ServedModel& model, const std::string& text, bool add, bool parse,
                                          const char* where) {
  auto ids = model.tokenizer.encode(text, {.add_special = add, .parse_special = parse});
  if (!ids) return from_error(ids.error(), where);
  // The text may spell the BOS that was added.
  if (add && ids->size() > 1 && model.bos_token >= 0 && (*ids)[0] == model.bos_token && (*ids)[1] == model.bos_token) {
    ids->erase(ids->begin());
  }
  return *std::move(ids);
}

Checked<std::vector<int32_t>> read_ids(const ServedModel& model, const Json& list, const char* where) {
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const Json& id : list) {
    if (id.get<uint64_t>() >= model.tokenizer.vocab_size()) {
      return invalid(where, "Invalid '{}': token {} is outside of the vocabulary of {}.", where, id.get<uint64_t>(),
                     model.tokenizer.vocab_size());
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

}  // namespace

Checked<Prepared> prepare_chat(const ServedModel& model, std::string_view body) {
  CHECK_ASSIGN(const Json json, parse_body(body));
  CHECK_ASSIGN(const Fields fields, Fields::check(json, kChat));
  Prepared out;
  out.chat = true;
  Request request;
  out.logprobs = fields.boolean("logprobs");
  out.top_logprobs = static_cast<uint32_t>(fields.integer("top_logprobs"));
  if (out.top_logprobs > 0 && !out.logprobs) {
    return invalid("top_logprobs", "Invalid 'top_logprobs': it is only allowed when 'logprobs' is true.");
  }
  if (auto failed = read_generation(model, fields, out, request)) return *std::move(failed);
  CHECK_ASSIGN(const Json messages, read_messages(model, fields));

  if (const Json* tools = fields.find("tools")) {
    CHECK_ASSIGN(out.reply.functions, function_names(*tools));
  }
  CHECK_ASSIGN(const ToolChoice choice, read_tool_choice(fields, out.reply.functions));
  const bool tools = !choice.none && !out.reply.functions.empty();
  if (tools) out.reply.tools = model.tool_format.value_or(ToolFormat::kJson);
  out.one_call = !fields.boolean("parallel_tool_calls");
  CHECK_ASSIGN(RenderedChat chat, render(model, fields, messages, tools));

  const std::string reasoning = fields.text("reasoning_format");
  out.reply.reasoning = reasoning != "none" && model.has_reasoning;
  out.reasoning_in_content = reasoning == "deepseek-legacy";
  const size_t end = chat.text.find_last_not_of(" \t\r\n");
  out.reply.thinking = out.reply.reasoning && end != std::string::npos &&
                       std::string_view(chat.text).substr(0, end + 1).ends_with(kThinkOpen);
  if (choice.required) {
    const std::string call = tool_call_opening(out.reply.tools, choice.function);
    out.reply_opening = (out.reply.thinking ? std::string(kThinkClose) + "\n\n" : std::string()) + call;
    // The marker may be a special token; the function's name, which the request brings, may not.
    const size_t marker = out.reply_opening.size() - call.size();
    chat.text += out.reply_opening;
    for (const std::string_view m : tool_markers(out.reply.tools)) {
      const size_t begin = chat.text.size() - call.size();
      if (call.starts_with(m)) chat.trusted.push_back({begin - marker, begin + m.size()});
    }
  }
  auto ids = model.tokenizer.encode(chat.text, {.parse_special = true, .special_ranges = chat.trusted});
  if (!ids) return from_error(ids.error(), "messages");
  const char* limit = fields.has("max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
  const auto tokens = static_cast<uint64_t>(fields.integer(limit));
  if (auto failed = add_prompt(model, out, request, *std::move(ids), tokens, "messages")) return *std::move(failed);
  return out;
}

Checked<Prepared> prepare_completion(const ServedModel& model, std::string_view body) {
  CHECK_ASSIGN(const Json json, parse_body(body));
  CHECK_ASSIGN(const Fields fields, Fields::check(json, kCompletion));
  Prepared out;
  Request request;
  out.logprobs = fields.has("logprobs");
  out.top_logprobs = static_cast<uint32_t>(fields.integer("logprobs"));
  out.echo = fields.boolean("echo");
  if (auto failed = read_generation(model, fields, out, request)) return *std::move(failed);
  request.prompt_logprobs = out.echo && out.logprobs;
  if (fields.has("best_of") && fields.integer("best_of") != fields.integer("n")) {
    return not_supported("best_of", "'best_of' is not supported: it has to equal 'n'.");
  }
  auto tokens = static_cast<uint64_t>(fields.integer("max_tokens"));
  if (tokens == 0) {
    out.no_answer = true;
    tokens = 1;
    request.min_tokens = 0;
  }
  const Json& prompt = *fields.find("prompt");
  const bool one_list = prompt.is_array() && prompt[0].is_number();
  const size_t prompts = prompt.is_string() || one_list ? 1 : prompt.size();
  if (prompts * request.sequences > kMostChoices) {
    return invalid("prompt", "Invalid 'prompt': {} prompts with n = {} make more than {} choices.", prompts,
                   request.sequences, kMostChoices);
  }
  for (size_t i = 0; i < prompts; ++i) {
    const Json& one = prompt.is_string() || one_list ? prompt : prompt[i];
    std::vector<int32_t> ids;
    if (one.is_string()) {
      CHECK_ASSIGN(ids, encode_text(model, one.get_ref<const std::string&>(), fields.boolean("add_special_tokens"),
                                    fields.boolean("parse_special"), "prompt"));
      if (ids.empty() && model.bos_token >= 0) ids.push_back(model.bos_token);
    } else {
      CHECK_ASSIGN(ids, read_ids(model, one, "prompt"));
    }
    if (auto failed = add_prompt(model, out, request, std::move(ids), tokens, "prompt")) return *std::move(failed);
  }
  return out;
}

Checked<std::string> tokenize(const ServedModel& model, std::string_view body) {
  CHECK_ASSIGN(const Json json, parse_body(body));
  CHECK_ASSIGN(const Fields fields, Fields::check(json, kTokenize));
  const bool content = fields.has("content");
  if (content == fields.has("prompt")) return invalid("content", "Missing required parameter: 'content' or 'prompt'.");
  // llama.cpp's `content` comes without special tokens around it unless asked for, vLLM's `prompt` with them.
  bool add = content ? fields.boolean("add_special") : fields.boolean("add_special_tokens");
  if (content && fields.has("add_special_tokens")) add = fields.boolean("add_special_tokens");
  CHECK_ASSIGN(const std::vector<int32_t> ids, encode_text(model, fields.text(content ? "content" : "prompt"), add,
                                                           fields.boolean("parse_special"), "content"));
  const bool pieces = fields.boolean("with_pieces");
  std::string out;
  JsonWriter writer(out);
  writer.begin_object().key("tokens").begin_array();
  for (const int32_t id : ids) {
    if (pieces) {
      writer.begin_object().integer("id", id).string("piece", token_bytes(model.tokenizer, id)).end_object();
    } else {
      writer.integer(id);
    }
  }
  writer.end_array().integer("count", static_cast<int64_t>(ids.size()));
  writer.integer("max_model_len", model.context_length).end_object();
  return out;
}

Checked<std::string> detokenize(const ServedModel& model, std::string_view body) {
  CHECK_ASSIGN(const Json json, parse_body(body));
  CHECK_ASSIGN(const Fields fields, Fields::check(json, kDetokenize));
  CHECK_ASSIGN(const std::vector<int32_t> ids, read_ids(model, *fields.find("tokens"), "tokens"));
  const std::string text = model.tokenizer.decode(ids, {.show_special = fields.boolean("show_special")});
  std::string out;
  JsonWriter(out).begin_object().string("content", text).string("prompt", text).end_object();
  return out;
}

Checked<std::string> apply_template(const ServedModel& model, std::string_view body) {
  CHECK_ASSIGN(const Json json, parse_body(body));
  CHECK_ASSIGN(const Fields fields, Fields::check(json, kTemplate));
  CHECK_ASSIGN(const Json messages, read_messages(model, fields));
  if (const Json* tools = fields.find("tools")) {
    if (auto names = function_names(*tools); !names) return std::move(names).error();
  }
  CHECK_ASSIGN(const RenderedChat chat, render(model, fields, messages, true));
  std::string out;
  JsonWriter(out).begin_object().string("prompt", chat.text).end_object();
  return out;
}

}  // namespace ll::serve
