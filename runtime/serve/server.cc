#include "runtime/serve/server.h"

#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "runtime/base/mapped_file.h"
#include "runtime/device/open_device.h"
#include "runtime/serve/app.h"

namespace ll::serve {
namespace {

Milliseconds milliseconds(double seconds) { return Milliseconds(static_cast<int64_t>(seconds * 1000)); }

Result<std::vector<std::string>> all_keys(const ServeOptions& options) {
  std::vector<std::string> keys;
  for (const std::string& key : options.api_keys) {
    TRY_ASSIGN(const std::vector<std::string> found, read_keys(key));
    if (found.empty()) return usage("an API key is given but blank");
    keys.insert(keys.end(), found.begin(), found.end());
  }
  for (const std::string& path : options.api_key_files) {
    TRY_ASSIGN(const MappedFile file, MappedFile::open(path));
    const auto bytes = file.bytes();
    auto found = read_keys({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    if (!found) return std::move(found).error().in(path);
    // A file that is there but empty would otherwise open the server to everybody.
    if (found->empty()) return usage("{} holds no API key", path);
    keys.insert(keys.end(), found->begin(), found->end());
  }
  return keys;
}

AppOptions app_options(const ServeOptions& options, std::vector<std::string> keys) {
  AppOptions app;
  app.access = {std::move(keys), options.allowed_hosts, options.allowed_origins, !options.unix_socket.empty()};
  app.metrics = {options.metrics_vllm, options.metrics_llamacpp};
  app.metrics_public = options.metrics_public;
  app.request_timeout = milliseconds(options.request_timeout);
  app.drain_timeout = milliseconds(options.drain_timeout);
  app.health_timeout = milliseconds(options.health_timeout);
  app.ping_interval = milliseconds(options.ping_interval);
  app.log_level = options.log_level;
  return app;
}

ConnectionLimits connection_limits(const ServeOptions& options) {
  ConnectionLimits limits;
  limits.http.body_bytes = options.max_body_bytes;
  limits.all_bodies = std::max<size_t>(limits.all_bodies, 4 * options.max_body_bytes);
  limits.head = milliseconds(options.header_timeout);
  limits.body = milliseconds(options.body_timeout);
  limits.idle = milliseconds(options.idle_timeout);
  limits.stall = milliseconds(options.stall_timeout);
  return limits;
}

// The plan and what runs it.
struct Loaded {
  std::unique_ptr<ValidatedPlan> plan;
  std::unique_ptr<EngineThread> engine;
  std::shared_ptr<const ServedModel> model;
};

// Plans for few sequences at once still get bursts of many clients.
constexpr uint32_t kLeastQueue = 128;
constexpr uint64_t kLeastQueueTokens = 1 << 17;

uint32_t queue_of(const ServeOptions& options, const Plan& plan) {
  return options.queue_sequences == 0 ? std::max(kLeastQueue, 4 * plan.max_batch) : options.queue_sequences;
}

uint64_t queue_tokens_of(const ServeOptions& options, const Plan& plan) {
  const uint64_t contexts = 4 * uint64_t{plan.pages} * plan.page_size;
  return options.queue_tokens == 0 ? std::max(kLeastQueueTokens, contexts) : options.queue_tokens;
}

Status load(const ServeOptions& options, App& app, Loaded& out) {
  TRY_ASSIGN(ValidatedPlan plan, open_plan(options.plan));
  out.plan = std::make_unique<ValidatedPlan>(std::move(plan));
  ValidatedPlan& opened = *out.plan;
  TRY_ASSIGN(const std::shared_ptr<ServedModel> model, ServedModel::load(*opened, options.alias));
  TRY_ASSIGN(auto device, open_device(opened, {options.device, options.isa, options.model_dir, options.threads,
                                               options.numa, options.deterministic}));
  EngineThreadOptions engine;
  engine.scheduler.kv_pages = options.kv_pages;
  engine.scheduler.max_step_tokens = options.max_step_tokens;
  engine.scheduler.prefix_cache = options.prefix_cache;
  engine.queue_sequences = queue_of(options, *opened);
  engine.queue_tokens = queue_tokens_of(options, *opened);
  engine.notify = [&app](std::span<const RequestId> ids) { app.wake(ids); };
  TRY_ASSIGN(out.engine, EngineThread::start(*opened, std::move(device), std::move(engine)));
  model->most_tokens = out.engine->most_tokens();
  out.model = model;
  return {};
}

}  // namespace

Status serve(const ServeOptions& options) {
  // One heap: memory that one thread frees is there for the others.
  mallopt(M_ARENA_MAX, 2);
  std::signal(SIGPIPE, SIG_IGN);
  // A core file would hold prompts and keys.
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  if (options.tls_certificate.empty() != options.tls_key.empty()) {
    return usage("TLS needs both a certificate and its key");
  }
  std::shared_ptr<const TlsContext> tls;
  if (!options.tls_certificate.empty()) {
    TRY_ASSIGN(tls, TlsContext::load(options.tls_certificate, options.tls_key));
  }
  TRY_ASSIGN(std::vector<std::string> keys, all_keys(options));
  const bool has_key = !keys.empty();
  App app(app_options(options, std::move(keys)));
  const ConnectionLimits limits = connection_limits(options);
  TRY_ASSIGN(std::unique_ptr<EventLoop> loop, EventLoop::create({options.host, options.port, options.unix_socket,
                                                                 options.max_connections, std::move(tls)},
                                                                limits, app));
  if (!loop->loopback() && !has_key && !options.insecure_no_auth) {
    return usage(
        "other machines can reach {}, so an API key is needed: --api-key-file, LLRT_API_KEY, or "
        "--insecure-no-auth",
        options.host);
  }
  app.attach(loop.get());
  app.log().line(LogLevel::kNotice, "listening", [&](JsonWriter& json) {
    json.key("addresses").begin_array();
    for (const std::string& address : loop->addresses()) json.string(address);
    json.end_array();
  });

  Loaded loaded;
  Status loading;
  std::thread loader([&] {
    loading = load(options, app, loaded);
    loop->post([&] {
      if (!loading) return loop->stop();
      app.ready(loaded.engine.get(), loaded.model, queue_of(options, **loaded.plan));
      app.log().line(LogLevel::kNotice, "ready", [&](JsonWriter& json) {
        json.string("model", loaded.model->name).integer("context_length", loaded.model->context_length);
        json.integer("max_batch", (**loaded.plan).max_batch).integer("threads", loaded.engine->device().threads);
        const DeviceInfo device = loaded.engine->device();
        if (!device.shares.empty()) {
          json.string("numa", describe(device.shares))
              .string("numa_threads", device.thread_placement)
              .string("numa_memory", device.memory_placement);
        }
      });
    });
  });
  loop->every(App::kTick, [&] {
    app.tick();
    return true;
  });
  loop->run([&](int signals) {
    if (signals == 1) return app.drain();
    loop->stop();
  });
  loader.join();
  app.stop();
  loaded.engine.reset();
  loop.reset();
  TRY(std::move(loading));
  if (!app.failure().empty()) return error(Code::kRetry, "{}", app.failure());
  app.log().line(LogLevel::kNotice, "stopped");
  return {};
}

}  // namespace ll::serve
