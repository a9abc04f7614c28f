#include "runtime/engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "runtime/engine/scheduler_core.h"

namespace ll {
namespace {

// After so many steps in a row that failed the device is given up.
constexpr uint32_t kMostFailedSteps = 8;

// Numbers of tokens whose steps' costs are told apart: of the programs, and between large ones every tile.
std::vector<uint32_t> step_sizes(const Plan& plan, uint32_t tile) {
  std::vector<uint32_t> sizes;
  for (const Program& program : plan.programs) {
    while (tile > 1 && !sizes.empty() && sizes.back() % tile == 0 && sizes.back() + tile < program.max_tokens) {
      sizes.push_back(sizes.back() + tile);
    }
    if (sizes.empty() || program.max_tokens > sizes.back()) sizes.push_back(program.max_tokens);
  }
  return sizes;
}

}  // namespace

Scheduler::Core::Core(std::unique_ptr<Engine> e, const SchedulerOptions& o, std::function<Seconds()> c)
    : engine(std::move(e)),
      plan(engine->plan()),
      largest(plan.programs.back()),
      options(o),
      clock(std::move(c)),
      token_tile(std::max(1U, engine->device().info().token_tile)),
      cost(step_sizes(plan, token_tile)),
      decode_cost(cost),
      most_step_tokens(o.max_step_tokens == 0 ? largest.max_tokens : std::min(o.max_step_tokens, largest.max_tokens)),
      places(std::min(plan.max_batch, largest.max_sequences)),
      most_tokens(static_cast<uint32_t>(std::min<uint64_t>(
          plan.model.context_length, uint64_t{engine->pages().count()} * engine->pages().page_size()))) {
  count_now();
}

Scheduler::Scheduler(std::unique_ptr<Core> core) : core_(std::move(core)) {}
Scheduler::~Scheduler() = default;

Result<std::unique_ptr<Scheduler>> Scheduler::create(const Plan& plan, std::unique_ptr<Device> device,
                                                     const SchedulerOptions& options, std::function<Seconds()> clock) {
  if (!(options.prefill_stretch == 0 || (options.prefill_stretch >= 1 && options.prefill_stretch <= 1000))) {
    return usage("prefill_stretch is {}, expected 0 or 1 to 1000", options.prefill_stretch);
  }
  if (!(options.priority_step.count() >= 0 && options.priority_step.count() <= 1e6)) {
    return usage("priority_step is {} s, expected 0 to 1e6", options.priority_step.count());
  }
  EngineOptions engine_options;
  engine_options.kv_pages = options.kv_pages;
  engine_options.resident_pages = options.resident_pages;
  if (options.resident_pages == 0 && device->info().kv_on_demand) {
    engine_options.resident_pages = std::max(1U, (options.kv_pages == 0 ? plan.pages : options.kv_pages) / 2);
  }
  TRY_ASSIGN(auto engine, Engine::create(plan, std::move(device), engine_options));
  return std::unique_ptr<Scheduler>(
      new Scheduler(std::make_unique<Core>(std::move(engine), options, std::move(clock))));
}

const Plan& Scheduler::plan() const { return core_->plan; }
DeviceInfo Scheduler::device() const { return core_->engine->device().info(); }
uint32_t Scheduler::most_tokens() const { return core_->most_tokens; }
const SchedulerStats& Scheduler::stats() const { return core_->stats; }
bool Scheduler::tick() { return core_->tick(); }
bool Scheduler::idle() const { return core_->groups.empty(); }
std::vector<RequestId> Scheduler::take_notices() { return std::exchange(core_->notices, {}); }

Status Scheduler::check(const Request& request) const {
  const Plan& plan = core_->plan;
  const auto token_in_range = [&](const char* what, int32_t token) -> Status {
    if (token >= 0 && static_cast<uint32_t>(token) < plan.model.vocab_size) return {};
    return usage("{} {} is outside the vocabulary of {}", what, token, plan.model.vocab_size);
  };
  if (request.prompt.empty()) return usage("the prompt has no tokens");
  if (request.prompt.size() >= core_->most_tokens) {
    return usage("the prompt has {} tokens, expected less than the {} that context and KV pages hold",
                 request.prompt.size(), core_->most_tokens);
  }
  for (const int32_t token : request.prompt) TRY(token_in_range("prompt token", token));
  if (request.sequences < 1 || request.sequences > kMostSequences) {
    return usage("{} sequences, expected 1 to {}", request.sequences, kMostSequences);
  }
  if (request.max_tokens < 1) return usage("max_tokens is 0, expected at least 1");
  if (request.stop_tokens.size() > kMostStopTokens) {
    return usage("{} stop tokens, expected at most {}", request.stop_tokens.size(), kMostStopTokens);
  }
  for (const int32_t token : request.stop_tokens) TRY(token_in_range("stop token", token));
  if (request.priority < -kMostPriority || request.priority > kMostPriority) {
    return usage("priority is {}, expected {} to {}", request.priority, -kMostPriority, kMostPriority);
  }
  if (request.top_logprobs > kMostTopLogprobs) {
    return usage("top_logprobs is {}, expected at most {}", request.top_logprobs, kMostTopLogprobs);
  }
  if (request.top_logprobs > 0 && !request.logprobs && !request.prompt_logprobs) {
    return usage("top_logprobs without logprobs");
  }
  return check_params(request.sampling, plan.model.vocab_size);
}

void Scheduler::submit(Request request, std::shared_ptr<EventStream> stream) {
  Core& core = *core_;
  auto group = std::make_unique<Group>();
  Group& g = *group;
  g.stream = std::move(stream);
  g.number = ++core.submitted;
  g.submitted = core.clock();
  g.key = g.submitted.count() + request.priority * core.options.priority_step.count();
  g.ends = request.stop_tokens;
  if (!request.ignore_eos) {
    g.ends.insert(g.ends.end(), core.plan.model.eos_tokens.begin(), core.plan.model.eos_tokens.end());
  }
  std::sort(g.ends.begin(), g.ends.end());
  g.max_tokens = std::min(request.max_tokens, core.most_tokens - static_cast<uint32_t>(request.prompt.size()));
  g.done.prompt_tokens = static_cast<uint32_t>(request.prompt.size());
  g.answers.resize(request.sequences);
  g.unfinished = request.sequences;
  g.request = std::move(request);
  const RequestId id = g.stream->id();
  core.groups.emplace(id, std::move(group));
  for (uint32_t i = 0; i < g.unfinished; ++i) {
    Answer& a = g.answers[i];
    a.group = &g;
    a.index = i;
    a.text = g.request.prompt;
    core.waiting.insert(&a);
  }
  if (core.failure) core.fail_all(*core.failure);
  core.count_now();
}

void Scheduler::cancel(RequestId id, std::optional<uint32_t> index) { core_->cancellations.emplace_back(id, index); }

void Scheduler::cancel_all() {
  for (const auto& [id, group] : core_->groups) core_->cancellations.emplace_back(id, std::nullopt);
}

void Scheduler::Core::carry_out_cancellations() {
  for (const auto& [id, index] : std::exchange(cancellations, {})) {
    const auto found = groups.find(id);
    if (found == groups.end()) continue;
    for (Answer& a : found->second->answers) {
      if (!a.finished && (!index || *index == a.index)) finish(a, FinishReason::kCancelled);
    }
  }
  bury();
}

bool Scheduler::Core::tick() {
  ++ticks;
  const Seconds begin = clock();
  carry_out_cancellations();
  choose();
  const bool ran = !chosen.empty();
  const double device_before = stats.step_seconds;
  if (ran) run();
  count_now();
  if (ran) stats.host_seconds += (clock() - begin).count() - (stats.step_seconds - device_before);
  return ran;
}

// Runs what was chosen as one step.
void Scheduler::Core::run() {
  work.clear();
  rows.clear();
  for (const Chosen& c : chosen) {
    const Answer& a = *c.answer;
    const Request& request = a.group->request;
    const uint32_t begin = a.sequence->length(), end = begin + c.count;
    work.push_back({a.sequence.get(), std::span(a.text).subspan(begin, c.count), c.rows});
    for (uint32_t p = c.rows == LogitRows::kAll ? begin : end - 1; p < end && c.rows != LogitRows::kNone; ++p) {
      RowSampling& row = rows.emplace_back();
      const bool prompt = p + 1 < a.text.size();
      row.params = &request.sampling;
      row.history = a.text;
      if (a.generated < request.min_tokens) row.banned = a.group->ends;
      row.state = &c.answer->sampling;
      row.draw = a.generated;
      row.stream = a.index;
      row.logprob = prompt || request.logprobs;
      row.top_logprobs = row.logprob ? request.top_logprobs : 0;
      if (prompt) row.given = a.text[p + 1];
    }
  }
  const Seconds begin = clock();
  const auto sampled = engine->step(work, rows);
  const double seconds = (clock() - begin).count();
  stats.step_seconds += seconds;
  ++stats.steps;
  const auto* const bound =
      std::lower_bound(std::begin(SchedulerStats::kStepBounds), std::end(SchedulerStats::kStepBounds), seconds);
  ++stats.step_histogram[bound - std::begin(SchedulerStats::kStepBounds)];
  if (!sampled) {
    step_failed(sampled.error());
    return;
  }
  failed_in_a_row = 0;
  stats.step_tokens += chosen_tokens;
  const auto* const size =
      std::lower_bound(std::begin(SchedulerStats::kTokenBounds), std::end(SchedulerStats::kTokenBounds), chosen_tokens);
  ++stats.token_histogram[size - std::begin(SchedulerStats::kTokenBounds)];
  cost.observe(computed(chosen_tokens), seconds);
  if (chosen_tokens == chosen.size()) decode_cost.observe(computed(chosen_tokens), seconds);
  const uint64_t generated = stats.generated_tokens;
  take_results(*sampled);
  const auto more = static_cast<uint32_t>(stats.generated_tokens - generated);
  note_demand(chosen_tokens - std::min(chosen_tokens, more), more);
}

void Scheduler::Core::take_results(std::span<const SampledToken> sampled) {
  size_t row = 0;
  for (const Chosen& c : chosen) {
    Answer& a = *c.answer;
    a.suspect = false;
    a.last_step = stats.steps;
    const uint32_t end = a.sequence->length(), begin = end - c.count;
    const size_t next = row + (c.rows == LogitRows::kAll ? c.count : c.rows == LogitRows::kLast ? 1 : 0);
    const bool good =
        std::all_of(sampled.begin() + static_cast<ptrdiff_t>(row), sampled.begin() + static_cast<ptrdiff_t>(next),
                    [](const SampledToken& s) { return s.token >= 0; });
    // Before the answer may end, so that its pages stay known; not what gave numbers that are none.
    if (good && options.prefix_cache) a.sequence->publish();
    for (uint32_t p = c.rows == LogitRows::kAll ? begin : end - 1; row < next; ++p, ++row) {
      if (take_row(a, p, sampled[row])) continue;
      row = next;
      break;
    }
  }
  bury();
}

// The row of position p. False when the answer has ended.
bool Scheduler::Core::take_row(Answer& a, uint32_t p, const SampledToken& sampled) {
  Group& g = *a.group;
  if (sampled.token < 0) {
    a.sequence->retract();
    finish(a, FinishReason::kError, -1, sampled.error);
    return false;
  }
  if (p + 1 < a.text.size()) {
    if (p + 1 >= a.scored && p + 1 < g.request.prompt.size()) {
      a.scored = p + 2;
      emit(g, PromptEvent{p + 1, sampled.token, sampled.logprob, sampled.top});
    }
    return true;
  }
  a.text.push_back(sampled.token);
  ++a.generated;
  ++g.done.completion_tokens;
  ++stats.generated_tokens;
  if (g.done.completion_tokens == 1) g.first_token = clock();
  const bool ends = std::binary_search(g.ends.begin(), g.ends.end(), sampled.token);
  emit(g, TokenEvent{a.index, sampled.token, ends, sampled.logprob, sampled.top});
  if (ends) {
    finish(a, FinishReason::kStop, sampled.token);
  } else if (a.generated >= g.max_tokens) {
    finish(a, FinishReason::kLength);
  }
  return !a.finished;
}

// Nothing of the step counts. Everybody waits again, since copies of pages may be missing. Those that were in it run
// alone until they succeed: whoever fails alone is at fault, the others never notice.
void Scheduler::Core::step_failed(const Error& error) {
  ++stats.failed_steps;
  ++failed_in_a_row;
  if (error.code == Code::kRetry || failed_in_a_row >= kMostFailedSteps) {
    failure = error;
    failure->code = Code::kRetry;
    stats.failure = failure->message;
    fail_all(*failure);
    return;
  }
  const bool alone = chosen.size() == 1 && chosen[0].answer->suspect;
  for (const Chosen& c : chosen) c.answer->suspect = true;
  while (!running.empty()) preempt(**running.rbegin());
  if (alone) finish(*chosen[0].answer, FinishReason::kError, -1, error);
  bury();
}

void Scheduler::Core::fail_all(const Error& error) {
  for (const auto& [id, group] : groups) {
    for (Answer& a : group->answers) {
      if (!a.finished) finish(a, FinishReason::kError, -1, error);
    }
  }
  bury();
}

void Scheduler::Core::emit(Group& g, Event event) {
  if (g.stream->push(std::move(event))) notices.push_back(g.stream->id());
}

void Scheduler::Core::finish(Answer& a, FinishReason reason, int32_t stop_token, Error error) {
  Group& g = *a.group;
  running.erase(&a);
  waiting.erase(&a);
  a.sequence.reset();
  a.finished = true;
  a.suspect = false;
  ++stats.finished[static_cast<size_t>(reason)];
  emit(g, FinishedEvent{a.index, reason, stop_token, std::move(error)});
  if (--g.unfinished > 0) return;
  const Seconds now = clock();
  const bool begun = g.answers[0].begun, answered = g.done.completion_tokens > 0;
  g.done.queued = (begun ? g.begun : now) - g.submitted;
  if (begun) g.done.prefill = (answered ? g.first_token : now) - g.begun;
  if (answered) g.done.decode = now - g.first_token;
  emit(g, g.done);
  dead.push_back(g.stream->id());
}

void Scheduler::Core::bury() {
  for (const RequestId id : dead) groups.erase(id);
  dead.clear();
}

// The part of the statistics that says what is now.
void Scheduler::Core::count_now() {
  const KvPages& pages = engine->pages();
  stats.running = static_cast<uint32_t>(running.size());
  stats.waiting = static_cast<uint32_t>(waiting.size());
  stats.pages = pages.count();
  stats.page_size = pages.page_size();
  stats.pages_used = pages.count() - pages.free();
  stats.pages_cached = pages.cached();
  stats.evictions = pages.evictions();
  stats.page_copies = pages.copies();
  stats.failed = failure.has_value();
  stats.not_begun = 0;
  stats.not_begun_tokens = 0;
  for (const Answer* a : waiting) {
    if (a->begun) continue;
    ++stats.not_begun;
    if (a->index == 0) stats.not_begun_tokens += a->group->request.prompt.size();
  }
}

}  // namespace ll
