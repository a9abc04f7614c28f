#include "runtime/serve/http_connection.h"

#include <fmt/format.h>

#include <ctime>

namespace ll::serve {

const char* reason_phrase(int status) {
  struct Row {
    int status;
    const char* phrase;
  };
  constexpr Row kRows[] = {{200, "OK"},
                           {204, "No Content"},
                           {304, "Not Modified"},
                           {400, "Bad Request"},
                           {401, "Unauthorized"},
                           {403, "Forbidden"},
                           {404, "Not Found"},
                           {405, "Method Not Allowed"},
                           {408, "Request Timeout"},
                           {413, "Content Too Large"},
                           {414, "URI Too Long"},
                           {415, "Unsupported Media Type"},
                           {417, "Expectation Failed"},
                           {429, "Too Many Requests"},
                           {431, "Request Header Fields Too Large"},
                           {500, "Internal Server Error"},
                           {501, "Not Implemented"},
                           {503, "Service Unavailable"}};
  for (const Row& row : kRows) {
    if (row.status == status) return row.phrase;
  }
  return "Unknown";
}

namespace {

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[utc.tm_wday % 7], utc.tm_mday,
                     kMonths[utc.tm_mon % 12], utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

}  // namespace

void Exchange::respond(Response response) {
  if (connection_ == nullptr || begun_) return;
  begun_ = ended_ = true;
  HttpConnection* connection = connection_;
  connection->answer(response, false);
  connection->exchange_ended();
}

void Exchange::begin(const Response& head) {
  if (connection_ == nullptr || begun_) return;
  begun_ = true;
  chunked_ = request_.minor == 1;
  connection_->head_of(head, chunked_, std::nullopt, !chunked_);
}

void Exchange::write(std::string_view part) {
  if (connection_ == nullptr || part.empty()) return;
  if (chunked_) {
    // An empty chunk would end the body.
    std::string chunk = fmt::format("{:x}\r\n", part.size());
    chunk.append(part).append("\r\n");
    connection_->put(chunk);
  } else {
    connection_->put(part);
  }
  if (full()) was_full_ = true;
}

void Exchange::end() {
  if (connection_ == nullptr) return;
  ended_ = true;
  if (chunked_) connection_->put("0\r\n\r\n");
  connection_->exchange_ended();
}

bool Exchange::full() const {
  return connection_ != nullptr && connection_->output().size() > connection_->limits_.output_bytes;
}

HttpConnection::HttpConnection(const ConnectionLimits& limits, HttpHandler& handler, ConnectionTotals& totals,
                               std::function<void()> on_output)
    : limits_(limits),
      handler_(handler),
      totals_(totals),
      on_output_(std::move(on_output)),
      parser_(limits.http),
      since_(totals.now),
      stall_since_(totals.now) {}

HttpConnection::~HttpConnection() {
  totals_.body_bytes -= counted_body_;
  peer_closed();
}

void HttpConnection::peer_closed() {
  closing_ = true;
  if (exchange_ == nullptr) return;
  const std::shared_ptr<Exchange> lost = std::move(exchange_);
  exchange_ = nullptr;
  lost->connection_ = nullptr;
  lost->lost_ = true;
  lost->on_room = nullptr;
  if (const auto gone = std::move(lost->on_gone)) gone();
}

void HttpConnection::receive(std::string_view bytes) {
  if (closing_) return;
  waiting_.append(bytes);
  advance();
}

// Bodies that arrived count against what all connections may hold until their requests are handed over.
void HttpConnection::count_body() {
  const size_t now = parser_.state() == RequestParser::State::kBody ? parser_.request().body.size() : 0;
  totals_.body_bytes += now - counted_body_;
  counted_body_ = now;
}

// Reads requests from what was received, one at a time: the next one is looked at when the answer to the last is
// complete.
void HttpConnection::advance() {
  if (advancing_) return;  // an answer given at once comes back to here: the loop below goes on
  advancing_ = true;
  using State = RequestParser::State;
  while (exchange_ == nullptr && !closing_ && !waiting_.empty()) {
    const State before = parser_.state();
    const size_t taken = parser_.feed(waiting_);
    waiting_.erase(0, taken);
    const State state = parser_.state();
    if (before == State::kIdle && state != State::kIdle) since_ = totals_.now;
    count_body();
    if (state == State::kFailed) {
      answer(handler_.malformed(parser_.status(), parser_.reason()), true);
      break;
    }
    if (state == State::kBody && !head_seen_) {
      head_seen_ = true;
      since_ = totals_.now;
      if (const auto refusal = handler_.refuse(parser_.request())) {
        answer(*refusal, true);
        break;
      }
      if (parser_.request().expect_continue && waiting_.empty()) put("HTTP/1.1 100 Continue\r\n\r\n");
    }
    if (state == State::kBody && totals_.body_bytes > limits_.all_bodies) {
      Response busy = handler_.malformed(429, "too many requests with large bodies at once");
      busy.headers.emplace_back("Retry-After", "1");
      answer(busy, true);
      break;
    }
    if (state != State::kDone) continue;
    head_seen_ = false;
    auto exchange = std::make_shared<Exchange>();
    exchange->connection_ = this;
    exchange->request_ = std::move(parser_.request());
    parser_.next();
    exchange_ = exchange;
    if (const auto refusal = handler_.refuse(exchange->request())) {
      exchange->respond(*refusal);
    } else {
      handler_.handle(std::move(exchange));
    }
  }
  advancing_ = false;
}

void HttpConnection::head_of(const Response& response, bool chunked, std::optional<size_t> length, bool close) {
  if (close || draining_ || (exchange_ != nullptr && !exchange_->request_.keep_alive)) {
    close = true;
    closing_ = true;
  }
  std::string head = fmt::format("HTTP/1.1 {} {}\r\nServer: llrt\r\nDate: {}\r\n", response.status,
                                 reason_phrase(response.status), http_date());
  if (!response.content_type.empty()) head += fmt::format("Content-Type: {}\r\n", response.content_type);
  if (chunked) head += "Transfer-Encoding: chunked\r\n";
  if (length) head += fmt::format("Content-Length: {}\r\n", *length);
  head += close ? "Connection: close\r\n" : "Connection: keep-alive\r\n";
  head += "X-Content-Type-Options: nosniff\r\n";
  for (const auto& [name, value] : response.headers) head += fmt::format("{}: {}\r\n", name, value);
  head += "\r\n";
  put(head);
}

void HttpConnection::answer(const Response& response, bool close) {
  if (close) {
    // The rest of the request is not read: the client may be in the middle of sending it.
    unread_ = true;
    waiting_.clear();
    waiting_.shrink_to_fit();
    parser_.request().body = {};
    totals_.body_bytes -= counted_body_;
    counted_body_ = 0;
  }
  const bool no_body = exchange_ != nullptr && exchange_->request_.method == "HEAD";
  // A length of 304 would be that of the body that the client has.
  const bool bare = response.status == 204 || response.status == 304;
  head_of(response, false, bare ? std::nullopt : std::optional(response.body.size()), close);
  if (!no_body) put(response.body);
}

void HttpConnection::put(std::string_view bytes) {
  if (output().empty()) {
    stall_since_ = totals_.now;
    stall_bytes_ = 0;
  }
  output_ += bytes;
  if (on_output_) on_output_();
}

void HttpConnection::exchange_ended() {
  const std::shared_ptr<Exchange> ended = std::move(exchange_);
  exchange_ = nullptr;
  ended->connection_ = nullptr;
  ended->on_gone = nullptr;
  ended->on_room = nullptr;
  since_ = totals_.now;
  if (draining_) closing_ = true;
  advance();
}

void HttpConnection::sent(size_t bytes) {
  sent_ += bytes;
  stall_bytes_ += bytes;
  if (stall_bytes_ >= kLeastProgress) {
    stall_since_ = totals_.now;
    stall_bytes_ = 0;
  }
  if (sent_ == output_.size()) {
    output_.clear();
    if (output_.capacity() > (64u << 10)) output_.shrink_to_fit();
    sent_ = 0;
    since_ = totals_.now;
  } else if (sent_ > limits_.output_bytes) {
    output_.erase(0, sent_);
    sent_ = 0;
  }
  if (exchange_ == nullptr || !exchange_->was_full_ || exchange_->full()) return;
  exchange_->was_full_ = false;
  // A copy: what it does may end the exchange, which lets go of it.
  if (const auto room = exchange_->on_room) room();
}

std::optional<Time> HttpConnection::deadline() const {
  if (!output().empty()) return stall_since_ + limits_.stall;
  if (exchange_ != nullptr) return std::nullopt;
  switch (parser_.state()) {
    case RequestParser::State::kIdle:
      return since_ + limits_.idle;
    case RequestParser::State::kBody:
      return since_ + limits_.body;
    default:
      return since_ + limits_.head;
  }
}

bool HttpConnection::expire() {
  if (!output().empty() || closing_ || parser_.state() == RequestParser::State::kIdle) return true;
  answer(handler_.malformed(408, parser_.state() == RequestParser::State::kBody ? "the body did not arrive in time"
                                                                                : "the request did not arrive in time"),
         true);
  return false;
}

void HttpConnection::drain() {
  draining_ = true;
  if (exchange_ == nullptr && parser_.state() == RequestParser::State::kIdle) closing_ = true;
}

}  // namespace ll::serve
