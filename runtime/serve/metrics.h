// What /metrics shows, in Prometheus' text format 0.0.4.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/engine/engine_thread.h"
#include "runtime/serve/event_loop.h"

namespace ll::serve {

class Histogram {
 public:
  // Ascending; outlives the histogram.
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds), counts_(bounds.size() + 1) {}
  void add(double value);
  void print(std::string& out, std::string_view name, std::string_view labels) const;
  double sum() const { return sum_; }

 private:
  std::span<const double> bounds_;
  std::vector<uint64_t> counts_;
  double sum_ = 0;
};

// Counts of what the server itself sees. The event loop's thread alone uses it.
struct ServerMetrics {
  ServerMetrics();

  uint64_t requests = 0;       // that began to be answered by the engine
  uint64_t responses[6] = {};  // by the hundreds of their status
  uint64_t malformed = 0;      // that were no HTTP
  uint64_t refused = 0;        // 429
  uint64_t disconnects = 0;    // clients that left before their answer ended
  uint64_t timeouts = 0;       // answers given up at their deadline
  uint64_t finished_stop = 0, finished_length = 0, finished_abort = 0;
  uint64_t preparing = 0;      // requests being read, now
  uint64_t most_sequence = 0;  // tokens of the longest prompt with its answers

  Histogram time_to_first_token, inter_token_latency, end_to_end, queue_time, inference_time, prefill_time, decode_time;
  Histogram prompt_tokens, generation_tokens, max_tokens, longest_answer, n;
};

struct MetricsOptions {
  bool vllm = true;       // vLLM's names, besides ours
  bool llamacpp = false;  // llama.cpp's
};

// `model` becomes the label model_name.
std::string metrics_text(const ServerMetrics& server, const EngineStats& engine, const LoopStats& loop,
                         std::string_view model, const MetricsOptions& options);

}  // namespace ll::serve
