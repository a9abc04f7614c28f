#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <llrt.hpp>
#include <nlohmann/json.hpp>
#include <optional>

#include "tools/llrt/chat.h"
#include "tools/llrt/commands.h"
#include "tools/llrt/interrupt.h"
#include "tools/llrt/line_editor.h"
#include "tools/llrt/open_model.h"
#include "tools/llrt/read_stdin.h"
#include "tools/llrt/stopwatch.h"

namespace ll {
namespace {

constexpr int32_t kCount = 256;

struct RunArguments {
  ModelOptions model;
  std::optional<std::string> prompt;
  std::vector<int32_t> ids;
  std::optional<int32_t> count;
  llrt::SampleParams sample;
  bool chat = false, no_history = false;
  std::optional<std::string> system;
  bool json = false, ignore_eos = false, show_special = false, no_add_special = false, no_parse_special = false;
};

Result<std::vector<int32_t>> prompt_ids(const llrt::Model& model, const llrt_model_info& info,
                                        const RunArguments& options) {
  if (!options.ids.empty()) return options.ids;
  if (info.has_tokenizer == 0)
    return unsupported("the plan has no tokenizer: give token ids (--ids 1,2,3) instead of text");
  std::string text;
  if (options.prompt) {
    text = *options.prompt;
  } else {
    TRY_ASSIGN(text, read_stdin());
  }
  const uint32_t flags = (options.no_add_special ? 0U : uint32_t{LLRT_ADD_SPECIAL}) |
                         (options.no_parse_special ? 0U : uint32_t{LLRT_PARSE_SPECIAL});
  std::vector<int32_t> ids = model.tokenize(text, flags);
  // The text may spell the BOS that was added.
  if (!options.no_add_special && ids.size() > 1 && ids[0] == info.bos_token && ids[1] == info.bos_token)
    ids.erase(ids.begin());
  if (ids.empty() && info.bos_token >= 0) ids.push_back(info.bos_token);
  if (ids.empty()) return usage("the prompt is empty and the model has no BOS token to begin with");
  return ids;
}

// Writes what is generated as it comes: text, or ids where there is no tokenizer. Quiet with --json.
class Output {
 public:
  Output(const llrt::Model& model, bool has_tokenizer, const RunArguments& options) : quiet_(options.json) {
    const uint32_t flags = LLRT_CONTINUES | (options.show_special ? uint32_t{LLRT_SHOW_SPECIAL} : 0U);
    if (has_tokenizer) detokenizer_.emplace(model, flags);
  }
  Status token(int32_t id) {
    if (detokenizer_) return write(detokenizer_->next(id));
    return write(std::to_string(id) + " ");
  }
  Status finish() {
    if (detokenizer_) TRY(write(detokenizer_->flush()));
    // A terminal's prompt belongs on a line of its own; a file or pipe gets the text and nothing else.
    if (!quiet_ && isatty(STDOUT_FILENO) != 0) std::fputc('\n', stdout);
    return {};
  }
  const std::string& text() const { return text_; }

 private:
  Status write(std::string_view part) {
    if (quiet_) text_ += part;
    if (quiet_ || part.empty()) return {};
    if (std::fwrite(part.data(), 1, part.size(), stdout) != part.size() || std::fflush(stdout) != 0) {
      return error(Code::kIo, "cannot write to stdout: {}", strerror(errno));
    }
    return {};
  }

  bool quiet_;
  std::optional<llrt::Detokenizer> detokenizer_;
  std::string text_;
};

double per_second(size_t count, double seconds) { return seconds > 0 ? static_cast<double>(count) / seconds : 0; }

Status run(const RunArguments& options) {
  const Stopwatch since_start;
  const llrt::Model model = open_model(options.model);
  const llrt_model_info info = model.info();
  const double load_seconds = since_start.seconds();
  if (options.chat) {
    const int32_t count = options.count.value_or(-1);
    return run_chat(model, {options.sample, count, options.prompt, options.system.value_or(""),
                            options.no_history ? "" : History::default_path()});
  }
  const int32_t most = options.count.value_or(kCount);
  TRY_ASSIGN(const std::vector<int32_t> prompt, prompt_ids(model, info, options));
  llrt::Session session(model);
  Output output(model, info.has_tokenizer != 0, options);

  const Stopwatch since_prompt;
  for (size_t done = 0; done < prompt.size() && !interrupted();) {
    const size_t count = std::min<size_t>(info.max_step_tokens, prompt.size() - done);
    session.prefill(std::span(prompt).subspan(done, count));
    done += count;
  }
  const double prompt_seconds = since_prompt.seconds();

  std::vector<int32_t> ids;
  const char* finish = "length";
  double first_token_seconds = 0;
  const Stopwatch since_first;
  double decode_seconds = 0;
  while (true) {
    if (interrupted()) {
      finish = "interrupted";
      break;
    }
    if (most >= 0 && ids.size() >= static_cast<size_t>(most)) break;
    const int32_t token = session.sample(options.sample);
    if (ids.empty()) first_token_seconds = since_start.seconds();
    ids.push_back(token);
    if (!options.ignore_eos && model.is_eos(token)) {
      finish = "eos";
      break;
    }
    TRY(output.token(token));
    if (most >= 0 && ids.size() >= static_cast<size_t>(most)) break;
    if (session.length() >= info.context_length) {
      finish = "context";
      break;
    }
    session.decode(token);
  }
  decode_seconds = since_first.seconds();
  TRY(output.finish());

  // The first token comes from the prompt's logits: the others are what decoding took the time for.
  const size_t decoded = ids.empty() ? 0 : ids.size() - 1;
  const double prompt_rate = per_second(prompt.size(), prompt_seconds),
               decode_rate = per_second(decoded, decode_seconds);
  if (options.json) {
    const nlohmann::ordered_json json = {{"text", output.text()},
                                         {"ids", ids},
                                         {"finish", finish},
                                         {"prompt_tokens", prompt.size()},
                                         {"generated_tokens", ids.size()},
                                         {"timings",
                                          {{"load_ms", load_seconds * 1e3},
                                           {"prompt_ms", prompt_seconds * 1e3},
                                           {"first_token_ms", first_token_seconds * 1e3},
                                           {"decode_ms", decode_seconds * 1e3},
                                           {"prompt_tokens_per_second", prompt_rate},
                                           {"generated_tokens_per_second", decode_rate}}}};
    fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  // What went to stdout may not have ended its line.
  if (!options.json && isatty(STDOUT_FILENO) == 0) fmt::print(stderr, "\n");
  fmt::print(stderr,
             "prompt: {} tokens, {:.1f} tokens/s | generated: {} tokens, {:.1f} tokens/s | first token after {:.1f} ms "
             "(load {:.1f} ms)\n",
             prompt.size(), prompt_rate, ids.size(), decode_rate, first_token_seconds * 1e3, load_seconds * 1e3);
  if (std::string_view(finish) == "context") {
    fmt::print(stderr, "stopped: the context of {} tokens is full (llcc compile --ctx-size)\n", info.context_length);
  }
  return {};
}

}  // namespace

Command add_run(CLI::App& app) {
  auto options = std::make_shared<RunArguments>();
  RunArguments& o = *options;
  add_model_options(app, o.model);
  auto* prompt = app.add_option("-p,--prompt", o.prompt, "text to continue (default: all of stdin)")->type_name("TEXT");
  auto* ids = app.add_option("--ids", o.ids, "token ids to continue, separated by commas, instead of text")
                  ->delimiter(',')
                  ->excludes(prompt)
                  ->type_name("ID,..");
  app.add_option("-n,--count", o.count,
                 "tokens to generate at most; -1: until the context is full (default: 256, of a chat's answers: -1)")
      ->check(CLI::Range(-1, INT32_MAX))
      ->type_name("N");
  app.add_option("--temp", o.sample.temperature, "0: always the most likely token; higher: more surprises")
      ->capture_default_str()
      ->type_name("T");
  app.add_option("--top-k", o.sample.top_k, "with --temp: draw from the K most likely tokens; 0: from all")
      ->capture_default_str()
      ->type_name("K");
  app.add_option("--top-p", o.sample.top_p,
                 "with --temp: from the fewest tokens whose probabilities reach P; 1: from all")
      ->capture_default_str()
      ->type_name("P");
  app.add_option("--min-p", o.sample.min_p,
                 "with --temp: from tokens at least P times as likely as the best; 0: from all")
      ->capture_default_str()
      ->type_name("P");
  app.add_option("--repeat-penalty", o.sample.repetition_penalty, "divide the logits of recent tokens by X; 1: off")
      ->capture_default_str()
      ->type_name("X");
  app.add_option("--presence-penalty", o.sample.presence_penalty, "lower the logits of recent tokens by X")
      ->capture_default_str()
      ->type_name("X");
  app.add_option("--frequency-penalty", o.sample.frequency_penalty, "lower them by X for each time they came")
      ->capture_default_str()
      ->type_name("X");
  app.add_option("--penalty-window", o.sample.penalty_window, "how many last tokens are recent; -1: all")
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--seed", o.sample.seed, "the same seed draws the same text")->capture_default_str()->type_name("S");
  auto* ignore_eos = app.add_flag("--ignore-eos", o.ignore_eos, "go on after tokens that end an answer");
  auto* show_special = app.add_flag("--show-special", o.show_special, "spell special tokens out");
  auto* no_add_special =
      app.add_flag("--no-add-special", o.no_add_special, "put no BOS (or the like) around the prompt");
  auto* no_parse_special =
      app.add_flag("--no-parse-special", o.no_parse_special, "take special tokens spelled in the prompt as plain text");
  auto* json = app.add_flag("--json", o.json, "print text, ids and timings as one JSON object at the end");
  auto* chat = app.add_flag("--chat", o.chat,
                            "talk with the model; with -p, or stdin that is no terminal, one message and its answer");
  app.add_option("--system", o.system, "with --chat: what the model is told first")->needs(chat)->type_name("TEXT");
  app.add_flag("--no-history", o.no_history, "with --chat: keep what is entered in no file")->needs(chat);
  for (auto* other : {json, ids, ignore_eos, show_special, no_add_special, no_parse_special}) chat->excludes(other);
  return [options] { return run(*options); };
}

}  // namespace ll
