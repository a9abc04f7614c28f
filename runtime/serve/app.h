// The server's routes, and what is between them and the engine.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "runtime/serve/access.h"
#include "runtime/serve/event_loop.h"
#include "runtime/serve/generation.h"
#include "runtime/serve/log.h"
#include "runtime/serve/metrics.h"
#include "runtime/serve/openapi.h"
#include "runtime/serve/served_model.h"
#include "runtime/serve/worker_pool.h"

namespace ll::serve {

struct AppOptions {
  AccessOptions access;
  MetricsOptions metrics;
  bool metrics_public = false;
  Milliseconds request_timeout{600'000}, drain_timeout{30'000}, health_timeout{30'000}, ping_interval{30'000};
  int log_level = 1;
};

std::span<const Route> routes();

// The event loop's thread alone uses it, but for `wake`.
class App : public HttpHandler {
 public:
  explicit App(AppOptions options);
  ~App() override;

  // Before the loop runs.
  void attach(EventLoop* loop) { loop_ = loop; }
  // After the loop has ended: lets go of engine and loop. The engine is to be destroyed next, the loop after it.
  void stop();
  // The model is loaded; until then whatever needs it is 503.
  // `queue_sequences`: the engine's bound; requests beyond it are refused before they are read.
  void ready(EngineThread* engine, std::shared_ptr<const ServedModel> model, uint32_t queue_sequences);
  // For EngineThreadOptions::notify: any thread.
  void wake(std::span<const RequestId> ids);

  // Called every kTick.
  static constexpr Milliseconds kTick{100};
  void tick();
  // Refuses what is new, and stops the loop when the rest is answered or drain_timeout has passed.
  void drain();
  bool draining() const { return draining_; }
  // Why the device is lost; empty: it is not.
  const std::string& failure() const { return failure_; }
  Log& log() { return log_; }

  std::optional<Response> refuse(const HttpRequest& request) override;
  void handle(std::shared_ptr<Exchange> exchange) override;
  Response malformed(int status, const char* reason) override;

 private:
  struct Handler;
  friend std::span<const Route> routes();
  static const Handler kHandlers[];
  using Body = Checked<std::string> (*)(const ServedModel&, std::string_view);

  void health(std::shared_ptr<Exchange> exchange, RequestFacts facts);
  void metrics(std::shared_ptr<Exchange> exchange, RequestFacts facts);
  void props(std::shared_ptr<Exchange> exchange, RequestFacts facts);
  void version(std::shared_ptr<Exchange> exchange, RequestFacts facts);
  void models(std::shared_ptr<Exchange> exchange, RequestFacts facts);
  void openapi(std::shared_ptr<Exchange> exchange, RequestFacts facts);
  void page(std::shared_ptr<Exchange> exchange, RequestFacts facts);
  void tokenize_text(std::shared_ptr<Exchange> exchange, RequestFacts facts);
  void detokenize_ids(std::shared_ptr<Exchange> exchange, RequestFacts facts);
  void template_text(std::shared_ptr<Exchange> exchange, RequestFacts facts);
  void chat(std::shared_ptr<Exchange> exchange, RequestFacts facts);
  void completion(std::shared_ptr<Exchange> exchange, RequestFacts facts);

  const Handler* find(const HttpRequest& request, bool* path_known) const;
  std::optional<ApiError> unavailable() const;
  std::optional<ApiError> queue_full() const;
  RequestFacts facts_of(const HttpRequest& request, const char* route);
  void reply(const std::shared_ptr<Exchange>& exchange, const RequestFacts& facts, Response response);
  void fail(const std::shared_ptr<Exchange>& exchange, const RequestFacts& facts, const ApiError& error);
  void in_background(std::shared_ptr<Exchange> exchange, RequestFacts facts, Body body);
  void generate(std::shared_ptr<Exchange> exchange, RequestFacts facts, bool chat);
  void begin(std::shared_ptr<Exchange> exchange, RequestFacts facts, Checked<Prepared> prepared);
  void reap(const std::shared_ptr<Generation>& generation);
  void log_request(const RequestFacts& facts, int status, const Generation* generation);
  Time now() const;

  const AppOptions options_;
  Access access_;
  Log log_;
  ServerMetrics metrics_;
  EventLoop* loop_ = nullptr;
  EngineThread* engine_ = nullptr;
  std::shared_ptr<const ServedModel> model_;
  std::map<RequestId, std::shared_ptr<Generation>> by_id_;
  std::set<std::shared_ptr<Generation>> generations_;
  std::string openapi_, salt_;
  Time now_, drain_until_;
  uint32_t queue_sequences_ = 0;
  uint64_t counter_ = 0;
  size_t key_failures_ = 0;  // lately
  int64_t started_ = 0;      // Unix time
  bool draining_ = false;
  std::string failure_;
  std::unique_ptr<WorkerPool> workers_;
};

}  // namespace ll::serve
