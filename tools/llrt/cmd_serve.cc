#include <cstdlib>

#include "runtime/serve/server.h"
#include "tools/llrt/commands.h"

namespace ll {
namespace {

// NAME or its older sibling of another server; empty when neither is set.
const char* from_environment(const char* name, const char* sibling) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == 0) value = std::getenv(sibling);
  return value == nullptr ? "" : value;
}

Status run(serve::ServeOptions options) {
  if (const std::string key = from_environment("LLRT_API_KEY", "LLAMA_API_KEY"); !key.empty()) {
    options.api_keys.push_back(key);
  }
  return serve::serve(options);
}

void add_network_options(CLI::App& app, serve::ServeOptions& o) {
  app.add_option("--host", o.host, "name or address to listen at")->envname("LLRT_ARG_HOST")->capture_default_str();
  app.add_option("--port", o.port, "0: any free one")->envname("LLRT_ARG_PORT")->capture_default_str()->type_name("N");
  app.add_option("--unix-socket", o.unix_socket, "listen at this path instead; only this user can connect")
      ->type_name("PATH");
  app.add_option("--ssl-cert-file", o.tls_certificate, "PEM certificate chain: serve HTTPS (needs libssl3)")
      ->type_name("FILE");
  app.add_option("--ssl-key-file", o.tls_key, "PEM private key of the certificate, without a password")
      ->type_name("FILE");
  app.add_option("--api-key-file", o.api_key_files,
                 "file of API keys, one a line; also: environment variable LLRT_API_KEY")
      ->type_name("FILE");
  app.add_flag("--insecure-no-auth", o.insecure_no_auth, "serve other machines without an API key");
  app.add_option("--allow-host", o.allowed_hosts,
                 "name that requests may be addressed to, besides localhost and addresses; *: any")
      ->type_name("NAME");
  app.add_option("--allow-origin", o.allowed_origins,
                 "origin whose pages may ask, such as https://example.org; *: any (default: our own)")
      ->type_name("ORIGIN");
  app.add_flag("--metrics-public", o.metrics_public, "/metrics needs no API key");
}

void add_limits(CLI::App& app, serve::ServeOptions& o) {
  const auto seconds = [&](const char* flag, double& value, const char* help) {
    app.add_option(flag, value, help)->check(CLI::Range(0.0, 86400.0))->capture_default_str()->type_name("SECONDS");
  };
  app.add_option("--max-connections", o.max_connections, "open at once; more wait")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--max-body", o.max_body_bytes, "bytes of a request's body")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 32))
      ->capture_default_str()
      ->type_name("BYTES");
  seconds("--header-timeout", o.header_timeout, "for a request's head to arrive");
  seconds("--body-timeout", o.body_timeout, "for its body to arrive");
  seconds("--idle-timeout", o.idle_timeout, "between requests of a connection");
  seconds("--stall-timeout", o.stall_timeout, "in which a client has to read 4 KiB, or what there is");
  seconds("--request-timeout", o.request_timeout, "for an answer, queued time included");
  seconds("--drain-timeout", o.drain_timeout, "after SIGTERM, for what was accepted");
  seconds("--health-timeout", o.health_timeout, "without progress of the engine until /health is 503");
  seconds("--ping-interval", o.ping_interval, "between comments on a silent stream; 0: none");
  app.add_option("--queue", o.queue_sequences,
                 "answers that may wait; more are 429 (default: 4 times the batch, at least 128)")
      ->type_name("N");
  app.add_option("--queue-tokens", o.queue_tokens,
                 "tokens of prompts that may wait (default: 4 times the KV cache, at least 131072)")
      ->type_name("N");
}

}  // namespace

Command add_serve(CLI::App& app) {
  auto options = std::make_shared<serve::ServeOptions>();
  serve::ServeOptions& o = *options;
  app.add_option("plan,-m,--model", o.plan, "plan made by llcc compile")
      ->required()
      ->envname("LLRT_ARG_MODEL")
      ->type_name("PLAN");
  app.add_option("-t,--threads", o.threads, "threads (default: one per physical core that affinity and cgroup allow)")
      ->check(CLI::Range(1, 256))
      ->envname("LLRT_ARG_THREADS")
      ->type_name("N");
  app.add_option("--numa", o.numa,
                 "several NUMA nodes: auto, off (threads and memory as the system likes) or a node's number: run on it "
                 "(default: auto)")
      ->envname("LLRT_ARG_NUMA")
      ->type_name("NODE");
  app.add_option("--isa", o.isa,
                 "instruction set of the kernels: scalar, avx2, avx-vnni, avx512-vnni or amx (default: the best here)")
      ->check(CLI::IsMember({"scalar", "avx2", "avx-vnni", "avx512-vnni", "amx"}))
      ->type_name("LEVEL");
  app.add_option("--device", o.device, "cpu, cuda or cuda:N (default: a GPU that the plan has code for, else the CPU)")
      ->type_name("DEVICE");
  app.add_option("--model-dir", o.model_dir, "folder of the files that a plan with --weights reference names")
      ->type_name("DIR");
  app.add_option("-a,--alias,--served-model-name", o.alias, "the model's name in answers (default: the plan's)")
      ->envname("LLRT_ARG_ALIAS")
      ->type_name("NAME");
  add_network_options(app, o);
  add_limits(app, o);
  app.add_option("--kv-pages", o.kv_pages, "pages of the KV cache to use (default: all of the plan's)")->type_name("N");
  app.add_option("--max-num-batched-tokens", o.max_step_tokens,
                 "tokens of a step at most (default: what the plan holds)")
      ->type_name("N");
  app.add_flag("!--no-prefix-caching", o.prefix_cache, "keep no pages of finished prompts for later ones");
  app.add_flag("--deterministic", o.deterministic,
               "a request's tokens do not depend on what else is served: level avx512-vnni does not choose faster "
               "arithmetic for prompts, nor amx for prompts and single tokens; other levels and GPUs are always so");
  app.add_flag_callback(
      "--metrics-llamacpp", [options] { options->metrics_llamacpp = true; }, "print llama.cpp's metric names too");
  app.add_flag_callback(
      "--no-metrics-vllm", [options] { options->metrics_vllm = false; }, "do not print vLLM's metric names");
  app.add_option("--log-level", o.log_level, "0: starting, ending and errors; 1: requests too; 2: everything")
      ->check(CLI::Range(0, 2))
      ->capture_default_str();
  app.footer(
      "Answers OpenAI's API: POST /v1/chat/completions, /v1/completions; GET /v1/models, /health, /metrics,\n"
      "/openapi.json. Listens on this machine alone unless --host says otherwise. SIGTERM: answers what was\n"
      "accepted, then ends. Logs JSON lines to stderr, without any text of prompts or answers.");
  return [options] { return run(*options); };
}

}  // namespace ll
