// What the scheduler knows. scheduler_choice.cc decides what a step runs, scheduler.cc does the rest.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/engine/scheduler.h"
#include "runtime/engine/step_cost.h"

namespace ll {

struct Group;

// One of a request's sequences. Its text is the prompt and what was generated; of that, sequence->length() tokens are
// in the cache. The rest is pending: one token when it decodes, more after admission.
struct Answer {
  Group* group = nullptr;
  uint32_t index = 0;
  std::vector<int32_t> text;
  std::unique_ptr<Sequence> sequence;  // of those that run
  SamplingState sampling;
  uint32_t generated = 0;
  uint32_t scored = 1;     // prompt tokens before this one need no PromptEvent (any more)
  uint64_t last_step = 0;  // that it was in
  bool begun = false;      // was admitted before
  bool finished = false;
  bool suspect = false;  // was in a step that failed: runs alone until one succeeds

  bool running() const { return sequence != nullptr; }
  size_t pending() const { return text.size() - (running() ? sequence->length() : 0); }
};

// A request.
struct Group {
  Request request;
  std::shared_ptr<EventStream> stream;
  uint64_t number = 0;          // in order of submission
  double key = 0;               // place in the order: submission time and priority, seconds
  std::vector<int32_t> ends;    // tokens that end an answer, ascending
  uint32_t max_tokens = 0;      // of each answer, with the context's limit
  std::vector<Answer> answers;  // never resized
  uint32_t unfinished = 0;
  uint64_t room_tick = 0;  // tick in which `promised` was counted
  size_t promised = 0;     // events that the sequences chosen for the step may bring
  Seconds submitted{0}, begun{0}, first_token{0};
  DoneEvent done;
};

struct ByOrder {
  bool operator()(const Answer* a, const Answer* b) const {
    if (a->group->key != b->group->key) return a->group->key < b->group->key;
    if (a->group->number != b->group->number) return a->group->number < b->group->number;
    return a->index < b->index;
  }
};

struct Chosen {
  Answer* answer = nullptr;
  uint32_t count = 0;  // pending tokens that the step computes
  LogitRows rows = LogitRows::kNone;
};

struct Scheduler::Core {
  Core(std::unique_ptr<Engine> e, const SchedulerOptions& o, std::function<Seconds()> c);

  // scheduler_choice.cc
  void choose();  // fills chosen
  bool has_room(Answer& a, size_t events);
  bool stuck(const Answer& a) const;
  bool ready(const Answer& a) const;
  bool admit(Answer& a);
  void preempt(Answer& a);
  Answer* next_waiting();
  Answer* victim_for(const Answer& waiting);
  Answer* last_running();
  Answer* first_suspect();
  void make_way();
  void choose_decodes(const Answer* only, size_t most);
  void choose_prefill(Answer& a, uint32_t& budget);
  uint32_t computed(uint32_t tokens) const;
  double output_rate(uint32_t tokens, uint32_t all, double demand) const;
  uint32_t prefill_budget();
  uint32_t present() const;
  void note_demand(uint32_t prompt_tokens, uint32_t generated);
  uint32_t rows_left() const;

  // scheduler.cc
  bool tick();
  void carry_out_cancellations();
  void run();
  void take_results(std::span<const SampledToken> sampled);
  bool take_row(Answer& a, uint32_t position, const SampledToken& sampled);
  void step_failed(const Error& error);
  void fail_all(const Error& error);
  void emit(Group& g, Event event);
  void finish(Answer& a, FinishReason reason, int32_t stop_token = -1, Error error = {});
  void bury();
  void count_now();

  std::unique_ptr<Engine> engine;
  const Plan& plan;
  const Program& largest;
  SchedulerOptions options;
  std::function<Seconds()> clock;
  // Of all steps, and of those in which all decode: what others wait for must not creep into what they are used to.
  const uint32_t token_tile;
  StepCost cost, decode_cost;
  // Prompt tokens computed and tokens generated lately; older ones count less and less.
  double recent_prompt = 0, recent_generated = 0;
  uint32_t most_step_tokens = 0, places = 0, most_tokens = 0;

  std::map<RequestId, std::unique_ptr<Group>> groups;
  std::set<Answer*, ByOrder> running, waiting;
  std::vector<std::pair<RequestId, std::optional<uint32_t>>> cancellations;
  std::vector<RequestId> dead;  // groups to be buried
  std::vector<RequestId> notices;
  std::optional<Error> failure;  // the device is lost
  uint32_t failed_in_a_row = 0;
  uint64_t submitted = 0, ticks = 0;
  SchedulerStats stats;

  // Of the step being put together.
  std::vector<Chosen> chosen;
  uint32_t chosen_tokens = 0, chosen_rows = 0;
  std::vector<Work> work;
  std::vector<RowSampling> rows;
};

}  // namespace ll
