#include "tools/llrt/chat.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "tools/llrt/interrupt.h"
#include "tools/llrt/line_editor.h"
#include "tools/llrt/read_stdin.h"
#include "tools/llrt/stopwatch.h"

namespace ll {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kHelp =
    "  /help               this\n"
    "  /clear              forget the conversation\n"
    "  /system [TEXT]      set what the model is told first, and forget the conversation; without TEXT: take it away\n"
    "  /set [NAME VALUE]   temperature, top_k, top_p, min_p, repeat_penalty, seed, count; without more: show them\n"
    "  /regen              another answer to the last message\n"
    "  /save FILE          the conversation, as Markdown, or as JSON if FILE ends in .json\n"
    "  /quit               leave, as Ctrl-D does\n"
    "  Alt-Enter or a backslash at the end begins a new line; // at the beginning stands for /\n"
    "  Ctrl-C stops an answer, and leaves when it comes twice\n";

// What a terminal could take for a command of a model's becomes U+FFFD; text for files and pipes stays as it is.
std::string harmless(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<uint8_t>(text[i]);
    const bool c1 = c == 0xC2 && i + 1 < text.size() && static_cast<uint8_t>(text[i + 1]) < 0xA0;
    if (c1 || c == 0x7F || (c < 0x20 && c != '\n' && c != '\t')) {
      out += "\xEF\xBF\xBD";
      i += c1 ? 1 : 0;
    } else {
      out += text[i];
    }
  }
  return out;
}

struct Message {
  std::string role, content;
};

Json json_of(const std::vector<Message>& messages) {
  Json list = Json::array();
  for (const Message& m : messages) list.push_back({{"role", m.role}, {"content", m.content}});
  return list;
}

std::string text_of(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

class Chat {
 public:
  Chat(const llrt::Model& model, const ChatOptions& options)
      : model_(model), info_(model.info()), options_(options), session_(model), system_(options.system) {
    terminal_ = isatty(STDOUT_FILENO) != 0;
    const char* kind = std::getenv("TERM");
    const char* plain = std::getenv("NO_COLOR");
    colours_ = terminal_ && (plain == nullptr || *plain == 0) && kind != nullptr && std::strcmp(kind, "dumb") != 0;
  }

  Status one_answer(const std::string& message) {
    messages_.push_back({"user", message});
    TRY(answer());
    if (terminal_) std::fputc('\n', stdout);
    return {};
  }

  Status converse() {
    History history(options_.history);
    LineEditor editor(history);
    const QuietTerminal quiet;  // between lines too: what is typed ahead then arrives as it was typed
    note(fmt::format("{}; /help shows what there is besides talking\n",
                     *info_.name == 0 ? info_.architecture : info_.name));
    bool warned = false;
    while (true) {
      const LineEditor::Line line = editor.read("> ", colours_);
      if (line.end == LineEditor::End::kEof) return {};
      if (line.end == LineEditor::End::kInterrupt) {
        if (line.text.empty() && (warned || stopped_)) return {};
        if (line.text.empty()) note("Ctrl-C again leaves, and so does Ctrl-D\n");
        warned = line.text.empty();
        continue;
      }
      warned = stopped_ = false;
      if (line.text.find_first_not_of(" \t\n") == std::string::npos) continue;
      history.add(line.text);
      if (line.text[0] == '/' && !line.text.starts_with("//")) {
        if (!command(line.text)) return {};
        continue;
      }
      messages_.push_back({"user", line.text.starts_with("//") ? line.text.substr(1) : line.text});
      reply();
    }
  }

 private:
  // About the conversation, not of it.
  void note(const std::string& text) const {
    fmt::print(stderr, "{}{}{}", colours_ ? "\x1b[2m" : "", harmless(text), colours_ ? "\x1b[0m" : "");
  }

  // An answer of a conversation: what fails is said, and the conversation goes on.
  void reply() {
    catch_interrupts();
    Status status;
    try {
      status = answer();
    } catch (const llrt::Error& e) {
      status = Error{static_cast<Code>(e.status()), e.what()};
    }
    std::fputc('\n', stdout);
    std::fflush(stdout);
    if (!status) {
      // The message that could not be answered is not part of what comes next.
      if (!messages_.empty() && messages_.back().role == "user") messages_.pop_back();
      note(fmt::format("{}\n", status.error().message));
    }
    stopped_ = interrupted();
    catch_interrupts();
  }

  std::vector<Message> with_system() const {
    std::vector<Message> all;
    if (!system_.empty()) all.push_back({"system", system_});
    all.insert(all.end(), messages_.begin(), messages_.end());
    return all;
  }

  // Brings the session to the conversation's tokens; what it holds of them already is kept.
  Status prefill() {
    const std::vector<int32_t> ids = model_.chat_tokenize(text_of(json_of(with_system()), -1));
    if (ids.size() >= info_.context_length) {
      return error(
          Code::kOutOfMemory,
          "the conversation has {} tokens, and the context holds {}: /clear starts anew (llcc compile --ctx-size)",
          ids.size(), info_.context_length);
    }
    // The last token is computed again: its logits are wanted.
    size_t same = 0;
    while (same < held_.size() && same + 1 < ids.size() && held_[same] == ids[same]) ++same;
    session_.truncate(same);
    held_.resize(same);
    while (held_.size() < ids.size() && !interrupted()) {
      const size_t count = std::min<size_t>(info_.max_step_tokens, ids.size() - held_.size());
      session_.prefill(std::span(ids).subspan(held_.size(), count));
      held_.insert(held_.end(), ids.begin() + static_cast<ptrdiff_t>(held_.size()),
                   ids.begin() + static_cast<ptrdiff_t>(held_.size() + count));
    }
    return {};
  }

  // Adds the model's answer to the conversation and prints it as it comes.
  Status answer() {
    const Stopwatch begun;
    TRY(prefill());
    llrt::SampleParams sample = options_.sample;
    // Each answer draws anew, and a conversation with the same seed is the same.
    sample.seed += draws_++;
    llrt::Detokenizer text(model_);
    std::string said;
    int32_t tokens = 0;
    double first = 0;
    bool full = false;
    while (!interrupted() && (options_.count < 0 || tokens < options_.count)) {
      const int32_t token = session_.sample(sample);
      if (tokens++ == 0) first = begun.seconds();
      if (model_.is_eos(token)) break;
      TRY(print(text.next(token), said));
      if (held_.size() >= info_.context_length) {
        full = true;
        break;
      }
      session_.decode(token);
      held_.push_back(token);
    }
    TRY(print(text.flush(), said));
    messages_.push_back({"assistant", said});
    const double seconds = begun.seconds() - first;
    std::string line = fmt::format("\n{} tokens", tokens);
    if (tokens > 1 && seconds > 0) line += fmt::format(", {:.1f} tokens/s", (tokens - 1) / seconds);
    line += fmt::format(", first after {:.0f} ms", first * 1e3);
    if (interrupted()) line += ", stopped";
    if (full) line += ", the context is full: /clear starts anew";
    note(line);
    return {};
  }

  Status print(std::string_view part, std::string& said) {
    said += part;
    const std::string shown = terminal_ ? harmless(part) : std::string(part);
    if (shown.empty()) return {};
    if (std::fwrite(shown.data(), 1, shown.size(), stdout) != shown.size() || std::fflush(stdout) != 0) {
      return error(Code::kIo, "cannot write to stdout: {}", strerror(errno));
    }
    return {};
  }

  // ---- Commands ----

  // False: leave.
  bool command(const std::string& line) {
    const size_t space = std::min(line.find_first_of(" \t\n"), line.size());
    const std::string name = line.substr(1, space - 1);
    const size_t begin = line.find_first_not_of(" \t\n", space);
    const std::string rest =
        begin == std::string::npos ? "" : line.substr(begin, line.find_last_not_of(" \t\n") + 1 - begin);
    if (name == "quit" || name == "exit") return false;
    if (name == "help") {
      note(kHelp);
    } else if (name == "clear") {
      messages_.clear();
    } else if (name == "system") {
      system_ = rest;
      messages_.clear();
      note(rest.empty() ? "no system message any more\n" : "a new conversation begins\n");
    } else if (name == "set") {
      set(rest);
    } else if (name == "save") {
      if (const Status saved = save(rest); !saved) note(saved.error().message + "\n");
    } else if (name == "regen") {
      if (!messages_.empty() && messages_.back().role == "assistant") messages_.pop_back();
      if (messages_.empty()) {
        note("there is no message to answer\n");
      } else {
        reply();
      }
    } else {
      note(fmt::format("there is no /{}; /help lists what there is\n", name));
    }
    return true;
  }

  struct Setting {
    const char* name;
    double least, most;
    bool whole;
    double (*get)(const ChatOptions&);
    void (*put)(ChatOptions&, double);
  };
  static std::span<const Setting> settings() {
    using O = ChatOptions;
    static constexpr Setting kSettings[] = {
        {"temperature", 0, 100, false, [](const O& o) { return double{o.sample.temperature}; },
         [](O& o, double v) { o.sample.temperature = static_cast<float>(v); }},
        {"top_k", 0, INT32_MAX, true, [](const O& o) { return double(o.sample.top_k); },
         [](O& o, double v) { o.sample.top_k = static_cast<int32_t>(v); }},
        {"top_p", 0, 1, false, [](const O& o) { return double{o.sample.top_p}; },
         [](O& o, double v) { o.sample.top_p = static_cast<float>(v); }},
        {"min_p", 0, 1, false, [](const O& o) { return double{o.sample.min_p}; },
         [](O& o, double v) { o.sample.min_p = static_cast<float>(v); }},
        {"repeat_penalty", 0.01, 100, false, [](const O& o) { return double{o.sample.repetition_penalty}; },
         [](O& o, double v) { o.sample.repetition_penalty = static_cast<float>(v); }},
        {"seed", 0, 9007199254740991, true, [](const O& o) { return static_cast<double>(o.sample.seed); },
         [](O& o, double v) { o.sample.seed = static_cast<uint64_t>(v); }},
        {"count", -1, INT32_MAX, true, [](const O& o) { return double(o.count); },
         [](O& o, double v) { o.count = static_cast<int32_t>(v); }},
    };
    return kSettings;
  }

  void set(const std::string& rest) {
    const size_t space = std::min(rest.find_first_of(" \t="), rest.size());
    const std::string name = rest.substr(0, space);
    const size_t begin = rest.find_first_not_of(" \t=", space);
    const std::string text = begin == std::string::npos ? "" : rest.substr(begin);
    for (const Setting& s : settings()) {
      if (name.empty()) note(fmt::format("  {:<15} {}\n", s.name, number(s.get(options_))));
      if (name != s.name) continue;
      double value = 0;
      const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (failed != std::errc() || end != text.data() + text.size() || !(value >= s.least && value <= s.most) ||
          (s.whole && value != static_cast<double>(static_cast<int64_t>(value)))) {
        return note(fmt::format("{} takes a{} number of {} to {}\n", s.name, s.whole ? " whole" : "", number(s.least),
                                number(s.most)));
      }
      s.put(options_, value);
      if (name == std::string_view("seed")) draws_ = 0;
      return;
    }
    if (!name.empty()) note(fmt::format("there is no setting {}; /set lists them\n", name));
  }

  static std::string number(double value) {
    return fmt::format("{:.16g}", std::abs(value) < 1e6 ? std::round(value * 1e6) / 1e6 : value);
  }

  // A file that is there is not written over.
  Status save(const std::string& path) const {
    if (path.empty()) return usage("/save takes the name of a file");
    std::string text;
    if (path.ends_with(".json")) {
      text = text_of({{"messages", json_of(with_system())}}, 2) + "\n";
    } else {
      for (const Message& m : with_system()) text += fmt::format("**{}**\n\n{}\n\n", m.role, m.content);
    }
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return error(Code::kCannotCreate, "cannot create {}: {}", path, strerror(errno));
    const bool whole = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    if (close(fd) != 0 || !whole) return error(Code::kIo, "cannot write {}: {}", path, strerror(errno));
    note(fmt::format("saved {}\n", path));
    return {};
  }

  const llrt::Model& model_;
  llrt_model_info info_;
  ChatOptions options_;
  llrt::Session session_;
  std::vector<int32_t> held_;  // the session's tokens
  std::string system_;
  std::vector<Message> messages_;
  uint64_t draws_ = 0;
  bool terminal_ = false, colours_ = false;
  bool stopped_ = false;  // the last answer, by Ctrl-C
};

}  // namespace

Status run_chat(const llrt::Model& model, const ChatOptions& options) {
  // Whether it can chat at all is better known before anything is entered.
  try {
    model.chat_tokenize(R"([{"role": "user", "content": "x"}])");
  } catch (const llrt::Error& e) {
    if (e.status() == LLRT_UNSUPPORTED) throw;
  }
  Chat chat(model, options);
  if (options.prompt) return chat.one_answer(*options.prompt);
  if (isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0) return chat.converse();
  TRY_ASSIGN(std::string message, read_stdin());
  // The line end that echo and editors put at the end is no part of what is meant.
  while (message.ends_with('\n')) message.pop_back();
  return chat.one_answer(message);
}

}  // namespace ll
