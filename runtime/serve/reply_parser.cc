#include "runtime/serve/reply_parser.h"

#include <algorithm>
#include <span>
#include <utility>

#include "runtime/serve/json_writer.h"
#include "runtime/text/utf8.h"

namespace ll::serve {
namespace {

constexpr size_t kMostNesting = 64, kMostName = 256;
// White space that is held back to see what follows. A longer run is decided on without knowing.
constexpr size_t kMostBlank = 1024;

struct Syntax {
  ToolFormat format;
  const char* name;
  std::span<const std::string_view> openings;  // markers in front of calls
  std::span<const std::string_view> closings;  // markers behind them, left out of the text
  bool bare;                                   // a reply that begins with a brace or bracket is a call
  const char* template_marks;                  // any of these in a template tells the format; separated by '\n'
};

constexpr std::string_view kHermesOpen[] = {"<tool_call>"}, kHermesClose[] = {"</tool_call>"};
constexpr std::string_view kLlamaOpen[] = {"<|python_tag|>"}, kLlamaClose[] = {";"};
constexpr std::string_view kMistralOpen[] = {"[TOOL_CALLS]"};
constexpr std::string_view kPhiOpen[] = {"functools", "<|tool_call|>"}, kPhiClose[] = {"<|/tool_call|>"};
constexpr std::string_view kGraniteOpen[] = {"<|tool_call|>", "<tool_call>"};
constexpr std::string_view kGraniteClose[] = {"<|end_of_tool_call|>", "</tool_call>"};
constexpr std::string_view kArgs = "[ARGS]", kCallId = "[CALL_ID]";

// In the order in which templates are searched.
constexpr Syntax kSyntaxes[] = {
    {ToolFormat::kMistralArgs, "mistral-args", kMistralOpen, {}, false, "[ARGS]"},
    {ToolFormat::kMistral, "mistral", kMistralOpen, {}, false, "[TOOL_CALLS]"},
    {ToolFormat::kPhi, "phi", kPhiOpen, kPhiClose, false, "functools"},
    {ToolFormat::kPhi4, "phi4", kPhiOpen, kPhiClose, false, "<|/tool_call|>\n<|tool|>"},
    {ToolFormat::kGranite, "granite", kGraniteOpen, kGraniteClose, false, "<|tool_call|>\n<|start_of_role|>"},
    {ToolFormat::kLlama3, "llama3", kLlamaOpen, kLlamaClose, true, "<|python_tag|>\nEnvironment: ipython"},
    {ToolFormat::kHermes, "hermes", kHermesOpen, kHermesClose, false, "<tool_call>"},
    {ToolFormat::kJson, "json", {}, {}, true, ""},
    {ToolFormat::kNone, "none", {}, {}, false, ""},
};

const Syntax& syntax_of(ToolFormat format) {
  return *std::find_if(std::begin(kSyntaxes), std::end(kSyntaxes), [&](const Syntax& s) { return s.format == format; });
}

bool is_mistral(ToolFormat format) { return format == ToolFormat::kMistral || format == ToolFormat::kMistralArgs; }

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

bool begins_with_any(std::span<const std::string_view> literals, std::string_view part) {
  return std::any_of(literals.begin(), literals.end(), [&](std::string_view l) { return l.starts_with(part); });
}
bool is_any(std::span<const std::string_view> literals, std::string_view text) {
  return std::find(literals.begin(), literals.end(), text) != literals.end();
}

void append(std::vector<Delta>& out, Delta::Kind kind, std::string_view text) {
  if (text.empty()) return;
  if (!out.empty() && out.back().kind == kind) {
    out.back().text += text;
  } else {
    out.push_back({kind, std::string(text)});
  }
}

// The text of a JSON string without its quotes; false when an escape is none.
bool unescape(std::string_view in, std::string& out) {
  const auto hex4 = [&](size_t at, uint32_t& value) {
    value = 0;
    if (at + 4 > in.size()) return false;
    for (size_t i = at; i < at + 4; ++i) {
      const char c = in[i];
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return false;
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    return true;
  };
  for (size_t i = 0; i < in.size(); ++i) {
    if (in[i] != '\\') {
      out += in[i];
      continue;
    }
    if (++i == in.size()) return false;
    constexpr std::string_view kFrom = "\"\\/bfnrt", kTo = "\"\\/\b\f\n\r\t";
    if (const size_t at = kFrom.find(in[i]); at != std::string_view::npos) {
      out += kTo[at];
      continue;
    }
    uint32_t code = 0, low = 0;
    if (in[i] != 'u' || !hex4(i + 1, code)) return false;
    i += 4;
    if (code >= 0xD800 && code < 0xDC00 && in.substr(i + 1).starts_with("\\u") && hex4(i + 3, low) && low >= 0xDC00 &&
        low < 0xE000) {
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
      i += 6;
    }
    if (code >= 0xD800 && code < 0xE000) code = 0xFFFD;
    append_utf8(out, code);
  }
  return true;
}

}  // namespace

const char* tool_format_name(ToolFormat format) { return syntax_of(format).name; }

ToolFormat tool_format_of(std::string_view chat_template) {
  for (const Syntax& s : kSyntaxes) {
    for (std::string_view rest = s.template_marks; !rest.empty();) {
      const size_t end = rest.find('\n');
      if (chat_template.find(rest.substr(0, end)) != std::string_view::npos) return s.format;
      if (end == std::string_view::npos) break;
      rest.remove_prefix(end + 1);
    }
  }
  return ToolFormat::kJson;
}

std::vector<std::string_view> tool_markers(ToolFormat format) {
  const Syntax& s = syntax_of(format);
  std::vector<std::string_view> markers(s.openings.begin(), s.openings.end());
  markers.insert(markers.end(), s.closings.begin(), s.closings.end());
  if (is_mistral(format)) markers.insert(markers.end(), {kArgs, kCallId});
  return markers;
}

std::string tool_call_opening(ToolFormat format, std::string_view name) {
  std::string call = "{\"name\": \"";
  if (!name.empty()) {
    call = "{\"name\": ";
    append_json_string(call, name);
    call += format == ToolFormat::kLlama3 ? ", \"parameters\": " : ", \"arguments\": ";
  }
  switch (format) {
    case ToolFormat::kHermes:
      return "<tool_call>\n" + call;
    case ToolFormat::kMistral:
      return "[TOOL_CALLS][" + call;
    case ToolFormat::kMistralArgs:
      return name.empty() ? "[TOOL_CALLS]" : "[TOOL_CALLS]" + std::string(name) + "[ARGS]";
    case ToolFormat::kPhi:
      return "functools[" + call;
    case ToolFormat::kPhi4:
    case ToolFormat::kGranite:
      return "<|tool_call|>[" + call;
    case ToolFormat::kLlama3:
    case ToolFormat::kJson:
      return call;
    case ToolFormat::kNone:
      break;
  }
  return {};
}

ReasoningSplitter::ReasoningSplitter(const ReplyOptions& options)
    : state_(!options.reasoning ? State::kText
             : options.thinking ? State::kThinking
                                : State::kStart),
      may_open_(options.reasoning) {}

// out(bool thought, std::string_view text)
template <class Out>
void ReasoningSplitter::push(char c, Out out) {
  switch (state_) {
    case State::kText:
      out(false, std::string_view(&c, 1));
      return;
    case State::kClosed:
      if (is_blank(c)) return;
      state_ = State::kText;
      out(false, std::string_view(&c, 1));
      return;
    case State::kStart: {
      held_ += c;
      const size_t begin = std::min(held_.find_first_not_of(" \t\r\n"), held_.size());
      const std::string_view rest = std::string_view(held_).substr(begin);
      if (begin > kMostBlank) {
        out(false, held_);
        held_.clear();
        state_ = State::kText;
      } else if (rest == kThinkOpen) {
        held_.clear();
        may_open_ = false;
        state_ = State::kThinking;
      } else if (!kThinkOpen.starts_with(rest)) {
        out(false, held_);
        held_.clear();
        state_ = State::kText;
      }
      return;
    }
    case State::kThinking:
      break;
  }
  held_ += c;
  while (!held_.empty()) {
    // White space before a marker or at either end is no thought, so it waits too.
    const size_t begin = std::min(held_.find_first_not_of(" \t\r\n"), held_.size());
    const std::string_view rest = std::string_view(held_).substr(begin);
    if (rest == kThinkClose) {
      held_.clear();
      state_ = State::kClosed;
      return;
    }
    if (may_open_ && blank_ && rest == kThinkOpen) {
      held_.clear();
      may_open_ = false;
      return;
    }
    if (begin > kMostBlank) {
      if (!blank_) out(true, std::string_view(held_).substr(0, begin));
      held_.erase(0, begin);
      continue;
    }
    if (kThinkClose.starts_with(rest) || (may_open_ && blank_ && kThinkOpen.starts_with(rest))) return;
    // No marker begins here: what is before the next place where one could is thought.
    size_t end = begin + 1;
    while (end < held_.size() && held_[end] != '<' && !is_blank(held_[end])) ++end;
    out(true, std::string_view(held_).substr(blank_ ? begin : 0, end - (blank_ ? begin : 0)));
    blank_ = false;
    held_.erase(0, end);
  }
}

template <class Out>
void ReasoningSplitter::finish(Out out) {
  const bool thought = state_ == State::kThinking;
  const size_t begin = std::min(held_.find_first_not_of(" \t\r\n"), held_.size());
  if (thought && begin < held_.size()) out(true, std::string_view(held_).substr(blank_ ? begin : 0));
  if (state_ == State::kStart) out(false, held_);
  held_.clear();
}

ToolCallParser::ToolCallParser(const ReplyOptions& options)
    : format_(options.tools), functions_(options.functions), may_be_bare_(syntax_of(options.tools).bare) {}

void ToolCallParser::content(std::string_view text, std::vector<Delta>& out) {
  if (content_begun_) return append(out, Delta::Kind::kContent, text);
  const size_t begin = std::min(text.find_first_not_of(" \t\r\n"), text.size());
  blank_ += text.substr(0, begin);
  if (begin == text.size()) return;
  content_begun_ = true;
  may_be_bare_ = false;
  append(out, Delta::Kind::kContent, blank_);
  append(out, Delta::Kind::kContent, text.substr(begin));
  blank_.clear();
}

void ToolCallParser::push(char c, std::vector<Delta>& out) {
  switch (state_) {
    case State::kText:
      return text(c, out);
    case State::kAfter:
      return after(c, out);
    case State::kOpen:
      return open(c, out);
    case State::kName:
    case State::kNameMark:
    case State::kCallId:
      return named(c, out);
    case State::kArray:
      raw_ += c;
      if (is_blank(c) || c == ',') return;
      if (c == '{') {
        begin_object(false);
      } else if (c == ']' && array_calls_ > 0) {
        raw_.clear();
        state_ = State::kAfter;
      } else {
        give_up(out);
      }
      return;
    case State::kObject:
      break;
  }
  if (!begun_) raw_ += c;
  switch (object(c, out)) {
    case Step::kMore:
      return;
    case Step::kDone:
      call_ends(out);
      return;
    case Step::kBad:
      if (begun_) raw_ = c;
      give_up(out);
      return;
  }
}

void ToolCallParser::finish(std::vector<Delta>& out) {
  if (state_ == State::kText) {
    content(held_, out);
  } else if (state_ == State::kObject && begun_) {
    // Cut off in the middle of its arguments: the call stands as far as it goes.
  } else if (state_ != State::kAfter) {
    content(raw_, out);
  } else if (held_.find_first_not_of(" \t\r\n") != std::string::npos) {
    content(held_, out);
  }
  // A reply of white space alone is that.
  if (!content_begun_ && calls_ == 0 && !begun_) append(out, Delta::Kind::kContent, blank_);
  held_.clear();
  raw_.clear();
  blank_.clear();
}

// Outside of calls: looks for a marker that opens one.
void ToolCallParser::text(char c, std::vector<Delta>& out) {
  const Syntax& syntax = syntax_of(format_);
  if (may_be_bare_ && !content_begun_ && held_.empty() && (c == '{' || c == '[')) {
    raw_ = blank_ + c;
    blank_.clear();
    bare_ = true;
    if (c == '{') {
      begin_object(false);
    } else {
      in_array_ = true;
      array_calls_ = 0;
      state_ = State::kArray;
    }
    return;
  }
  if (syntax.openings.empty()) return content(std::string_view(&c, 1), out);
  held_ += c;
  while (!held_.empty() && !begins_with_any(syntax.openings, held_)) {
    content(std::string_view(held_).substr(0, 1), out);
    held_.erase(0, 1);
  }
  if (!is_any(syntax.openings, held_)) return;
  raw_ = blank_ + held_;
  blank_.clear();
  held_.clear();
  bare_ = false;
  state_ = State::kOpen;
}

// Behind an opening marker.
void ToolCallParser::open(char c, std::vector<Delta>& out) {
  raw_ += c;
  if (is_blank(c)) return;
  in_array_ = c == '[';
  array_calls_ = 0;
  if (c == '{') return begin_object(false);
  if (c == '[') {
    state_ = State::kArray;
    return;
  }
  if (!is_mistral(format_)) return give_up(out);
  name_ = c;
  state_ = State::kName;
}

// name[ARGS]{..} or name[CALL_ID]id[ARGS]{..}
void ToolCallParser::named(char c, std::vector<Delta>& out) {
  raw_ += c;
  if (state_ == State::kName) {
    if (c == '[') {
      value_ = c;
      state_ = State::kNameMark;
    } else if (name_.size() >= kMostName || is_blank(c) || c == '{') {
      give_up(out);
    } else {
      name_ += c;
    }
    return;
  }
  if (state_ == State::kCallId && value_.empty() && c != '[') {
    id_ += c;
    if (id_.size() > kMostName) give_up(out);
    return;
  }
  value_ += c;
  if (value_ == kArgs) {
    begin_object(true);
  } else if (state_ == State::kNameMark && value_ == kCallId) {
    value_.clear();
    id_.clear();
    state_ = State::kCallId;
  } else if (!kArgs.starts_with(value_) && !(state_ == State::kNameMark && kCallId.starts_with(value_))) {
    give_up(out);
  }
}

void ToolCallParser::begin_object(bool arguments_alone) {
  state_ = State::kObject;
  arguments_alone_ = arguments_alone;
  json_ = arguments_alone ? Json::kValue : Json::kKeyOrEnd;
  member_ = arguments_alone ? Member::kArguments : Member::kOther;
  begun_ = escaped_ = quoted_arguments_ = in_string_ = false;
  key_.clear();
  value_.clear();
  arguments_.clear();
  nesting_.clear();
  if (!arguments_alone) {
    name_.clear();
    id_.clear();
  }
}

// One byte of {"name": .., "arguments": ..}, or of the arguments alone.
ToolCallParser::Step ToolCallParser::object(char c, std::vector<Delta>& out) {
  switch (json_) {
    case Json::kKeyOrEnd:
    case Json::kKey:
      if (is_blank(c)) return Step::kMore;
      if (c == '}' && json_ == Json::kKeyOrEnd) return Step::kDone;
      if (c != '"') return Step::kBad;
      key_.clear();
      json_ = Json::kInKey;
      return Step::kMore;
    case Json::kInKey:
      // A key with an escape is none of those that matter; \" must not end it.
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        json_ = Json::kColon;
        return Step::kMore;
      }
      if (key_.size() < kMostName) key_ += c;
      return Step::kMore;
    case Json::kColon:
      if (is_blank(c)) return Step::kMore;
      if (c != ':') return Step::kBad;
      member_ = key_ == "name"                                ? Member::kName
                : key_ == "arguments" || key_ == "parameters" ? Member::kArguments
                : key_ == "id"                                ? Member::kId
                                                              : Member::kOther;
      json_ = Json::kValue;
      return Step::kMore;
    case Json::kValue:
      if (is_blank(c)) return Step::kMore;
      return value_begins(c, out);
    case Json::kInString:
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        return value_ends(out);
      }
      value_byte(c, out);
      return Step::kMore;
    case Json::kInNested:
      value_byte(c, out);
      if (in_string_) {
        if (escaped_) {
          escaped_ = false;
        } else if (c == '\\') {
          escaped_ = true;
        } else if (c == '"') {
          in_string_ = false;
        }
        return Step::kMore;
      }
      if (c == '"') in_string_ = true;
      if (c == '{' || c == '[') {
        if (nesting_.size() >= kMostNesting) return Step::kBad;
        nesting_ += c;
      }
      if (c == '}' || c == ']') {
        if (nesting_.back() != (c == '}' ? '{' : '[')) return Step::kBad;
        nesting_.pop_back();
        if (nesting_.empty()) return value_ends(out);
      }
      return Step::kMore;
    case Json::kInScalar:
      if (is_blank(c) || c == ',' || c == '}') {
        const Step step = value_ends(out);
        if (step != Step::kMore || is_blank(c)) return step;
        break;
      }
      if (c == '"' || c == '{' || c == '[' || c == ']' || c == ':') return Step::kBad;
      value_byte(c, out);
      return Step::kMore;
    case Json::kNext:
      break;
  }
  if (is_blank(c)) return Step::kMore;
  if (c == '}') return Step::kDone;
  if (c != ',') return Step::kBad;
  json_ = Json::kKey;
  return Step::kMore;
}

ToolCallParser::Step ToolCallParser::value_begins(char c, std::vector<Delta>& out) {
  value_.clear();
  if (member_ == Member::kArguments) {
    if (!arguments_.empty() || quoted_arguments_) return Step::kBad;  // twice
    // A name that is known and allowed makes it a call from here on.
    if (!name_.empty() && !begun_ && !begin_call(out)) return Step::kBad;
  }
  if (c == '"') {
    if (arguments_alone_) return Step::kBad;
    if (member_ == Member::kArguments) quoted_arguments_ = true;
    json_ = Json::kInString;
    return Step::kMore;
  }
  if (member_ == Member::kName || member_ == Member::kId) return Step::kBad;
  if (c == '{' || c == '[') {
    nesting_ = c;
    json_ = Json::kInNested;
  } else if (c == '}' || c == ']' || c == ',' || c == ':' || arguments_alone_) {
    return Step::kBad;
  } else {
    json_ = Json::kInScalar;
  }
  value_byte(c, out);
  return Step::kMore;
}

void ToolCallParser::value_byte(char c, std::vector<Delta>& out) {
  if (member_ != Member::kArguments) {
    if (member_ != Member::kOther) value_ += c;
    return;
  }
  if (quoted_arguments_) {
    value_ += c;
    return;
  }
  arguments_ += c;
  if (begun_) append(out, Delta::Kind::kArguments, std::string_view(&c, 1));
}

ToolCallParser::Step ToolCallParser::value_ends(std::vector<Delta>& out) {
  json_ = Json::kNext;
  if (member_ == Member::kName) {
    std::string name;
    if (!name_.empty() || value_.empty() || value_.size() > kMostName || !unescape(value_, name)) return Step::kBad;
    name_ = name;
    const bool known = std::find(functions_.begin(), functions_.end(), name_) != functions_.end();
    if (bare_ && !known) return Step::kBad;
    if (!arguments_.empty() && !begun_ && !begin_call(out)) return Step::kBad;
  } else if (member_ == Member::kId) {
    std::string id;
    if (value_.size() <= kMostName && unescape(value_, id)) id_ = id;
  } else if (member_ == Member::kArguments && quoted_arguments_) {
    std::string text;
    if (!unescape(value_, text)) text = value_;
    arguments_ = text.empty() ? "{}" : text;
    if (begun_) append(out, Delta::Kind::kArguments, arguments_);
  }
  return arguments_alone_ ? Step::kDone : Step::kMore;
}

// Gives the call's name out, and the arguments so far.
bool ToolCallParser::begin_call(std::vector<Delta>& out) {
  begun_ = true;
  raw_.clear();
  out.push_back({Delta::Kind::kCall, name_, id_});
  append(out, Delta::Kind::kArguments, arguments_);
  return true;
}

void ToolCallParser::call_ends(std::vector<Delta>& out) {
  if (!begun_) {
    if (name_.empty()) return give_up(out);
    if (arguments_.empty()) arguments_ = "{}";
    begin_call(out);
  }
  begun_ = false;
  ++calls_;
  ++array_calls_;
  raw_.clear();
  held_.clear();
  may_be_bare_ = false;
  state_ = in_array_ ? State::kArray : State::kAfter;
}

// Behind a call: its closing marker, the next call, or text.
void ToolCallParser::after(char c, std::vector<Delta>& out) {
  const Syntax& syntax = syntax_of(format_);
  held_ += c;
  const size_t begin = held_.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) {
    if (held_.size() > kMostBlank) held_.clear();
    return;
  }
  const std::string_view rest = std::string_view(held_).substr(begin);
  if (is_any(syntax.closings, rest)) {
    held_.clear();
  } else if (is_any(syntax.openings, rest)) {
    raw_ = std::exchange(held_, {});
    state_ = State::kOpen;
  } else if (format_ == ToolFormat::kLlama3 && rest == "{") {
    raw_ = std::exchange(held_, {});
    in_array_ = false;
    begin_object(false);
  } else if (!begins_with_any(syntax.closings, rest) && !begins_with_any(syntax.openings, rest)) {
    content_begun_ = true;
    state_ = State::kText;
    const std::string text_again = std::exchange(held_, {});
    for (const char again : text_again) text(again, out);
  }
}

// What was held for a call is text.
void ToolCallParser::give_up(std::vector<Delta>& out) {
  begun_ = false;
  may_be_bare_ = false;
  state_ = State::kText;
  content(std::exchange(raw_, {}), out);
}

void ReplyParser::push(std::string_view part, std::vector<Delta>& out) {
  for (const char c : part) {
    reasoning_.push(c, [&](bool thought, std::string_view text) {
      if (thought) return append(out, Delta::Kind::kReasoning, text);
      for (const char t : text) tools_.push(t, out);
    });
  }
}

void ReplyParser::finish(std::vector<Delta>& out) {
  reasoning_.finish([&](bool thought, std::string_view text) {
    if (thought) return append(out, Delta::Kind::kReasoning, text);
    for (const char t : text) tools_.push(t, out);
  });
  tools_.finish(out);
}

}  // namespace ll::serve
