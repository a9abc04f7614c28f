// Which sequences a step runs and how much of each; who gets pages and who gives them back.
#include <algorithm>

#include "runtime/engine/scheduler_core.h"

namespace ll {
namespace {

// Prompt tokens that a step takes however slow it gets, so that prompts end.
constexpr uint32_t kLeastPrefill = 4;
// A token, the end of its sequence, and the end of the request.
constexpr size_t kEventsOfRow = 2, kEventsOfEnd = 1;

// The answer's prompt is still to be scored token by token (Request::prompt_logprobs).
bool scores(const Answer& a) {
  return a.group->request.prompt_logprobs && a.index == 0 && a.scored < a.group->request.prompt.size();
}

}  // namespace

// Whether the consumer can take what a step brings for this answer, besides what was promised in this tick already.
bool Scheduler::Core::has_room(Answer& a, size_t events) {
  Group& g = *a.group;
  if (g.room_tick != ticks) {
    g.room_tick = ticks;
    g.promised = kEventsOfEnd;
  }
  return g.stream->room(g.promised + events) >= g.promised + events;
}

// The consumer has not taken enough for a single row. What this tick promised does not count, so nobody who is in the
// step already is stuck.
bool Scheduler::Core::stuck(const Answer& a) const {
  return a.group->stream->room(kEventsOfRow + kEventsOfEnd) < kEventsOfRow + kEventsOfEnd;
}

// The first sequence of a request computes the prompt; the others wait for that, since they share its pages.
bool Scheduler::Core::ready(const Answer& a) const {
  const Answer& first = a.group->answers[0];
  return a.index == 0 || a.begun || first.generated > 0 || first.finished;
}

uint32_t Scheduler::Core::rows_left() const { return largest.max_rows - chosen_rows; }

// Gives a waiting answer a place, and the pages of all its text. False, and nothing changed, when they are not there.
bool Scheduler::Core::admit(Answer& a) {
  if (running.size() >= places) return false;
  Group& g = *a.group;
  const Request& request = g.request;
  auto sequence = engine->make_sequence(request.cache_salt);
  Answer& first = g.answers[0];
  const auto prompt = static_cast<uint32_t>(request.prompt.size());
  if (a.index > 0 && !a.begun && first.running() && first.pending() == 1) {
    sequence->fork(*first.sequence, prompt - 1);
  } else if (options.prefix_cache && request.cache_prompt && !scores(a)) {
    sequence->adopt(a.text);
    // The last token is computed in any case: its logits are wanted.
    if (sequence->length() == a.text.size()) sequence->truncate(sequence->length() - 1);
  }
  // One page for each that runs stays free, or the newcomer would be preempted again at once.
  const auto fits = [&] {
    return sequence->pages_wanted(a.text.size() - sequence->length()) + running.size() <= engine->pages().free();
  };
  // A page whose beginning is copied is held twice until then: where that is too much the beginning is computed.
  if (!fits()) sequence->truncate(sequence->length() - sequence->length() % plan.page_size);
  if (!fits()) return false;
  const uint32_t found = sequence->length();
  sequence->reserve(a.text.size() - found);
  waiting.erase(&a);
  a.sequence = std::move(sequence);
  running.insert(&a);
  if (!a.begun) {
    a.begun = true;
    ++stats.begun;
    if (a.index == 0) {
      g.begun = clock();
      g.done.cached_tokens = std::min(found, prompt);
      stats.prompt_tokens += prompt;
      stats.prefix_hits += g.done.cached_tokens;
      if (options.prefix_cache && request.cache_prompt) stats.prefix_queries += prompt;
    }
  }
  return true;
}

// Takes place and pages; what the full ones hold stays known until their room is needed.
void Scheduler::Core::preempt(Answer& a) {
  running.erase(&a);
  a.sequence.reset();
  waiting.insert(&a);
  ++stats.preemptions;
  ++a.group->done.preemptions;
}

// The first in the order that could begin or go on.
Answer* Scheduler::Core::next_waiting() {
  for (Answer* a : waiting) {
    if (ready(*a) && has_room(*a, kEventsOfRow)) return a;
  }
  return nullptr;
}

// Who gives way so that `a` can begin: whoever waits for its consumer, else the last of those that matter less.
Answer* Scheduler::Core::victim_for(const Answer& a) {
  for (auto it = running.rbegin(); it != running.rend(); ++it) {
    if (stuck(**it)) return *it;
  }
  Answer* const last = running.empty() ? nullptr : *running.rbegin();
  const bool less = last != nullptr && last->group->request.priority > a.group->request.priority && ByOrder()(&a, last);
  return less ? last : nullptr;
}

// Who gives way when one that runs needs a page.
Answer* Scheduler::Core::last_running() {
  for (auto it = running.rbegin(); it != running.rend(); ++it) {
    if (stuck(**it)) return *it;
  }
  return *running.rbegin();
}

Answer* Scheduler::Core::first_suspect() {
  for (const auto* set : {&running, &waiting}) {
    for (Answer* a : *set) {
      if (a->suspect && ready(*a) && has_room(*a, kEventsOfRow)) return a;
    }
  }
  return nullptr;
}

// Admits the first that waits even if others must give way for it.
void Scheduler::Core::make_way() {
  Answer* const a = next_waiting();
  if (a == nullptr || victim_for(*a) == nullptr) return;
  while (!admit(*a)) {
    Answer* const victim = victim_for(*a);
    if (victim == nullptr) return;
    preempt(*victim);
  }
}

// One token of each that decodes, or of `only` that one.
void Scheduler::Core::choose_decodes(const Answer* only, size_t most) {
  std::vector<Answer*> decodes;
  const std::vector<Answer*> order(running.begin(), running.end());
  for (Answer* a : order) {
    if (!a->running() || a->pending() != 1 || scores(*a)) continue;
    if ((only != nullptr && a != only) || !has_room(*a, kEventsOfRow)) continue;
    // Whoever gives way comes later in the order, so it is not among those that have their page already.
    while (a->running() && !a->sequence->reserve(1)) preempt(*last_running());
    if (a->running()) {
      decodes.push_back(a);
      a->group->promised += kEventsOfRow;
    }
  }
  if (decodes.size() > most) {
    // More than a step holds: those that waited longest.
    std::stable_sort(decodes.begin(), decodes.end(),
                     [](const Answer* x, const Answer* y) { return x->last_step < y->last_step; });
    decodes.resize(most);
  }
  for (Answer* a : decodes) chosen.push_back({a, 1, LogitRows::kLast});
  chosen_tokens = chosen_rows = static_cast<uint32_t>(decodes.size());
}

// Tokens for prompts in this step. While others decode, the step may take prefill_stretch times as long as a step in
// which all that are here decode: what they will see anyway when the prompts are done.
uint32_t Scheduler::Core::prefill_budget() {
  const uint32_t decodes = chosen_tokens;
  uint32_t limit = most_step_tokens;
  if (decodes > 0 && options.prefill_stretch > 0) {
    const auto all = static_cast<uint32_t>(std::min<size_t>(running.size() + waiting.size(), places));
    const uint32_t base = std::max(decodes, all);
    const double known = decode_cost.predict(base), usual = known > 0 ? known : cost.predict(base);
    limit = std::min(limit, cost.most_tokens(options.prefill_stretch * usual));
    limit = std::max(limit, std::min(decodes + kLeastPrefill, most_step_tokens));
  }
  return limit - std::min(limit, decodes);
}

// As much of the answer's pending tokens as the budget allows.
void Scheduler::Core::choose_prefill(Answer& a, uint32_t& budget) {
  if (chosen.size() >= largest.max_sequences || budget == 0) return;
  auto count = static_cast<uint32_t>(std::min<size_t>(a.pending(), budget));
  LogitRows wanted = LogitRows::kNone;
  uint32_t row_count = 0;
  size_t events = kEventsOfRow;
  if (scores(a)) {
    const auto left = static_cast<uint32_t>(a.group->request.prompt.size()) - a.sequence->length();
    count = std::min({count, left, rows_left()});
    while (count > 0 && !has_room(a, kEventsOfRow + count)) count /= 2;
    wanted = LogitRows::kAll;
    row_count = count;
    events += count;
  } else if (count == a.pending()) {
    // The last token waits for the next step when this one has no row for it.
    if (rows_left() == 0) {
      --count;
    } else {
      wanted = LogitRows::kLast;
      row_count = 1;
    }
  }
  if (count == 0) return;
  chosen.push_back({&a, count, wanted});
  a.group->promised += events;
  chosen_tokens += count;
  chosen_rows += row_count;
  budget -= count;
}

void Scheduler::Core::choose() {
  chosen.clear();
  chosen_tokens = chosen_rows = 0;
  Answer* const only = first_suspect();
  if (only != nullptr && !only->running()) {
    // Alone it fits: check() saw to that.
    while (!admit(*only) && !running.empty()) preempt(**running.rbegin());
  } else if (only == nullptr) {
    make_way();
  }
  const auto prefills = [&](const Answer* a) { return a->pending() > 1 || scores(*a); };
  size_t most = std::min<size_t>({largest.max_rows, largest.max_sequences, most_step_tokens});
  // Prompts go on even when those that decode could fill every step.
  if (most > 1 && std::any_of(running.begin(), running.end(), prefills)) --most;
  choose_decodes(only, most);
  uint32_t budget = prefill_budget();
  for (Answer* a : running) {
    if (!prefills(a) || (only != nullptr && a != only) || !has_room(*a, kEventsOfRow)) continue;
    choose_prefill(*a, budget);
  }
  if (only != nullptr) return;
  while (budget > 0 && chosen.size() < largest.max_sequences) {
    Answer* const a = next_waiting();
    if (a == nullptr || !admit(*a)) break;
    const size_t before = chosen.size();
    choose_prefill(*a, budget);
    if (chosen.size() == before) break;
  }
}

}  // namespace ll
