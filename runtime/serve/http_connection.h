// One HTTP connection without its socket: bytes and the time go in, bytes and deadlines come out. The event loop
// (event_loop.h) moves them; tests do so by hand.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/serve/http_parser.h"

namespace ll::serve {

using Time = std::chrono::steady_clock::time_point;
inline double seconds(Time::duration d) { return std::chrono::duration<double>(d).count(); }
using Milliseconds = std::chrono::milliseconds;

struct ConnectionLimits {
  HttpLimits http;
  Milliseconds head{10'000};         // from a request's first byte to the end of its head
  Milliseconds body{30'000};         // from there to the end of its body
  Milliseconds idle{75'000};         // between requests
  Milliseconds stall{30'000};        // in which a client has to read kLeastProgress bytes of what waits, or all of it
  size_t output_bytes = 256 << 10;   // of a stream that wait for the client before Exchange::full()
  size_t all_bodies = 256ull << 20;  // of request bodies that all connections hold: 429
};
inline constexpr size_t kLeastProgress = 4096;

// What all connections of a server share.
struct ConnectionTotals {
  size_t body_bytes = 0;
  Time now;  // set by the event loop whenever it wakes up
};

struct Response {
  int status = 200;
  std::string content_type = "application/json";
  std::string body{};
  std::vector<std::pair<std::string, std::string>> headers{};  // names and values without CR and LF
};

class HttpConnection;

// One request and its answer. Lives as long as whoever answers wants; calls after the client has gone do nothing.
class Exchange {
 public:
  const HttpRequest& request() const { return request_; }
  // Takes the body away: it can be large.
  std::string take_body() { return std::move(request_.body); }

  // The whole answer, or
  void respond(Response response);
  // an answer in parts: the head, any number of writes, the end.
  void begin(const Response& head);
  void write(std::string_view part);
  void end();

  // The connection was lost before the answer ended.
  bool gone() const { return connection_ == nullptr && !ended_; }
  // The same for other threads, which may see it later: work for this request is in vain.
  bool lost() const { return lost_.load(std::memory_order_relaxed); }
  // The client reads more slowly than the answer comes: write no more until on_room.
  bool full() const;
  bool begun() const { return begun_; }

  // Called once when the connection is lost before the answer ended.
  std::function<void()> on_gone;
  // Called when full() has become false again.
  std::function<void()> on_room;

 private:
  friend class HttpConnection;
  HttpConnection* connection_ = nullptr;
  HttpRequest request_;
  bool begun_ = false, ended_ = false, chunked_ = false, was_full_ = false;
  std::atomic<bool> lost_{false};
};

// What a connection asks of the server.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // Sees a request before its body is read; a response refuses it.
  virtual std::optional<Response> refuse(const HttpRequest& request) = 0;
  // Answers a complete request, now or later.
  virtual void handle(std::shared_ptr<Exchange> exchange) = 0;
  // The answer to a request that cannot be read.
  virtual Response malformed(int status, const char* reason) = 0;
};

class HttpConnection {
 public:
  // `handler` and `totals` outlive it. `on_output` is called when there is something new to send.
  HttpConnection(const ConnectionLimits& limits, HttpHandler& handler, ConnectionTotals& totals,
                 std::function<void()> on_output);
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;
  ~HttpConnection();

  void receive(std::string_view bytes);
  // Nothing more will come. A client that has closed its side does not wait for an answer any more.
  void peer_closed();
  // Whether bytes can be taken now. False while enough of the next requests wait behind one that is being answered.
  bool wants_input() const { return exchange_ == nullptr ? !closing_ : waiting_.size() < kMostWaiting; }

  std::string_view output() const { return std::string_view(output_).substr(sent_); }
  void sent(size_t bytes);
  // All is sent that will be: close.
  bool finished() const { return closing_ && exchange_ == nullptr && output().empty(); }
  // The client may still be sending what nobody reads: discard some of it before closing, or the answer may be lost.
  bool lingers() const { return unread_; }

  // When expire() is due; nullopt: never.
  std::optional<Time> deadline() const;
  // A deadline has passed. True: drop the connection at once.
  bool expire();
  // No more requests after the one being answered.
  void drain();
  bool answering() const { return exchange_ != nullptr; }

 private:
  friend class Exchange;
  static constexpr size_t kMostWaiting = 64 << 10;
  void advance();
  void answer(const Response& response, bool close);
  void head_of(const Response& response, bool chunked, std::optional<size_t> length, bool close);
  void put(std::string_view bytes);
  void exchange_ended();
  void count_body();

  const ConnectionLimits& limits_;
  HttpHandler& handler_;
  ConnectionTotals& totals_;
  std::function<void()> on_output_;
  RequestParser parser_;
  std::shared_ptr<Exchange> exchange_;  // being answered
  std::string waiting_;                 // received behind it
  std::string output_;
  size_t sent_ = 0;  // bytes at the front of output_
  size_t counted_body_ = 0;
  bool head_seen_ = false;
  bool closing_ = false, unread_ = false, draining_ = false, advancing_ = false;
  Time since_, stall_since_;
  size_t stall_bytes_ = 0;
};

// "OK", "Bad Request", ...
const char* reason_phrase(int status);

}  // namespace ll::serve
