#include "runtime/serve/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "runtime/serve/json_writer.h"

namespace ll::serve {

// A token with its log-probabilities.
struct Answer::Entry {
  int32_t token = 0;
  bool has_logprob = true;  // false: the prompt's first token
  float logprob = 0;
  std::vector<TokenLogprob> top;
  size_t offset = 0;  // of its text in the choice's
  size_t end = 0;     // bytes of text, given out and held back, when it had come
};

struct Answer::Choice {
  Choice(const ServedModel& model, const Prepared& prepared, uint32_t index_)
      : index(index_),
        text_of(model.tokenizer, {.show_special = true, .continues = true}),
        stops(prepared.stops),
        parser(prepared.reply) {}

  uint32_t index;
  Detokenizer text_of;
  StopMatcher stops;
  ReplyParser parser;  // chat
  bool begun = false;  // its first part was sent
  bool ended = false;
  const char* finish_reason = nullptr;
  std::optional<int32_t> stop_token;
  uint32_t tokens = 0, reasoning_tokens = 0;
  std::string text, reasoning;
  std::vector<Call> calls;
  std::vector<int32_t> ids;
  std::vector<Entry> entries;
  size_t raw_bytes = 0;     // that the tokens so far stand for
  size_t passed_bytes = 0;  // of these, let through by `stops`
  size_t sent_entries = 0, sent_ids = 0;
};

namespace {

// JSON has no -infinity.
double finite_logprob(float value) {
  return std::max(-9999.0, static_cast<double>(std::isnan(value) ? -9999.0F : value));
}

}  // namespace

Answer::Answer(std::shared_ptr<const ServedModel> model, Prepared prepared, std::string id, int64_t created)
    : model_(std::move(model)), prepared_(std::move(prepared)), id_(std::move(id)), created_(created) {
  prompt_entries_.resize(prepared_.requests.size());
  uint32_t index = 0;
  for (const Request& request : prepared_.requests) {
    for (uint32_t i = 0; i < request.sequences; ++i) {
      choices_.push_back(std::make_unique<Choice>(*model_, prepared_, index++));
    }
  }
  for (const std::string_view marker : tool_markers(prepared_.reply.tools)) {
    if (const int32_t token = model_->tokenizer.find(marker); token >= 0) shown_special_.push_back(token);
  }
  if (prepared_.reply.reasoning) {
    for (const std::string_view marker : {kThinkOpen, kThinkClose}) {
      if (const int32_t token = model_->tokenizer.find(marker); token >= 0) shown_special_.push_back(token);
    }
  }
  std::sort(shown_special_.begin(), shown_special_.end());
  const char* object = !prepared_.chat    ? "text_completion"
                       : prepared_.stream ? "chat.completion.chunk"
                                          : "chat.completion";
  JsonWriter json(head_);
  json.begin_object().string("id", id_).string("object", object).integer("created", created_);
  json.string("model", model_->name).string("system_fingerprint", "llrt-" LLCUDA_VERSION);
}

Answer::~Answer() = default;

uint64_t Answer::prompt_tokens() const {
  uint64_t tokens = 0;
  for (const Request& r : prepared_.requests) tokens += r.prompt.size();
  return tokens;
}

uint64_t Answer::longest_prompt() const {
  size_t most = 0;
  for (const Request& r : prepared_.requests) most = std::max(most, r.prompt.size());
  return most;
}

const char* Answer::finish_reason() const {
  return choices_[0]->finish_reason == nullptr ? "" : choices_[0]->finish_reason;
}

Answer::Effect Answer::event(size_t prompt, const Event& event, std::string& out) {
  Effect effect;
  size_t first = 0;
  for (size_t i = 0; i < prompt; ++i) first += prepared_.requests[i].sequences;
  if (const auto* token_event = std::get_if<TokenEvent>(&event)) {
    Choice& choice = *choices_[first + token_event->index];
    if (!choice.begun) {
      choice.begun = true;
      if (prepared_.stream && prepared_.chat) {
        begin_chunk(out);
        out += fmt::format(
            R"("choices":[{{"index":{},"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}])",
            choice.index);
        if (prepared_.include_usage && !prepared_.continuous_usage) out += ",\"usage\":null";
        if (prepared_.continuous_usage) out += ",\"usage\":" + usage();
        out += "}\n\n";
      }
      if (!prepared_.reply_opening.empty()) {
        std::vector<Delta> deltas;
        choice.parser.push(prepared_.reply_opening, deltas);
        take_deltas(choice, deltas, out);
      }
      if (prepared_.echo) echo(choice, prompt, out);
    }
    token(choice, *token_event, effect, out);
  } else if (const auto* scored = std::get_if<PromptEvent>(&event)) {
    prompt_entries_[prompt].push_back({scored->token, true, scored->logprob, scored->top});
  } else if (const auto* finish = std::get_if<FinishedEvent>(&event)) {
    finished(*choices_[first + finish->index], *finish, effect, out);
  } else if (const auto* done = std::get_if<DoneEvent>(&event)) {
    if (done_ == 0) totals_ = {};
    cached_tokens_ += done->cached_tokens;
    totals_.prompt_tokens += done->prompt_tokens;
    totals_.prefill += done->prefill;
    totals_.decode += done->decode;
    effect.done = ++done_ == prepared_.requests.size();
  }
  return effect;
}

void Answer::set_times(Seconds prefill, Seconds decode) {
  if (done_ > 0) return;
  totals_.prefill = prefill;
  totals_.decode = decode;
}

// The prompt's text, and its tokens' log-probabilities, in front of the answer.
void Answer::echo(Choice& choice, size_t prompt, std::string& out) {
  const std::vector<int32_t>& ids = prepared_.requests[prompt].prompt;
  const std::string text = model_->tokenizer.decode(ids, {.show_special = !prepared_.skip_special});
  if (prepared_.logprobs) {
    size_t offset = 0;
    const auto& scored = prompt_entries_[prompt];
    for (size_t i = 0; i < ids.size(); ++i) {
      Entry entry;
      entry.token = ids[i];
      entry.has_logprob = i > 0 && i - 1 < scored.size();
      if (entry.has_logprob) {
        entry.logprob = scored[i - 1].logprob;
        entry.top = scored[i - 1].top;
      }
      entry.offset = std::min(offset, text.size());
      if (!model_->hidden[static_cast<size_t>(ids[i])] || !prepared_.skip_special) {
        offset += token_bytes(model_->tokenizer, ids[i]).size();
      }
      choice.entries.push_back(std::move(entry));
    }
  }
  choice.raw_bytes += text.size();
  choice.passed_bytes += text.size();
  for (Entry& entry : choice.entries) entry.end = choice.raw_bytes;
  std::vector<Delta> deltas = {{Delta::Kind::kContent, text}};
  take_deltas(choice, deltas, out);
}

void Answer::token(Choice& choice, const TokenEvent& event, Effect& effect, std::string& out) {
  if (choice.ended || prepared_.no_answer) return;
  ++choice.tokens;
  ++completion_tokens_;
  longest_answer_ = std::max<uint64_t>(longest_answer_, choice.tokens);
  if (prepared_.token_ids) choice.ids.push_back(event.token);
  const bool hidden = event.token >= 0 && static_cast<size_t>(event.token) < model_->hidden.size() &&
                      model_->hidden[static_cast<size_t>(event.token)];
  const bool marker = std::binary_search(shown_special_.begin(), shown_special_.end(), event.token);
  std::string text;
  if (event.ends) {
    if (prepared_.include_stop && !(hidden && prepared_.skip_special)) text = choice.text_of.push(event.token);
  } else if (!hidden || marker || !prepared_.skip_special) {
    text = choice.text_of.push(event.token);
  }
  if (prepared_.logprobs) {
    Entry entry{event.token, true, event.logprob, event.top, choice.raw_bytes, choice.raw_bytes + text.size()};
    choice.entries.push_back(std::move(entry));
  }
  choice.raw_bytes += text.size();
  const size_t thoughts = choice.reasoning.size(), said = choice.text.size() + choice.calls.size();
  std::string passed;
  const bool stopped = choice.stops.push(text, passed);
  choice.passed_bytes += passed.size();
  if (stopped && prepared_.include_stop) passed += choice.stops.stop(*choice.stops.found());
  take_text(choice, passed, out);
  if (choice.reasoning.size() > thoughts && said == choice.text.size() + choice.calls.size()) ++reasoning_tokens_;
  if (stopped) {
    effect.cancel = true;
    end_choice(choice, "stop", out);
  } else if (prepared_.one_call && choice.parser.calls() > 0) {
    effect.cancel = true;
    end_choice(choice, "stop", out);
  }
}

void Answer::finished(Choice& choice, const FinishedEvent& event, Effect& effect, std::string& out) {
  if (event.reason == FinishReason::kError) {
    effect.error = from_error(event.error);
    // Logits that are no numbers are the model's fault or ours, not the client's.
    if (effect.error->status < 500) effect.error->status = 500;
    return;
  }
  if (choice.ended) return;
  if (prepared_.no_answer) return end_choice(choice, "length", out);
  std::string passed;
  const std::string rest = choice.text_of.finish();
  choice.raw_bytes += rest.size();
  const bool stopped = choice.stops.push(rest, passed);
  choice.stops.finish(passed);
  choice.passed_bytes = choice.raw_bytes;
  take_text(choice, passed, out);
  if (event.reason == FinishReason::kStop && event.stop_token >= 0) choice.stop_token = event.stop_token;
  end_choice(choice, stopped || event.reason == FinishReason::kStop ? "stop" : "length", out);
}

void Answer::take_text(Choice& choice, std::string_view text, std::string& out) {
  if (text.empty()) return;
  std::vector<Delta> deltas;
  if (prepared_.chat) {
    choice.parser.push(text, deltas);
  } else {
    deltas.push_back({Delta::Kind::kContent, std::string(text)});
  }
  take_deltas(choice, deltas, out);
}

void Answer::take_deltas(Choice& choice, std::vector<Delta>& deltas, std::string& out) {
  for (Delta& delta : deltas) {
    switch (delta.kind) {
      case Delta::Kind::kContent:
        choice.text += delta.text;
        break;
      case Delta::Kind::kReasoning:
        choice.reasoning += delta.text;
        if (prepared_.reasoning_in_content) choice.text += delta.text;
        break;
      case Delta::Kind::kCall:
        delta.id = call_id(choice, delta);
        choice.calls.push_back({delta.id, delta.text, {}});
        break;
      case Delta::Kind::kArguments:
        choice.calls.back().arguments += delta.text;
        break;
    }
    if (prepared_.stream) chunk(choice, &delta, out);
  }
}

std::string Answer::call_id(const Choice& choice, const Delta& delta) const {
  if (!delta.id.empty() && delta.id.size() <= 64) return delta.id;
  // Nine letters and digits: what the templates of Mistral ask for, and what nobody else minds.
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : fmt::format("{}/{}/{}", id_, choice.index, choice.calls.size())) {
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3;
  }
  constexpr std::string_view kLetters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::string id;
  for (int i = 0; i < 9; ++i, hash /= kLetters.size()) id += kLetters[hash % kLetters.size()];
  return id;
}

void Answer::end_choice(Choice& choice, const char* reason, std::string& out) {
  if (prepared_.chat) {
    std::vector<Delta> deltas;
    choice.parser.finish(deltas);
    take_deltas(choice, deltas, out);
  }
  choice.ended = true;
  choice.passed_bytes = choice.raw_bytes;
  const bool stop = std::string_view(reason) == "stop";
  choice.finish_reason = stop && !choice.calls.empty() ? "tool_calls" : reason;
  if (prepared_.stream) chunk(choice, nullptr, out);
}

void Answer::begin_chunk(std::string& out) const {
  out += "data: ";
  out += head_;
  out += ',';
}

// One event of a stream; without a delta, the choice's last.
void Answer::chunk(Choice& choice, const Delta* delta, std::string& out) {
  begin_chunk(out);
  std::string body;
  JsonWriter json(body);
  json.begin_object().integer("index", choice.index);
  const bool content = delta != nullptr && delta->kind == Delta::Kind::kContent;
  if (!prepared_.chat) {
    json.string("text", delta == nullptr ? std::string_view() : std::string_view(delta->text));
  } else {
    json.key("delta").begin_object();
    if (content) {
      json.string("content", delta->text);
    } else if (delta != nullptr && delta->kind == Delta::Kind::kReasoning) {
      json.string("reasoning_content", delta->text);
      if (prepared_.reasoning_in_content) json.string("content", delta->text);
    } else if (delta != nullptr) {
      json.key("tool_calls").begin_array().begin_object();
      json.integer("index", static_cast<int64_t>(choice.calls.size()) - 1);
      if (delta->kind == Delta::Kind::kCall) json.string("id", delta->id).string("type", "function");
      json.key("function").begin_object();
      if (delta->kind == Delta::Kind::kCall) json.string("name", delta->text);
      json.string("arguments", delta->kind == Delta::Kind::kCall ? std::string_view() : std::string_view(delta->text));
      json.end_object().end_object().end_array();
    }
    json.end_object();
  }
  // Tokens whose text is out by now; the last part takes the rest.
  size_t end = choice.sent_entries;
  while (end < choice.entries.size() && (delta == nullptr || choice.entries[end].end <= choice.passed_bytes)) ++end;
  if (prepared_.logprobs && end > choice.sent_entries) {
    json.raw("logprobs", logprobs(choice.entries.begin() + static_cast<ptrdiff_t>(choice.sent_entries),
                                  choice.entries.begin() + static_cast<ptrdiff_t>(end)));
    choice.sent_entries = end;
  } else {
    json.null("logprobs");
  }
  if (delta != nullptr) {
    json.null("finish_reason");
  } else {
    json.string("finish_reason", choice.finish_reason);
    if (choice.stops.found()) {
      json.string("stop_reason", choice.stops.stop(*choice.stops.found()));
    } else if (choice.stop_token) {
      json.integer("stop_reason", *choice.stop_token);
    } else {
      json.null("stop_reason");
    }
  }
  if (prepared_.token_ids) {
    json.key("token_ids").begin_array();
    for (; choice.sent_ids < choice.ids.size(); ++choice.sent_ids) json.integer(choice.ids[choice.sent_ids]);
    json.end_array();
  }
  json.end_object();
  out += "\"choices\":[" + body + "]";
  if (prepared_.continuous_usage) {
    out += ",\"usage\":" + usage();
  } else if (prepared_.include_usage) {
    out += ",\"usage\":null";
  }
  if (prepared_.timings) out += ",\"timings\":" + timings();
  out += "}\n\n";
}

void Answer::finish_stream(std::string& out) {
  if (prepared_.include_usage) {
    begin_chunk(out);
    out += "\"choices\":[],\"usage\":" + usage() + ",\"timings\":" + timings() + "}\n\n";
  }
  out += "data: [DONE]\n\n";
}

std::string Answer::entry_json(const Entry& entry) const {
  std::string out;
  JsonWriter json(out);
  const auto one = [&](int32_t token, float logprob) {
    const std::string bytes = token_bytes(model_->tokenizer, token);
    json.string("token", bytes).number("logprob", finite_logprob(logprob)).key("bytes").begin_array();
    for (const char c : bytes) json.integer(static_cast<uint8_t>(c));
    json.end_array();
  };
  json.begin_object();
  one(entry.token, entry.logprob);
  json.key("top_logprobs").begin_array();
  for (const TokenLogprob& t : entry.top) {
    json.begin_object();
    one(t.token, t.logprob);
    json.end_object();
  }
  json.end_array().end_object();
  return out;
}

std::string Answer::logprobs(std::vector<Entry>::const_iterator begin, std::vector<Entry>::const_iterator end) const {
  std::string out;
  JsonWriter json(out);
  json.begin_object();
  if (prepared_.chat) {
    json.key("content").begin_array();
    for (auto e = begin; e != end; ++e) json.raw(entry_json(*e));
    json.end_array().null("refusal").end_object();
    return out;
  }
  json.key("tokens").begin_array();
  for (auto e = begin; e != end; ++e) json.string(token_bytes(model_->tokenizer, e->token));
  json.end_array().key("token_logprobs").begin_array();
  for (auto e = begin; e != end; ++e) {
    if (e->has_logprob) {
      json.number(finite_logprob(e->logprob));
    } else {
      json.null();
    }
  }
  json.end_array().key("top_logprobs").begin_array();
  for (auto e = begin; e != end; ++e) {
    if (!e->has_logprob) {
      json.null();
      continue;
    }
    // Different tokens may print alike: the more likely one counts.
    std::map<std::string, float> top;
    for (const TokenLogprob& t : e->top) top.emplace(token_bytes(model_->tokenizer, t.token), t.logprob);
    top.emplace(token_bytes(model_->tokenizer, e->token), e->logprob);
    json.begin_object();
    for (const auto& [text, logprob] : top) json.number(text, finite_logprob(logprob));
    json.end_object();
  }
  json.end_array().key("text_offset").begin_array();
  for (auto e = begin; e != end; ++e) json.integer(static_cast<int64_t>(e->offset));
  json.end_array().end_object();
  return out;
}

std::string Answer::usage() const {
  std::string out;
  JsonWriter json(out);
  const auto prompt = static_cast<int64_t>(prompt_tokens()), answer = static_cast<int64_t>(completion_tokens_);
  json.begin_object().integer("prompt_tokens", prompt).integer("completion_tokens", answer);
  json.integer("total_tokens", prompt + answer);
  json.key("prompt_tokens_details")
      .begin_object()
      .integer("cached_tokens", static_cast<int64_t>(cached_tokens_))
      .end_object();
  json.key("completion_tokens_details").begin_object();
  json.integer("reasoning_tokens", static_cast<int64_t>(reasoning_tokens_)).end_object();
  json.end_object();
  return out;
}

std::string Answer::timings() const {
  const double prompt_ms = totals_.prefill.count() * 1e3, answer_ms = totals_.decode.count() * 1e3;
  const auto cached = static_cast<double>(cached_tokens_);
  const double prompt = std::max(0.0, static_cast<double>(prompt_tokens()) - cached);
  const auto answer = static_cast<double>(completion_tokens_);
  const auto per = [](double a, double b) { return b > 0 ? a / b : 0; };
  std::string out;
  JsonWriter json(out);
  json.begin_object().number("cache_n", cached).number("prompt_n", prompt).number("prompt_ms", prompt_ms);
  json.number("prompt_per_token_ms", per(prompt_ms, prompt)).number("prompt_per_second", per(prompt * 1e3, prompt_ms));
  json.number("predicted_n", answer).number("predicted_ms", answer_ms);
  json.number("predicted_per_token_ms", per(answer_ms, answer))
      .number("predicted_per_second", per(answer * 1e3, answer_ms));
  json.end_object();
  return out;
}

std::string Answer::body() const {
  std::string out = head_ + ",";
  std::string list;
  JsonWriter json(list);
  json.begin_array();
  for (const auto& choice : choices_) {
    json.begin_object().integer("index", choice->index);
    if (!prepared_.chat) {
      json.string("text", choice->text);
    } else {
      json.key("message").begin_object().string("role", "assistant");
      if (choice->text.empty() && !choice->calls.empty()) {
        json.null("content");
      } else {
        json.string("content", choice->text);
      }
      json.null("refusal");
      if (!choice->reasoning.empty()) json.string("reasoning_content", choice->reasoning);
      if (!choice->calls.empty()) {
        json.key("tool_calls").begin_array();
        for (const Call& call : choice->calls) {
          json.begin_object().string("id", call.id).string("type", "function").key("function").begin_object();
          json.string("name", call.name).string("arguments", call.arguments).end_object().end_object();
        }
        json.end_array();
      }
      json.end_object();
    }
    if (prepared_.logprobs) {
      json.raw("logprobs", logprobs(choice->entries.begin(), choice->entries.end()));
    } else {
      json.null("logprobs");
    }
    json.string("finish_reason", choice->finish_reason == nullptr ? "length" : choice->finish_reason);
    if (choice->stops.found()) {
      json.string("stop_reason", choice->stops.stop(*choice->stops.found()));
    } else if (choice->stop_token) {
      json.integer("stop_reason", *choice->stop_token);
    } else {
      json.null("stop_reason");
    }
    if (prepared_.token_ids) {
      json.key("token_ids").begin_array();
      for (const int32_t id : choice->ids) json.integer(id);
      json.end_array();
    }
    json.end_object();
  }
  json.end_array();
  out += "\"choices\":" + list + ",\"usage\":" + usage() + ",\"timings\":" + timings() + "}";
  return out;
}

}  // namespace ll::serve
