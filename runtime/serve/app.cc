#include "runtime/serve/app.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <cmath>

#include "runtime/serve/json_writer.h"
#include "runtime/serve/web_files.h"

namespace ll::serve {
namespace {

constexpr size_t kWorkers = 2;
// Requests being read at once beyond the engine's queue, and wrong keys in a second: more are answered 429.
constexpr size_t kMostPreparing = 256, kMostKeyFailures = 100;
// The device is lost: so long its requests have to end with their errors.
constexpr Milliseconds kFailedLinger{2000};

// Percent-encoding undone; nullopt for control characters.
std::optional<std::string> decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%' && i + 2 < text.size()) {
      c = static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    }
    if (static_cast<uint8_t>(c) < 0x20) return std::nullopt;
    out += c;
  }
  return out;
}

bool is_request_id(std::string_view id) {
  return !id.empty() && id.size() <= 128 && std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
  });
}

bool is_json(const HttpRequest& request) {
  const std::string* type = request.header("content-type");
  if (type == nullptr) return false;
  std::string name = type->substr(0, type->find(';'));
  while (name.ends_with(' ')) name.pop_back();
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return name == "application/json";
}

}  // namespace

struct App::Handler {
  Route route;
  void (App::*handle)(std::shared_ptr<Exchange>, RequestFacts);
};

// A path that ends in "/*" stands for everything below it.
const App::Handler App::kHandlers[] = {
    {{"GET", "/", 0, true, "the chat page"}, &App::page},
    {{"GET", "/web/*", 0, true, "its files"}, &App::page},
    {{"GET", "/health", 0, true, "200 when requests are served, 503 otherwise"}, &App::health},
    {{"GET", "/v1/health", 0, true, "the same"}, &App::health},
    {{"GET", "/ping", 0, true, "the same"}, &App::health},
    {{"GET", "/metrics", 0, false, "counts and times for Prometheus"}, &App::metrics},
    {{"GET", "/props", 0, false, "what is served and how"}, &App::props},
    {{"GET", "/version", 0, false, "the program's version"}, &App::version},
    {{"GET", "/openapi.json", 0, false, "this description"}, &App::openapi},
    {{"GET", "/v1/models", 0, false, "the model"}, &App::models},
    {{"GET", "/v1/models/*", 0, false, "the model by name"}, &App::models},
    {{"GET", "/models", 0, false, "the model"}, &App::models},
    {{"POST", "/v1/chat/completions", kChat, false, "answer a conversation"}, &App::chat},
    {{"POST", "/chat/completions", kChat, false, "the same"}, &App::chat},
    {{"POST", "/v1/completions", kCompletion, false, "continue a text"}, &App::completion},
    {{"POST", "/completions", kCompletion, false, "the same"}, &App::completion},
    {{"POST", "/tokenize", kTokenize, false, "text to token ids"}, &App::tokenize_text},
    {{"POST", "/detokenize", kDetokenize, false, "token ids to text"}, &App::detokenize_ids},
    {{"POST", "/apply-template", kTemplate, false, "a conversation as the model's prompt"}, &App::template_text},
};

std::span<const Route> routes() {
  static const std::vector<Route> all = [] {
    std::vector<Route> list;
    for (const App::Handler& handler : App::kHandlers) list.push_back(handler.route);
    return list;
  }();
  return all;
}

App::App(AppOptions options)
    : options_(std::move(options)),
      access_(options_.access),
      log_(static_cast<LogLevel>(1 + std::clamp(options_.log_level, 0, 2))),
      workers_(std::make_unique<WorkerPool>(kWorkers)) {
  uint64_t random = 0;
  if (getrandom(&random, sizeof random, 0) < 0)
    random = static_cast<uint64_t>(Time::clock::now().time_since_epoch().count());
  salt_ = fmt::format("{:016x}", random);
  started_ =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  openapi_ = openapi_json(routes(), access_.needs_key());
}

App::~App() = default;

Time App::now() const { return std::chrono::steady_clock::now(); }

void App::ready(EngineThread* engine, std::shared_ptr<const ServedModel> model, uint32_t queue_sequences) {
  queue_sequences_ = queue_sequences;
  engine_ = engine;
  model_ = std::move(model);
}

// ---- Who is asked for what ----

const App::Handler* App::find(const HttpRequest& request, bool* path_known) const {
  const std::string_view method = request.method == "HEAD" ? "GET" : std::string_view(request.method);
  *path_known = false;
  for (const Handler& handler : kHandlers) {
    const std::string_view path = handler.route.path;
    const bool below = path.ends_with("/*") && request.path.size() >= path.size() &&
                       request.path.starts_with(path.substr(0, path.size() - 1));
    if (path != request.path && !below) continue;
    *path_known = true;
    if (method == handler.route.method) return &handler;
  }
  return nullptr;
}

std::optional<Response> App::refuse(const HttpRequest& request) {
  bool path_known = false;
  const Handler* handler = find(request, &path_known);
  const bool preflight = request.method == "OPTIONS" && !access_.allowed_origin(request).empty();
  const bool is_public =
      preflight ||
      (handler != nullptr && (handler->route.is_public || (options_.metrics_public && request.path == "/metrics")));
  std::optional<ApiError> error = access_.refuse(request, is_public);
  if (error && error->status == 401 && ++key_failures_ > kMostKeyFailures) {
    error = ApiError{429, "Too many wrong API keys.", {}};
    error->retry_after = 1;
  }
  if (!error && handler != nullptr && handler->route.endpoint != 0 && !is_json(request)) {
    error = ApiError{415, "The body has to be JSON: send Content-Type: application/json.", {}};
  }
  if (!error && request.header("content-encoding") != nullptr && *request.header("content-encoding") != "identity") {
    error = ApiError{415, "Compressed bodies are not supported.", {}};
  }
  if (!error) return std::nullopt;
  const RequestFacts facts = facts_of(request, handler == nullptr ? "none" : handler->route.path);
  Response response{.status = error->status, .body = error_body(*error), .headers = facts.headers};
  if (error->status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (error->retry_after > 0) response.headers.emplace_back("Retry-After", std::to_string(error->retry_after));
  ++metrics_.responses[std::clamp(error->status / 100, 0, 5)];
  log_request(facts, error->status, nullptr);
  return response;
}

Response App::malformed(int status, const char* reason) {
  ++metrics_.malformed;
  ++metrics_.responses[std::clamp(status / 100, 0, 5)];
  log_.line(LogLevel::kDebug, "malformed",
            [&](JsonWriter& json) { json.integer("status", status).string("reason", reason); });
  return {.status = status, .body = error_body({status, fmt::format("The request is malformed: {}.", reason), {}})};
}

RequestFacts App::facts_of(const HttpRequest& request, const char* route) {
  RequestFacts facts;
  facts.route = route;
  facts.arrived = now();
  const std::string* given = request.header("x-request-id");
  facts.id = given != nullptr && is_request_id(*given) ? *given : fmt::format("{}{:08x}", salt_, ++counter_);
  facts.headers = {{"X-Request-Id", facts.id}, {"Cache-Control", "no-cache"}};
  if (const std::string origin = access_.allowed_origin(request); !origin.empty()) {
    facts.headers.emplace_back("Access-Control-Allow-Origin", origin);
    facts.headers.emplace_back("Vary", "Origin");
  }
  return facts;
}

void App::handle(std::shared_ptr<Exchange> exchange) {
  now_ = now();
  const HttpRequest& request = exchange->request();
  bool path_known = false;
  const Handler* handler = find(request, &path_known);
  if (handler != nullptr) {
    RequestFacts facts = facts_of(request, handler->route.path);
    return (this->*handler->handle)(std::move(exchange), std::move(facts));
  }
  RequestFacts facts = facts_of(request, "none");
  if (request.method == "OPTIONS" && path_known && !access_.allowed_origin(request).empty()) {
    facts.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST");
    facts.headers.emplace_back("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Api-Key, X-Request-Id");
    facts.headers.emplace_back("Access-Control-Max-Age", "600");
    return reply(exchange, facts, {.status = 204, .content_type = ""});
  }
  if (!path_known)
    return fail(exchange, facts, {404, "There is nothing at this path; GET /openapi.json lists what there is.", {}});
  std::string allowed;
  for (const Handler& h : kHandlers) {
    if (h.route.path == request.path) allowed += (allowed.empty() ? "" : ", ") + std::string(h.route.method);
  }
  facts.headers.emplace_back("Allow", allowed);
  fail(exchange, facts, {405, fmt::format("This path takes {}.", allowed.empty() ? "GET" : allowed), {}});
}

void App::reply(const std::shared_ptr<Exchange>& exchange, const RequestFacts& facts, Response response) {
  ++metrics_.responses[std::clamp(response.status / 100, 0, 5)];
  log_request(facts, response.status, nullptr);
  response.headers.insert(response.headers.begin(), facts.headers.begin(), facts.headers.end());
  exchange->respond(std::move(response));
}

void App::fail(const std::shared_ptr<Exchange>& exchange, const RequestFacts& facts, const ApiError& error) {
  Response response{.status = error.status, .body = error_body(error)};
  if (error.status == 429) ++metrics_.refused;
  if (error.retry_after > 0) response.headers.emplace_back("Retry-After", std::to_string(error.retry_after));
  reply(exchange, facts, std::move(response));
}

void App::log_request(const RequestFacts& facts, int status, const Generation* generation) {
  const std::string_view route = facts.route;
  const bool frequent = route == "/health" || route == "/v1/health" || route == "/ping" || route == "/metrics";
  log_.line(frequent ? LogLevel::kDebug : LogLevel::kInfo, "request", [&](JsonWriter& json) {
    json.string("id", facts.id).string("route", route).integer("status", status);
    json.number("ms", std::round(seconds(now() - facts.arrived) * 1e4) / 10);
    if (generation == nullptr) return;
    json.integer("prompt_tokens", static_cast<int64_t>(generation->answer().prompt_tokens()));
    json.integer("cached_tokens", static_cast<int64_t>(generation->answer().cached_tokens()));
    json.integer("completion_tokens", static_cast<int64_t>(generation->answer().completion_tokens()));
    json.number("first_token_ms", std::round(std::max(0.0, generation->first_token_seconds()) * 1e4) / 10);
    json.string("finish", generation->how());
  });
}

// ---- Small answers ----

std::optional<ApiError> App::unavailable() const {
  if (draining_) return ApiError{503, "The server is shutting down.", {}};
  if (model_ == nullptr) return ApiError{503, "Loading model", {}};
  if (!failure_.empty()) return ApiError{503, "The device was lost; the server is about to restart.", {}};
  return std::nullopt;
}

void App::health(std::shared_ptr<Exchange> exchange, RequestFacts facts) {
  std::optional<ApiError> error = unavailable();
  if (!error && engine_->stats().since_progress > Seconds(seconds(options_.health_timeout))) {
    error = ApiError{503, "The engine makes no progress.", {}};
  }
  if (error) return fail(exchange, facts, *error);
  reply(exchange, facts, {.body = "{\"status\":\"ok\"}"});
}

void App::metrics(std::shared_ptr<Exchange> exchange, RequestFacts facts) {
  const EngineStats engine = engine_ == nullptr ? EngineStats() : engine_->stats();
  reply(exchange, facts,
        {.content_type = "text/plain; version=0.0.4; charset=utf-8",
         .body =
             metrics_text(metrics_, engine, loop_->stats(), model_ == nullptr ? "" : model_->name, options_.metrics)});
}

void App::version(std::shared_ptr<Exchange> exchange, RequestFacts facts) {
  std::string body;
  JsonWriter(body).begin_object().string("version", LLCUDA_VERSION).end_object();
  reply(exchange, facts, {.body = body});
}

void App::openapi(std::shared_ptr<Exchange> exchange, RequestFacts facts) {
  reply(exchange, facts, {.body = openapi_});
}

void App::page(std::shared_ptr<Exchange> exchange, RequestFacts facts) {
  const WebFile* file = find_web_file(exchange->request().path);
  if (file == nullptr) return fail(exchange, facts, {404, "The chat page has no such file.", {}});
  reply(exchange, facts, web_response(*file, exchange->request().header("if-none-match")));
}

void App::models(std::shared_ptr<Exchange> exchange, RequestFacts facts) {
  if (const auto error = unavailable()) return fail(exchange, facts, *error);
  constexpr std::string_view kBelow = "/v1/models/";
  const bool one = exchange->request().path.starts_with(kBelow);
  if (one && decoded(std::string_view(exchange->request().path).substr(kBelow.size())) != model_->name) {
    return fail(exchange, facts, {404, "There is no model of this name; GET /v1/models lists what there is.", "model"});
  }
  std::string body;
  JsonWriter json(body);
  if (!one) json.begin_object().string("object", "list").key("data").begin_array();
  json.begin_object().string("id", model_->name).string("object", "model").integer("created", started_);
  json.string("owned_by", "llcuda").string("root", model_->name).null("parent");
  json.integer("max_model_len", model_->context_length);
  const Plan& plan = engine_->plan();
  json.key("meta").begin_object().string("architecture", plan.model.architecture);
  json.integer("vocab_size", plan.model.vocab_size).integer("max_batch", plan.max_batch).end_object();
  json.end_object();
  if (!one) json.end_array().end_object();
  reply(exchange, facts, {.body = body});
}

void App::props(std::shared_ptr<Exchange> exchange, RequestFacts facts) {
  if (const auto error = unavailable()) return fail(exchange, facts, *error);
  const Plan& plan = engine_->plan();
  const DeviceInfo device = engine_->device();
  const Tokenizer& tokenizer = model_->tokenizer;
  std::string body;
  JsonWriter json(body);
  json.begin_object().string("model_alias", model_->name).string("build_info", "llrt " LLCUDA_VERSION);
  json.key("default_generation_settings")
      .begin_object()
      .integer("n_ctx", model_->most_tokens)
      .key("params")
      .begin_object();
  for (const Field& f : fields()) {
    if (*f.default_json != 0 && (f.endpoints & kChat) != 0 &&
        std::string_view(f.name).find('.') == std::string_view::npos) {
      json.raw(f.name, f.default_json);
    }
  }
  json.end_object().end_object();
  json.integer("total_slots", plan.max_batch).integer("context_length", model_->context_length);
  json.integer("vocab_size", plan.model.vocab_size).string("architecture", plan.model.architecture);
  json.key("device").begin_object().string("name", device.name).string("isa", device.isa);
  json.integer("threads", device.threads).end_object();
  json.integer("kv_pages", plan.pages).integer("kv_page_size", plan.page_size);
  const auto token = [&](const char* name, int32_t id) { json.string(name, id < 0 ? "" : tokenizer.token_text(id)); };
  token("bos_token", tokenizer.spec().bos_id);
  token("eos_token", tokenizer.spec().eos_id);
  json.string("chat_template", model_->template_source);
  json.string("tool_call_format", model_->tool_format ? tool_format_name(*model_->tool_format) : "none");
  json.boolean("reasoning", model_->has_reasoning);
  json.key("modalities").begin_object().boolean("vision", false).boolean("audio", false).end_object();
  json.end_object();
  reply(exchange, facts, {.body = body});
}

// ---- Work on texts ----

void App::in_background(std::shared_ptr<Exchange> exchange, RequestFacts facts, Body body) {
  if (const auto error = unavailable()) return fail(exchange, facts, *error);
  if (metrics_.preparing >= kMostPreparing) {
    ApiError busy{429, "The server is busy reading other requests.", {}};
    busy.retry_after = 1;
    return fail(exchange, facts, busy);
  }
  ++metrics_.preparing;
  workers_->post(
      [this, exchange, facts = std::move(facts), body, model = model_, text = exchange->take_body()]() mutable {
        const auto done = exchange->lost() ? nullptr : std::make_shared<Checked<std::string>>(body(*model, text));
        text = {};
        loop_->post([this, exchange = std::move(exchange), facts = std::move(facts), done] {
          now_ = now();
          --metrics_.preparing;
          if (exchange->gone()) {
            ++metrics_.disconnects;
            return;
          }
          if (!*done) return fail(exchange, facts, done->error());
          reply(exchange, facts, {.body = **done});
        });
      });
}

void App::tokenize_text(std::shared_ptr<Exchange> e, RequestFacts facts) {
  in_background(std::move(e), std::move(facts), tokenize);
}
void App::detokenize_ids(std::shared_ptr<Exchange> e, RequestFacts facts) {
  in_background(std::move(e), std::move(facts), detokenize);
}
void App::template_text(std::shared_ptr<Exchange> e, RequestFacts facts) {
  in_background(std::move(e), std::move(facts), apply_template);
}

// ---- Generation ----

void App::chat(std::shared_ptr<Exchange> exchange, RequestFacts facts) {
  generate(std::move(exchange), std::move(facts), true);
}
void App::completion(std::shared_ptr<Exchange> exchange, RequestFacts facts) {
  generate(std::move(exchange), std::move(facts), false);
}

// Known before a request is read: reading takes time that those accepted need.
std::optional<ApiError> App::queue_full() const {
  const EngineStats stats = engine_->stats();
  if (metrics_.preparing < kMostPreparing && stats.queued_sequences + metrics_.preparing < queue_sequences_) {
    return std::nullopt;
  }
  ApiError busy{429, "The server is busy: its queue is full.", {}};
  busy.retry_after = 1;
  return busy;
}

void App::generate(std::shared_ptr<Exchange> exchange, RequestFacts facts, bool chat) {
  if (const auto error = unavailable()) return fail(exchange, facts, *error);
  if (const auto error = queue_full()) return fail(exchange, facts, *error);
  ++metrics_.preparing;
  workers_->post(
      [this, exchange, facts = std::move(facts), chat, model = model_, text = exchange->take_body()]() mutable {
        // Clients that leave in a storm have left before their requests are read.
        std::shared_ptr<Checked<Prepared>> prepared;
        if (!exchange->lost()) {
          prepared =
              std::make_shared<Checked<Prepared>>(chat ? prepare_chat(*model, text) : prepare_completion(*model, text));
        }
        text = {};
        loop_->post([this, exchange = std::move(exchange), facts = std::move(facts), prepared]() mutable {
          now_ = now();
          --metrics_.preparing;
          if (exchange->gone()) {
            ++metrics_.disconnects;
            return;
          }
          begin(std::move(exchange), std::move(facts), std::move(*prepared));
        });
      });
}

void App::begin(std::shared_ptr<Exchange> exchange, RequestFacts facts, Checked<Prepared> prepared) {
  if (!prepared) return fail(exchange, facts, prepared.error());
  const std::string id = fmt::format("{}-{}{:08x}", prepared->chat ? "chatcmpl" : "cmpl", salt_, ++counter_);
  Time deadline = facts.arrived + options_.request_timeout;
  if (prepared->timeout > 0) {
    deadline =
        std::min(deadline, facts.arrived + std::chrono::duration_cast<Time::duration>(Seconds(prepared->timeout)));
  }
  auto generation = std::make_shared<Generation>(Generation::Services{*engine_, metrics_, now_}, *std::move(prepared),
                                                 model_, exchange, facts, id, deadline);
  if (const auto error = generation->start()) return fail(exchange, facts, *error);
  generations_.insert(generation);
  for (const RequestId request : generation->ids()) by_id_[request] = generation;
  const std::weak_ptr<Generation> weak = generation;
  exchange->on_gone = [this, weak] {
    now_ = now();
    if (const auto g = weak.lock()) {
      g->abandon();
      reap(g);
    }
  };
  exchange->on_room = [this, weak] {
    now_ = now();
    if (const auto g = weak.lock()) {
      g->pull();
      if (g->ended()) reap(g);
    }
  };
  generation->pull();
  if (generation->ended()) reap(generation);
}

void App::reap(const std::shared_ptr<Generation>& generation) {
  if (generations_.erase(generation) == 0) return;
  for (const RequestId id : generation->ids()) by_id_.erase(id);
  ++metrics_.responses[std::clamp(generation->status() / 100, 0, 5)];
  log_request(generation->facts(), generation->status(), generation.get());
}

void App::wake(std::span<const RequestId> ids) {
  loop_->post([this, list = std::vector<RequestId>(ids.begin(), ids.end())] {
    now_ = now();
    for (const RequestId id : list) {
      const auto found = by_id_.find(id);
      if (found == by_id_.end()) continue;
      const std::shared_ptr<Generation> generation = found->second;
      generation->pull();
      if (generation->ended()) reap(generation);
    }
  });
}

// ---- Time ----

void App::tick() {
  now_ = now();
  key_failures_ -= std::min<size_t>(key_failures_, kMostKeyFailures / 10);
  std::vector<std::shared_ptr<Generation>> all(generations_.begin(), generations_.end());
  for (const auto& generation : all) {
    if (generation->deadline() <= now_) {
      ++metrics_.timeouts;
      generation->give_up({408, "The request took longer than it may.", {}});
      reap(generation);
    } else if (options_.ping_interval.count() > 0) {
      generation->ping(options_.ping_interval);
    }
  }
  if (engine_ != nullptr && failure_.empty()) {
    failure_ = engine_->stats().scheduler.failure;
    if (!failure_.empty()) {
      log_.line(LogLevel::kError, "device_lost", [&](JsonWriter& json) { json.string("error", failure_); });
      drain();
      drain_until_ = std::min(drain_until_, now_ + kFailedLinger);
    }
  }
  if (!draining_) return;
  const bool done = generations_.empty() && metrics_.preparing == 0 && loop_->quiet();
  if (!done && now_ < drain_until_) return;
  if (!done) {
    log_.line(LogLevel::kError, "drain_timeout",
              [&](JsonWriter& json) { json.integer("unfinished", static_cast<int64_t>(generations_.size())); });
    for (const auto& generation : all) generation->give_up({503, "The server is shutting down.", {}});
  }
  loop_->stop();
}

void App::stop() {
  now_ = now();
  const std::vector<std::shared_ptr<Generation>> all(generations_.begin(), generations_.end());
  for (const auto& generation : all) generation->abandon();
  generations_.clear();
  by_id_.clear();
  workers_.reset();
  engine_ = nullptr;
}

void App::drain() {
  if (draining_) return;
  now_ = now();
  draining_ = true;
  drain_until_ = now_ + options_.drain_timeout;
  log_.line(LogLevel::kNotice, "draining",
            [&](JsonWriter& json) { json.integer("unfinished", static_cast<int64_t>(generations_.size())); });
  loop_->drain();
}

}  // namespace ll::serve
