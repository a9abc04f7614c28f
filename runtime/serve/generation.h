// One request between the engine and a connection: submits it, turns its events into the answer, ends it when the
// client leaves, falls behind or runs out of time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/engine/engine_thread.h"
#include "runtime/serve/answer.h"
#include "runtime/serve/http_connection.h"
#include "runtime/serve/metrics.h"

namespace ll::serve {

// What is known about a request from its arrival on.
struct RequestFacts {
  std::string id;  // X-Request-Id
  const char* route = "";
  Time arrived;
  std::vector<std::pair<std::string, std::string>> headers;  // of the answer
};

class Generation {
 public:
  struct Services {
    EngineThread& engine;
    ServerMetrics& metrics;
    const Time& now;
  };
  // The event loop's thread alone uses it.
  Generation(const Services& services, Prepared prepared, std::shared_ptr<const ServedModel> model,
             std::shared_ptr<Exchange> exchange, RequestFacts facts, std::string answer_id, Time deadline);
  ~Generation();

  // Hands the request to the engine; an error when it does not take it.
  std::optional<ApiError> start();
  // The engine's ids, for notices.
  const std::vector<RequestId>& ids() const { return ids_; }

  // Takes what events there are, unless the client is behind.
  void pull();
  // The client is gone.
  void abandon();
  // The deadline has come, or the server ends.
  void give_up(const ApiError& error);
  // Says something on a stream that was silent for so long.
  void ping(Milliseconds silence);

  Time deadline() const { return deadline_; }
  bool ended() const { return ended_; }
  const RequestFacts& facts() const { return facts_; }
  const Answer& answer() const { return answer_; }
  int status() const { return status_; }
  double first_token_seconds() const { return first_token_; }
  const char* how() const { return how_; }  // "stop", "length", "tool_calls", "abort", "error"

 private:
  void take(size_t prompt, std::string& out);
  void record(size_t prompt, const Event& event);
  void finish(const char* how);
  void cancel();

  Services services_;
  std::shared_ptr<Exchange> exchange_;
  RequestFacts facts_;
  Answer answer_;
  Time deadline_, written_;
  std::vector<std::shared_ptr<EventStream>> streams_;
  std::vector<RequestId> ids_;
  std::vector<Event> events_;
  std::vector<Time> last_token_;  // of each choice
  bool ended_ = false;
  int status_ = 200;
  double first_token_ = -1;
  const char* how_ = "";
};

}  // namespace ll::serve
