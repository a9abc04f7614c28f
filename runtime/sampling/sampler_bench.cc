// One row of logits of a 128 k vocabulary by what is asked of the sampler.
#include <benchmark/benchmark.h>

#include <random>

#include "runtime/sampling/sampler.h"

namespace ll {
namespace {

std::vector<float> random_row() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(128256);
  for (float& l : logits) l = normal(random);
  return logits;
}

// From the 64 most likely, as a GPU lists them.
void sample_list(benchmark::State& state, const SampleParams& params, uint32_t top_logprobs) {
  const std::vector<float> logits = random_row();
  std::vector<Candidate> candidates;
  TopK().find(logits, 64, candidates);
  const float largest = candidates[0].logit, temperature = params.temperature == 0 ? 1 : params.temperature;
  const Shortlist list{candidates, logits.size(), exp_sum(logits, largest, temperature), exp_sum(logits, largest, 1)};
  Sampler sampler;
  RowSampling row;
  row.params = &params;
  row.logprob = top_logprobs > 0;
  row.top_logprobs = top_logprobs;
  for (auto _ : state) {
    ++row.draw;
    const auto sampled = sampler.sample(list, row);
    if (!sampled) state.SkipWithError("the list does not decide");
    benchmark::DoNotOptimize(sampled);
  }
}

void sample(benchmark::State& state, const SampleParams& params, uint32_t top_logprobs) {
  std::mt19937 random(1);
  const std::vector<float> logits = random_row();
  std::vector<int32_t> history(1000);
  for (int32_t& t : history) t = static_cast<int32_t>(random() % 500);
  Sampler sampler;
  RowSampling row;
  row.params = &params;
  row.history = history;
  row.logprob = top_logprobs > 0;
  row.top_logprobs = top_logprobs;
  for (auto _ : state) {
    ++row.draw;
    benchmark::DoNotOptimize(sampler.sample(logits, row).token);
  }
}

SampleParams with(void (*change)(SampleParams&)) {
  SampleParams p;
  p.temperature = 0.8F;
  p.top_k = 0;
  p.top_p = 1;
  p.min_p = 0;
  change(p);
  return p;
}

BENCHMARK_CAPTURE(sample, greedy, with([](SampleParams& p) { p.temperature = 0; }), 0);
BENCHMARK_CAPTURE(sample, greedy_top20_logprobs, with([](SampleParams& p) { p.temperature = 0; }), 20);
BENCHMARK_CAPTURE(sample, temperature, with([](SampleParams&) {}), 0);
BENCHMARK_CAPTURE(sample, top_p, with([](SampleParams& p) { p.top_p = 0.9F; }), 0);
BENCHMARK_CAPTURE(sample, top_p_of_a_flat_row, with([](SampleParams& p) { p.temperature = 4, p.top_p = 0.95F; }), 0);
BENCHMARK_CAPTURE(sample, min_p, with([](SampleParams& p) { p.min_p = 0.05F; }), 0);
BENCHMARK_CAPTURE(sample, top_k_40_top_p, with([](SampleParams& p) { p.top_k = 40, p.top_p = 0.95F; }), 0);
BENCHMARK_CAPTURE(sample, penalties, with([](SampleParams& p) { p.top_k = 40, p.repetition_penalty = 1.1F; }), 0);
BENCHMARK_CAPTURE(sample, dry, with([](SampleParams& p) { p.top_k = 40, p.dry_multiplier = 0.8F; }), 0);
BENCHMARK_CAPTURE(sample, typical, with([](SampleParams& p) { p.typical_p = 0.9F; }), 0);
BENCHMARK_CAPTURE(sample, mirostat_1, with([](SampleParams& p) { p.mirostat = 1; }), 0);
BENCHMARK_CAPTURE(sample, mirostat_2, with([](SampleParams& p) { p.mirostat = 2; }), 0);

BENCHMARK_CAPTURE(sample_list, greedy, with([](SampleParams& p) { p.temperature = 0; }), 0);
BENCHMARK_CAPTURE(sample_list, greedy_top20_logprobs, with([](SampleParams& p) { p.temperature = 0; }), 20);
BENCHMARK_CAPTURE(sample_list, min_p, with([](SampleParams& p) { p.min_p = 0.5F; }), 0);
BENCHMARK_CAPTURE(sample_list, top_k_40_top_p, with([](SampleParams& p) { p.top_k = 40, p.top_p = 0.95F; }), 0);

}  // namespace
}  // namespace ll
