#include "runtime/load/load.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/base/escape.h"
#include "runtime/load/client.h"

namespace ll::load {
namespace {

constexpr double kTurn = 0.1, kProgressEvery = 0.25;
constexpr uint32_t kLeastRequests = 16, kMostOpen = 20'000;

double processor_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

bool stopped(const LoadOptions& options) { return options.interrupted && options.interrupted(); }

Result<std::string> first_model(const LoadOptions& options, const Url& url, Client& client) {
  TRY_ASSIGN(const auto answer, client.get(get_request(url, "/v1/models", options.api_key)));
  if (answer.first != 200) {
    return error(Code::kNoInput, "{} answers GET {}/v1/models with {}: {}; --model names one", url.authority, url.path,
                 answer.first, error_message(answer.second));
  }
  const auto json = nlohmann::json::parse(answer.second, nullptr, false);
  const auto data = json.is_object() ? json.find("data") : json.end();
  if (!json.is_object() || data == json.end() || !data->is_array() || data->empty() || !(*data)[0].is_object() ||
      !(*data)[0].contains("id") || !(*data)[0]["id"].is_string()) {
    return error(Code::kNoInput, "{} lists no model: {}; --model names one", url.authority, quote(answer.second));
  }
  return (*data)[0]["id"].get<std::string>();
}

Status check(const LoadOptions& options) {
  if (options.rates.empty() && options.streams.empty()) return usage("there is no level of load");
  for (const uint32_t s : options.streams) {
    if (s == 0 || s > kMostOpen) return usage("{} streams, expected 1 to {}", s, kMostOpen);
  }
  for (const double r : options.rates) {
    if (!(r > 0 && r <= 1e6)) return usage("{} requests a second, expected more than 0", r);
  }
  return {};
}

// Closed loop: `streams` requests are under way until `count` were sent. Open loop: they are sent at `arrivals`.
LevelResult run_level(const LoadOptions& options, Workload& workload, Client& client, uint32_t level, uint32_t streams,
                      double rate, uint32_t count) {
  const std::vector<double> arrivals =
      rate > 0 ? workload.arrivals(level, rate, count) : std::vector<double>(count, 0.0);
  const uint32_t most = rate > 0 ? kMostOpen : streams;
  std::vector<Sample> samples;
  uint32_t sent = 0, most_open = 0;
  uint64_t chunks = 0;
  double shown = 0;
  const double processor = processor_seconds();
  client.begin_level();
  while (samples.size() < count && !stopped(options)) {
    while (sent < count && client.open() < most && arrivals[sent] <= client.now()) {
      client.send(workload.request(level, sent++));
      most_open = std::max(most_open, static_cast<uint32_t>(client.open()));
    }
    double pause = kTurn;
    if (sent < count && client.open() < most) pause = std::min(pause, arrivals[sent] - client.now());
    client.wait(std::max(0.0, pause), [&](Sample sample) {
      chunks += sample.chunks;
      samples.push_back(std::move(sample));
    });
    if (options.progress && client.now() - shown > kProgressEvery) {
      shown = client.now();
      options.progress(fmt::format("{}: {} of {} answered, {} under way, {:.0f} texts/s",
                                   rate > 0 ? fmt::format("{} requests/s", rate) : fmt::format("{} streams", streams),
                                   samples.size(), count, client.open(), static_cast<double>(chunks) / shown));
    }
  }
  client.abandon();
  const double wall = client.now();
  LevelResult result = evaluate(options, std::move(samples));
  result.streams = rate > 0 ? 0 : streams;
  result.rate = rate;
  result.most_open = most_open;
  result.client_load = (processor_seconds() - processor) / std::max(wall, 1e-9);
  return result;
}

}  // namespace

Result<LoadResult> run_load(const LoadOptions& options) {
  TRY(check(options));
  TRY_ASSIGN(const Url url, Url::parse(options.url));
  TRY_ASSIGN(auto client, Client::create(url, options.timeout));
  LoadResult result;
  result.model = options.model;
  if (result.model.empty()) {
    TRY_ASSIGN(result.model, first_model(options, url, *client));
  }
  TRY_ASSIGN(Workload workload, Workload::create(options, url, result.model));

  if (options.warmup > 0) {
    const LevelResult warm = run_level(options, workload, *client, 0, 1, 0, options.warmup);
    if (warm.answered == 0 && !stopped(options)) {
      return error(Code::kNoInput, "{} does not answer: {}", url.authority, warm.first_error);
    }
  }
  const bool open_loop = !options.rates.empty();
  const size_t levels = open_loop ? options.rates.size() : options.streams.size();
  for (size_t i = 0; i < levels && !stopped(options); ++i) {
    const uint32_t streams = open_loop ? 0 : options.streams[i];
    const double rate = open_loop ? options.rates[i] : 0;
    uint32_t count = options.requests;
    if (count == 0)
      count = std::max(kLeastRequests, open_loop ? static_cast<uint32_t>(std::ceil(10 * rate)) : 4 * streams);
    result.levels.push_back(run_level(options, workload, *client, static_cast<uint32_t>(i + 1), streams, rate, count));
  }
  result.interrupted = stopped(options);
  return result;
}

}  // namespace ll::load
