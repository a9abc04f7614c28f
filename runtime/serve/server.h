// llrt serve: a plan behind an OpenAI-compatible HTTP API. The only header of this folder that others include.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/result.h"

namespace ll::serve {

struct ServeOptions {
  std::string plan, model_dir;
  std::string device;  // "cpu", "cuda", "cuda:1"; empty: a GPU that the plan has code for, else the CPU
  std::string isa;     // empty: the best here
  int threads = 0;     // 0: one per core that affinity and cgroup allow
  std::string numa;    // "auto", "off", the number of a node; empty: auto
  std::string alias;   // the model's name in answers; empty: the plan's

  std::string host = "127.0.0.1";
  uint16_t port = 8080;     // 0: any free one
  std::string unix_socket;  // path; instead of host and port
  std::string tls_certificate, tls_key;

  std::vector<std::string> api_keys;       // from the environment
  std::vector<std::string> api_key_files;  // one key a line
  bool insecure_no_auth = false;           // serve other machines without a key
  std::vector<std::string> allowed_hosts, allowed_origins;

  // Limits. Seconds, bytes, counts; reliability first.
  uint32_t max_connections = 10'240;
  uint64_t max_body_bytes = 8 << 20;
  double header_timeout = 10, body_timeout = 30, idle_timeout = 75, stall_timeout = 30, request_timeout = 600;
  double drain_timeout = 30, health_timeout = 30;
  double ping_interval = 30;     // between comments on a stream that has nothing else to say; 0: none
  uint32_t queue_sequences = 0;  // waiting at most; 0: four times the batch, at least 128
  uint64_t queue_tokens = 0;     // of their prompts; 0: four times what the KV cache holds, at least 131,072

  uint32_t kv_pages = 0;         // of the plan's; 0: all
  uint32_t max_step_tokens = 0;  // 0: what the plan's largest program holds
  bool prefix_cache = true;
  bool deterministic = false;  // a request's tokens do not depend on what else is served

  bool metrics_vllm = true, metrics_llamacpp = false;
  bool metrics_public = false;  // /metrics without a key
  int log_level = 1;            // 0: starting, ending and errors; 1: requests too; 2: everything
};

// Serves until SIGTERM or SIGINT and then until what was accepted is answered, for drain_timeout at most; a second
// signal ends at once. Says on stderr, in JSON lines, at which addresses it listens, when the model is loaded, and what
// was answered.
//   kUsage         options that contradict each other; no key while other machines can reach the server
//   kCannotCreate  the address is taken
//   kRetry         the device was lost while serving: start again
Status serve(const ServeOptions& options);

}  // namespace ll::serve
