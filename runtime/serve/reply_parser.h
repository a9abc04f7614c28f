// Splits a model's reply into thoughts, text and tool calls, as it comes. How the reply is cut into parts changes
// nothing; a call that turns out to be malformed before it was given out is text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ll::serve {

// How a model writes its calls. Sources: the models' chat templates and cards.
enum class ToolFormat : uint8_t {
  kNone,     // calls are not looked for
  kHermes,   // <tool_call>{"name": .., "arguments": {..}}</tool_call>, again and again: Hermes 2 Pro, Qwen 2.5 and 3
  kLlama3,   // {"name": .., "parameters": {..}} as the whole reply, perhaps after <|python_tag|>, separated by ';'
  kMistral,  // [TOOL_CALLS][{"name": .., "arguments": {..}}, ..], or as the next one
  kMistralArgs,  // [TOOL_CALLS]name[ARGS]{..}, perhaps with [CALL_ID]id before [ARGS]
  kPhi,          // functools[{"name": .., "arguments": {..}}]
  kPhi4,         // <|tool_call|>[{"name": .., "arguments": {..}}]<|/tool_call|>
  kGranite,      // <|tool_call|>[{"name": .., "arguments": {..}}], or <tool_call>[..]
  kJson,         // the whole reply is a call or a list of calls
};
const char* tool_format_name(ToolFormat format);
// By what the template's source spells out; kJson when that tells nothing.
ToolFormat tool_format_of(std::string_view chat_template);
// Literals that the parser has to see even where special tokens leave no text.
std::vector<std::string_view> tool_markers(ToolFormat format);
// What a reply begins with that calls a function: `name`, or any when empty. Given to the model to continue, and to
// the parser, it makes a call of the reply.
std::string tool_call_opening(ToolFormat format, std::string_view name);

inline constexpr std::string_view kThinkOpen = "<think>", kThinkClose = "</think>";

struct Delta {
  enum class Kind : uint8_t {
    kContent,    // text
    kReasoning,  // text
    kCall,       // a call begins: name, id (may be empty: the model gave none)
    kArguments,  // text: more of the arguments of the last call
  };
  Kind kind = Kind::kContent;
  std::string text;  // of kCall: the function's name
  std::string id{};
};

struct ReplyOptions {
  ToolFormat tools = ToolFormat::kNone;
  std::vector<std::string> functions{};  // names: a bare JSON object is a call only of one of these
  bool reasoning = false;                // look for <think>..</think> at the beginning
  bool thinking = false;                 // the prompt has opened <think> already
};

// Thoughts and the rest.
class ReasoningSplitter {
 public:
  explicit ReasoningSplitter(const ReplyOptions& options);
  // Calls out(thought, text) for what is certain.
  template <class Out>
  void push(char c, Out out);
  template <class Out>
  void finish(Out out);

 private:
  enum class State : uint8_t { kStart, kThinking, kClosed, kText };
  State state_;
  bool may_open_;      // <think> may still come
  bool blank_ = true;  // no thought or text yet behind the last marker
  std::string held_;   // white space or a part of a marker
};

class ToolCallParser {
 public:
  explicit ToolCallParser(const ReplyOptions& options);
  void push(char c, std::vector<Delta>& out);
  void finish(std::vector<Delta>& out);
  // Calls that are complete.
  size_t calls() const { return calls_; }

 private:
  enum class State : uint8_t { kText, kOpen, kName, kNameMark, kCallId, kObject, kArray, kAfter };
  enum class Json : uint8_t { kKeyOrEnd, kKey, kInKey, kColon, kValue, kInString, kInNested, kInScalar, kNext };
  enum class Member : uint8_t { kName, kArguments, kId, kOther };
  enum class Step : uint8_t { kMore, kDone, kBad };

  void text(char c, std::vector<Delta>& out);
  void after(char c, std::vector<Delta>& out);
  void open(char c, std::vector<Delta>& out);
  void named(char c, std::vector<Delta>& out);
  void begin_object(bool arguments_alone);
  Step object(char c, std::vector<Delta>& out);
  Step value_begins(char c, std::vector<Delta>& out);
  void value_byte(char c, std::vector<Delta>& out);
  Step value_ends(std::vector<Delta>& out);
  bool begin_call(std::vector<Delta>& out);
  void call_ends(std::vector<Delta>& out);
  void give_up(std::vector<Delta>& out);
  void content(std::string_view text, std::vector<Delta>& out);

  ToolFormat format_;
  std::vector<std::string> functions_;
  State state_ = State::kText;
  bool may_be_bare_;  // the reply has not begun: a brace would begin a call
  bool content_begun_ = false;
  std::string blank_;  // white space that the reply begins with
  std::string held_;   // a part of a marker
  std::string raw_;    // what became neither text nor call yet
  bool in_array_ = false, bare_ = false;
  size_t array_calls_ = 0;  // of the list being read
  size_t calls_ = 0;

  // The call being read.
  Json json_ = Json::kKeyOrEnd;
  Member member_ = Member::kOther;
  bool begun_ = false, arguments_alone_ = false, escaped_ = false, quoted_arguments_ = false, in_string_ = false;
  std::string key_, value_, name_, id_, arguments_;
  std::string nesting_;  // open brackets of a nested value
};

// Both, one behind the other.
class ReplyParser {
 public:
  explicit ReplyParser(const ReplyOptions& options) : reasoning_(options), tools_(options) {}
  // Appends what the part makes certain; neighbours of one kind are joined.
  void push(std::string_view part, std::vector<Delta>& out);
  void finish(std::vector<Delta>& out);
  size_t calls() const { return tools_.calls(); }

 private:
  ReasoningSplitter reasoning_;
  ToolCallParser tools_;
};

}  // namespace ll::serve
