#include "runtime/serve/generation.h"

#include <algorithm>
#include <cmath>

namespace ll::serve {
Generation::Generation(const Services& services, Prepared prepared, std::shared_ptr<const ServedModel> model,
                       std::shared_ptr<Exchange> exchange, RequestFacts facts, std::string answer_id, Time deadline)
    : services_(services),
      exchange_(std::move(exchange)),
      facts_(std::move(facts)),
      answer_(std::move(model), std::move(prepared), std::move(answer_id),
              std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
                  .count()),
      deadline_(deadline),
      written_(services.now) {}

Generation::~Generation() {
  if (!ended_) cancel();
}

std::optional<ApiError> Generation::start() {
  for (const Request& request : answer_.prepared().requests) {
    Submission submission = services_.engine.submit(request);
    if (submission.refusal != Refusal::kNone) {
      cancel();
      ended_ = true;
      switch (submission.refusal) {
        case Refusal::kFull: {
          ApiError error{429, "The server is busy: its queue is full.", {}};
          error.retry_after = std::clamp(static_cast<int>(std::ceil(submission.retry_after.count())), 1, 600);
          return error;
        }
        case Refusal::kDraining:
          return ApiError{503, "The server is shutting down.", {}};
        case Refusal::kFailed:
          return ApiError{503, "The device was lost; the server is about to restart.", {}};
        default:
          return from_error(submission.error);
      }
    }
    ids_.push_back(submission.stream->id());
    streams_.push_back(std::move(submission.stream));
    const auto number = [](auto value) { return static_cast<double>(value); };
    services_.metrics.prompt_tokens.add(number(request.prompt.size()));
    services_.metrics.max_tokens.add(number(request.max_tokens));
    services_.metrics.n.add(number(request.sequences));
    last_token_.resize(last_token_.size() + request.sequences);
  }
  ++services_.metrics.requests;
  if (answer_.prepared().stream) {
    exchange_->begin({.content_type = "text/event-stream", .headers = facts_.headers});
  }
  return std::nullopt;
}

void Generation::cancel() {
  for (const RequestId id : ids_) services_.engine.cancel(id);
}

void Generation::finish(const char* how) {
  ended_ = true;
  how_ = how;
  exchange_->on_gone = nullptr;
  exchange_->on_room = nullptr;
  ServerMetrics& m = services_.metrics;
  const std::string_view text = how;
  if (text == "stop" || text == "tool_calls") {
    ++m.finished_stop;
  } else if (text == "length") {
    ++m.finished_length;
  } else {
    ++m.finished_abort;
  }
  m.generation_tokens.add(static_cast<double>(answer_.completion_tokens()));
  m.longest_answer.add(static_cast<double>(answer_.longest_answer()));
  m.most_sequence = std::max(m.most_sequence, answer_.longest_prompt() + answer_.longest_answer());
  m.end_to_end.add(seconds(services_.now - facts_.arrived));
}

// Times of tokens, for the histograms and the answer's own timings.
void Generation::record(size_t prompt, const Event& event) {
  ServerMetrics& m = services_.metrics;
  if (const auto* done = std::get_if<DoneEvent>(&event)) {
    m.queue_time.add(done->queued.count());
    m.prefill_time.add(done->prefill.count());
    m.decode_time.add(done->decode.count());
    m.inference_time.add(done->prefill.count() + done->decode.count());
    return;
  }
  const auto* token = std::get_if<TokenEvent>(&event);
  if (token == nullptr) return;
  if (first_token_ < 0) {
    first_token_ = seconds(services_.now - facts_.arrived);
    m.time_to_first_token.add(first_token_);
  }
  size_t choice = token->index;
  for (size_t i = 0; i < prompt; ++i) choice += answer_.prepared().requests[i].sequences;
  if (choice < last_token_.size()) {
    Time& last = last_token_[choice];
    if (last != Time()) m.inter_token_latency.add(seconds(services_.now - last));
    last = services_.now;
  }
  answer_.set_times(Seconds(first_token_), Seconds(seconds(services_.now - facts_.arrived) - first_token_));
}

void Generation::take(size_t prompt, std::string& out) {
  events_.clear();
  streams_[prompt]->take(events_);
  for (const Event& event : events_) {
    record(prompt, event);
    const Answer::Effect effect = answer_.event(prompt, event, out);
    if (effect.cancel) {
      const auto* token = std::get_if<TokenEvent>(&event);
      services_.engine.cancel(ids_[prompt], token == nullptr ? std::nullopt : std::optional(token->index));
    }
    if (effect.error) {
      exchange_->write(out);
      out.clear();
      return give_up(*effect.error);
    }
    if (!effect.done) continue;
    if (answer_.prepared().stream) {
      answer_.finish_stream(out);
      exchange_->write(out);
      out.clear();
      finish(answer_.finish_reason());
      exchange_->end();
    } else {
      finish(answer_.finish_reason());
      exchange_->respond({.body = answer_.body(), .headers = facts_.headers});
    }
    return;
  }
}

void Generation::pull() {
  std::string out;
  for (size_t i = 0; i < streams_.size() && !ended_; ++i) {
    if (exchange_->full()) break;
    take(i, out);
    if (!ended_ && !out.empty()) {
      exchange_->write(out);
      written_ = services_.now;
    }
    out.clear();
  }
}

void Generation::abandon() {
  if (ended_) return;
  cancel();
  ++services_.metrics.disconnects;
  finish("abort");
}

void Generation::give_up(const ApiError& error) {
  if (ended_) return;
  cancel();
  status_ = error.status;
  finish("error");
  if (exchange_->begun()) {
    exchange_->write("data: " + error_body(error) + "\n\n");
    exchange_->end();
  } else {
    exchange_->respond({.status = error.status, .body = error_body(error), .headers = facts_.headers});
  }
}

void Generation::ping(Milliseconds silence) {
  if (ended_ || !exchange_->begun() || services_.now - written_ < silence) return;
  exchange_->write(": ping\n\n");
  written_ = services_.now;
}

}  // namespace ll::serve
