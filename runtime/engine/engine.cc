#include "runtime/engine/engine.h"

#include <algorithm>
#include <utility>

namespace ll {

Engine::Engine(const Plan& plan, std::unique_ptr<Device> device, const KvPages::Options& pages, uint32_t page_count)
    : plan_(plan), device_(std::move(device)), pages_(page_count, pages), builder_(plan) {}

Result<std::unique_ptr<Engine>> Engine::create(const Plan& plan, std::unique_ptr<Device> device,
                                               const EngineOptions& options) {
  if (plan.program_for(1, 1, 1) == nullptr)
    return bad_data("no program of the plan runs one token with one row of logits");
  if (options.kv_pages > plan.pages) return usage("{} KV pages, the plan has {}", options.kv_pages, plan.pages);
  KvPages::Options pages;
  pages.page_size = plan.page_size;
  if (options.resident_pages != 0) pages.resident = options.resident_pages;
  const uint32_t count = options.kv_pages == 0 ? plan.pages : options.kv_pages;
  return std::unique_ptr<Engine>(new Engine(plan, std::move(device), pages, count));
}

std::unique_ptr<Sequence> Engine::make_sequence(uint64_t salt) { return std::make_unique<Sequence>(pages_, salt); }

Status Engine::run(std::span<const Work> work, const LogitsSink& sink) {
  std::vector<std::pair<Sequence*, uint32_t>> before;
  for (const Work& w : work) before.emplace_back(w.sequence, w.sequence->length());
  std::sort(before.begin(), before.end());
  for (size_t i = 1; i < before.size(); ++i) {
    if (before[i].first == before[i - 1].first) return usage("a session appears twice in one step");
  }
  Status status = reserve(work);
  if (status) status = run_steps(work, sink);
  if (!status) {
    for (const auto& [sequence, length] : before) sequence->truncate(length);
  }
  return status;
}

// Proves that all of the work fits before any of it runs.
Status Engine::reserve(std::span<const Work> work) {
  const uint64_t context = plan_.model.context_length;
  uint64_t wanted = 0;
  for (const Work& w : work) {
    if (w.tokens.empty()) return usage("no tokens to append");
    for (const int32_t token : w.tokens) {
      if (token < 0 || static_cast<uint32_t>(token) >= plan_.model.vocab_size) {
        return usage("token {} is outside the vocabulary of {}", token, plan_.model.vocab_size);
      }
    }
    if (w.sequence->length() + w.tokens.size() > context) {
      return error(Code::kOutOfMemory,
                   "{} tokens do not fit: {} of the plan's {} are in use (llcc compile --ctx-size makes room for more)",
                   w.tokens.size(), w.sequence->length(), context);
    }
    wanted += w.sequence->pages_wanted(w.tokens.size());
  }
  if (wanted > pages_.free()) {
    return error(
        Code::kOutOfMemory,
        "{} KV pages of {} tokens are wanted and {} of {} are free (llcc compile --ctx-size and --max-batch make "
        "room for more; sessions that end give theirs back)",
        wanted, plan_.page_size, pages_.free(), pages_.count());
  }
  for (const Work& w : work) w.sequence->reserve(w.tokens.size());
  return {};
}

Status Engine::run_steps(std::span<const Work> work, const LogitsSink& sink) {
  const Program& largest = plan_.programs.back();
  struct Chunk {
    size_t item, begin, count;
  };
  std::vector<Chunk> chunks;
  std::vector<size_t> done(work.size(), 0);
  size_t first = 0;  // items before it are finished
  while (first < work.size()) {
    builder_.clear();
    chunks.clear();
    const Step& step = builder_.step();
    for (size_t i = first; i < work.size() && step.sequence_count < largest.max_sequences; ++i) {
      const Work& w = work[i];
      const size_t left = w.tokens.size() - done[i], rows_left = largest.max_rows - step.row_count();
      size_t count = std::min<size_t>(left, largest.max_tokens - step.token_count());
      if (w.rows == LogitRows::kAll) count = std::min(count, rows_left);
      // The last token waits for the next step when this one has no row for it.
      if (w.rows == LogitRows::kLast && count == left && rows_left == 0) --count;
      if (count == 0) continue;
      const LogitRows rows = w.rows == LogitRows::kLast && count < left ? LogitRows::kNone : w.rows;
      TRY(builder_.add(*w.sequence, w.tokens.subspan(done[i], count), rows));
      chunks.push_back({i, done[i], count});
    }
    TRY_ASSIGN(const size_t program, ready());
    TRY_ASSIGN(const auto logits, device_->run(program, step));
    size_t row = 0;
    for (const Chunk& chunk : chunks) {
      const Work& w = work[chunk.item];
      for (size_t i = chunk.begin; i < chunk.begin + chunk.count; ++i) {
        w.sequence->append(w.tokens[i]);
        const bool wanted = w.rows == LogitRows::kAll || (w.rows == LogitRows::kLast && i + 1 == w.tokens.size());
        if (!wanted) continue;
        sink(chunk.item, i, logits.subspan(row * plan_.model.vocab_size, plan_.model.vocab_size));
        ++row;
      }
      done[chunk.item] += chunk.count;
    }
    while (first < work.size() && done[first] == work[first].tokens.size()) ++first;
  }
  return {};
}

// Makes the copies that reserving asked for; returns the program that runs the builder's step.
Result<size_t> Engine::ready() {
  const std::vector<PageCopy> copies = pages_.take_copies();
  if (!copies.empty()) TRY(device_->copy_pages(copies));
  const Step& step = builder_.step();
  const Program* program = plan_.program_for(step.token_count(), step.sequence_count, step.row_count());
  if (program == nullptr) {
    return error(Code::kInternal, "no program holds {} tokens, {} sequences and {} rows", step.token_count(),
                 step.sequence_count, step.row_count());
  }
  return static_cast<size_t>(program - plan_.programs.data());
}

Result<std::span<const SampledToken>> Engine::step(std::span<const Work> work, std::span<const RowSampling> rows) {
  builder_.clear();
  for (const Work& w : work) TRY(builder_.add(*w.sequence, w.tokens, w.rows));
  TRY_ASSIGN(const size_t program, ready());
  TRY_ASSIGN(const auto sampled, device_->run_sampled(program, builder_.step(), rows));
  if (sampled.size() != rows.size()) {
    return error(Code::kInternal, "{} tokens sampled for {} rows", sampled.size(), rows.size());
  }
  for (const Work& w : work) {
    for (const int32_t token : w.tokens) w.sequence->append(token);
  }
  return sampled;
}

uint64_t Engine::step_bytes(uint32_t tokens, uint32_t sequences, uint32_t depth) const {
  const uint32_t rows = std::min(tokens, sequences);
  const Program* program = plan_.program_for(tokens, sequences, rows);
  if (tokens == 0 || sequences == 0 || program == nullptr) return 0;
  uint64_t bytes = plan_.kv_bytes_per_token * (uint64_t{depth} * sequences + tokens);
  for (const Launch& launch : program->launches) {
    bool cache = false;  // its declared cost is that of a full context
    for (const Operand& operand : launch.inputs) cache |= operand.space == Space::kKv;
    if (!cache) bytes += launch.cost.bytes;
  }
  return bytes;
}

}  // namespace ll
