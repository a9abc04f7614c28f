// Serving scenarios on the CPU, without sockets: LLCUDA_BENCH_PLAN names a plan (--max-batch 16 or more, --ctx-size
// 2048). Counters, not times, are the result:
//   Streams/n       n closed-loop streams: tokens/s, generated tokens a step, host microseconds a step (all but the
//                   device), gaps between tokens
//   LongPrompt      a 1,500-token prompt arrives while 16 streams decode: gaps of the others without and with it
//   SharedPrefix    time to first token of 1,000 shared + 100 own tokens, over that of the 100 alone
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>

#include "runtime/device/cpu/cpu_device.h"
#include "runtime/engine/scheduler.h"

namespace ll {
namespace {

Seconds now() { return std::chrono::steady_clock::now().time_since_epoch(); }

const ValidatedPlan* plan() {
  static const auto opened = [] {
    const char* const path = std::getenv("LLCUDA_BENCH_PLAN");
    auto plan = open_plan(path == nullptr ? "" : path);
    return plan ? std::make_unique<ValidatedPlan>(std::move(*plan)) : nullptr;
  }();
  return opened.get();
}

// Requests and when their tokens came.
class Load {
 public:
  Load() {
    auto device = open_cpu_device(**plan(), *Weights::load(*plan()), {});
    scheduler_ = *Scheduler::create(**plan(), std::move(*device), {}, now);
  }

  RequestId submit(std::vector<int32_t> prompt, uint32_t max_tokens) {
    Request request;
    request.prompt = std::move(prompt);
    request.max_tokens = max_tokens;
    request.ignore_eos = true;
    const RequestId id = ++last_id_;
    streams_[id] = std::make_shared<EventStream>(id, 10000);
    begun_[id] = now();
    scheduler_->submit(std::move(request), streams_[id]);
    return id;
  }
  // One step; returns the requests that ended.
  std::vector<RequestId> tick() {
    scheduler_->tick();
    std::vector<RequestId> ended;
    for (const RequestId id : scheduler_->take_notices()) {
      std::vector<Event> events;
      streams_[id]->take(events);
      for (const Event& event : events) {
        if (std::holds_alternative<TokenEvent>(event)) times[id].push_back(now().count());
        if (std::holds_alternative<DoneEvent>(event)) {
          ended.push_back(id);
          streams_.erase(id);
        }
      }
    }
    return ended;
  }
  double first_token(std::vector<int32_t> prompt) {
    const RequestId id = submit(std::move(prompt), 1);
    while (tick().empty()) continue;
    return times[id][0] - begun_[id].count();
  }
  Scheduler& scheduler() { return *scheduler_; }

  std::map<RequestId, std::vector<double>> times;

 private:
  std::unique_ptr<Scheduler> scheduler_;
  std::map<RequestId, std::shared_ptr<EventStream>> streams_;
  std::map<RequestId, Seconds> begun_;
  RequestId last_id_ = 0;
};

std::vector<int32_t> random_text(size_t count, std::mt19937& random) {
  std::vector<int32_t> tokens(count);
  for (int32_t& t : tokens) t = static_cast<int32_t>(random() % (*plan())->model.vocab_size);
  return tokens;
}

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(q * static_cast<double>(values.size())))];
}

void streams(benchmark::State& state) {
  if (plan() == nullptr) return state.SkipWithError("LLCUDA_BENCH_PLAN names no plan");
  for (auto _ : state) {
    Load load;
    std::mt19937 random(1);
    const auto count = static_cast<size_t>(state.range(0));
    const double begin = now().count();
    size_t submitted = 0, ended = 0;
    for (; submitted < count; ++submitted) load.submit(random_text(100, random), 128);
    while (ended < 3 * count) {
      for (const RequestId id : load.tick()) {
        benchmark::DoNotOptimize(id);
        ++ended;
        if (submitted < 3 * count) {
          load.submit(random_text(100, random), 128);
          ++submitted;
        }
      }
    }
    const SchedulerStats& stats = load.scheduler().stats();
    const auto steps = static_cast<double>(stats.steps);
    std::vector<double> gaps;
    for (const auto& [id, times] : load.times) {
      for (size_t i = 1; i < times.size(); ++i) gaps.push_back(times[i] - times[i - 1]);
    }
    state.counters["tokens/s"] = static_cast<double>(stats.generated_tokens) / (now().count() - begin);
    state.counters["tokens/step"] = static_cast<double>(stats.generated_tokens) / steps;
    state.counters["host_us/step"] = stats.host_seconds / steps * 1e6;
    state.counters["device_us/step"] = stats.step_seconds / steps * 1e6;
    state.counters["gap_p50_ms"] = quantile(gaps, 0.5) * 1e3;
    state.counters["gap_p99_ms"] = quantile(gaps, 0.99) * 1e3;
  }
}

void long_prompt(benchmark::State& state) {
  if (plan() == nullptr) return state.SkipWithError("LLCUDA_BENCH_PLAN names no plan");
  for (auto _ : state) {
    Load load;
    std::mt19937 random(1);
    for (int i = 0; i < 15; ++i) load.submit(random_text(50, random), 1200);
    for (int i = 0; i < 400; ++i) load.tick();
    const auto gaps_since = [&](size_t from) {
      std::vector<double> gaps;
      for (const auto& [id, times] : load.times) {
        if (id > 15) continue;
        for (size_t i = std::max<size_t>(from, 1); i < times.size(); ++i) gaps.push_back(times[i] - times[i - 1]);
      }
      return gaps;
    };
    const std::vector<double> before = gaps_since(100);
    const size_t from = load.times[1].size();
    const double begin = now().count();
    const RequestId id = load.submit(random_text(1500, random), 1);
    while (load.times.count(id) == 0) load.tick();
    const std::vector<double> with = gaps_since(from);
    state.counters["gap_p99_ms"] = quantile(before, 0.99) * 1e3;
    state.counters["gap_p99_ms_with"] = quantile(with, 0.99) * 1e3;
    state.counters["gap_p50_ms"] = quantile(before, 0.5) * 1e3;
    state.counters["gap_p50_ms_with"] = quantile(with, 0.5) * 1e3;
    state.counters["prompt_ms"] = (now().count() - begin) * 1e3;
  }
}

void shared_prefix(benchmark::State& state) {
  if (plan() == nullptr) return state.SkipWithError("LLCUDA_BENCH_PLAN names no plan");
  for (auto _ : state) {
    Load load;
    std::mt19937 random(1);
    const std::vector<int32_t> prefix = random_text(1000, random);
    const auto text = [&] {
      std::vector<int32_t> t = prefix;
      const auto own = random_text(100, random);
      t.insert(t.end(), own.begin(), own.end());
      return t;
    };
    load.first_token(text());
    std::vector<double> shared, alone;
    for (int i = 0; i < 20; ++i) {
      shared.push_back(load.first_token(text()));
      alone.push_back(load.first_token(random_text(100, random)));
    }
    state.counters["shared_ms"] = quantile(shared, 0.5) * 1e3;
    state.counters["alone_ms"] = quantile(alone, 0.5) * 1e3;
    state.counters["ratio"] = quantile(shared, 0.5) / quantile(alone, 0.5);
  }
}

BENCHMARK(streams)->Name("Streams")->Arg(1)->Arg(4)->Arg(16)->Arg(64)->Iterations(1)->Unit(benchmark::kMillisecond);
BENCHMARK(long_prompt)->Name("LongPrompt")->Iterations(1)->Unit(benchmark::kMillisecond);
BENCHMARK(shared_prefix)->Name("SharedPrefix")->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace ll
