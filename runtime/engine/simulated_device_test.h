// A device whose pages hold tokens instead of keys and values, with a clock of its own: what it answers depends on
// every token that a row can see through its block table, so a wrong page, slot or order shows in the answer.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/device/device.h"

namespace ll::simulated {

struct Shape {
  uint32_t vocab = 1000, context = 512, page_size = 4, pages = 200, max_batch = 8;
  uint32_t max_tokens = 64, max_rows = 8, token_tile = 1;
  std::vector<int32_t> eos = {};
};

// A plan without launches: nothing but the simulated device can run it.
inline Plan plan(const Shape& shape) {
  Plan plan;
  plan.model.vocab_size = shape.vocab;
  plan.model.context_length = shape.context;
  plan.model.eos_tokens = shape.eos;
  plan.max_batch = shape.max_batch;
  plan.page_size = shape.page_size;
  plan.pages = shape.pages;
  plan.pages_per_sequence = (shape.context + shape.page_size - 1) / shape.page_size;
  plan.max_rows = shape.max_rows;
  for (uint32_t tokens = 1; tokens <= shape.max_tokens; tokens *= 2) {
    Program program;
    program.max_tokens = tokens;
    program.max_sequences = std::min(tokens, shape.max_batch);
    program.max_rows = std::min(tokens, shape.max_rows);
    plan.programs.push_back(program);
  }
  return plan;
}

// The token that follows a text.
inline int32_t next_token(std::span<const int32_t> text, uint32_t vocab, uint32_t stream = 0) {
  uint64_t h = 1469598103934665603ULL + stream * 77ULL;
  for (const int32_t t : text) h = (h ^ static_cast<uint64_t>(t + 1)) * 1099511628211ULL;
  return static_cast<int32_t>((h >> 20) % vocab);
}

// What a request's sequence `stream` must be answered, if nothing but its own text decides.
inline std::vector<int32_t> answer(std::vector<int32_t> text, size_t count, uint32_t vocab, uint32_t stream = 0) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < count; ++i) {
    tokens.push_back(next_token(text, vocab, stream));
    text.push_back(tokens.back());
  }
  return tokens;
}

// What the tests see and steer.
struct World {
  double time = 0;
  // A step of n tokens and r rows of logits takes step + n * token + r * row; beyond one tile of tokens n is rounded up
  // to whole ones.
  uint32_t token_tile = 1;
  double step_seconds = 0.010, token_seconds = 0.0005, row_seconds = 0;
  std::vector<Step> steps;  // that ran
  std::vector<PageCopy> copies;
  std::function<std::optional<Error>(const Step&)> fault;  // of a step
  std::function<bool(const Step&, size_t row)> bad_row;    // of a row
  std::function<void()> during_step;                       // called in each
};

class SimulatedDevice final : public Device {
 public:
  SimulatedDevice(const Plan& plan, World& world)
      : plan_(plan), world_(world), memory_(size_t{plan.pages} * plan.page_size, {-1, -1}) {}

  DeviceInfo info() const override { return {.name = "simulated", .isa = "none", .token_tile = world_.token_tile}; }

  Result<std::span<const float>> run(size_t, const Step&) override {
    return error(Code::kInternal, "the simulated device has no logits");
  }

  Result<std::span<const SampledToken>> run_sampled(size_t program, const Step& step,
                                                    std::span<const RowSampling> rows) override {
    const Program& p = plan_.programs[program];
    EXPECT_LE(step.token_count(), p.max_tokens);
    EXPECT_LE(step.sequence_count, p.max_sequences);
    EXPECT_LE(step.row_count(), p.max_rows);
    EXPECT_EQ(step.row_count(), rows.size());
    const uint32_t tile = world_.token_tile, tokens = step.token_count();
    const uint32_t computed = tokens <= tile ? tokens : (tokens + tile - 1) / tile * tile;
    world_.time +=
        world_.step_seconds + world_.token_seconds * computed + world_.row_seconds * static_cast<double>(rows.size());
    world_.steps.push_back(step);
    if (world_.during_step) world_.during_step();
    if (world_.fault) {
      if (auto fault = world_.fault(step)) {
        // Whatever was written before it failed.
        for (const int32_t slot : step.slots) memory_[static_cast<size_t>(slot)] = {-2, -2};
        return *fault;
      }
    }
    for (size_t i = 0; i < step.token_count(); ++i) {
      memory_[static_cast<size_t>(step.slots[i])] = {step.tokens[i], step.positions[i]};
    }
    sampled_.clear();
    for (size_t r = 0; r < rows.size(); ++r) sampled_.push_back(sample(step, r, rows[r]));
    return std::span<const SampledToken>(sampled_);
  }

  Status copy_pages(std::span<const PageCopy> copies) override {
    for (const PageCopy& c : copies) {
      std::copy_n(memory_.begin() + c.from * plan_.page_size, plan_.page_size,
                  memory_.begin() + c.to * plan_.page_size);
      world_.copies.push_back(c);
    }
    return {};
  }

 private:
  struct Slot {
    int32_t token, position;
  };

  SampledToken sample(const Step& step, size_t r, const RowSampling& row) {
    const auto i = static_cast<size_t>(step.rows[r]);
    const auto sequence = static_cast<size_t>(step.sequences[i]);
    std::vector<int32_t> text;
    for (int32_t position = 0; position <= step.positions[i]; ++position) {
      const auto at = static_cast<size_t>(position);
      const auto page =
          static_cast<size_t>(step.block_table[sequence * plan_.pages_per_sequence + at / plan_.page_size]);
      const Slot slot = memory_[page * plan_.page_size + at % plan_.page_size];
      EXPECT_EQ(slot.position, position);
      text.push_back(slot.token);
    }
    EXPECT_TRUE(std::equal(text.begin(), text.end(), row.history.begin()));
    SampledToken token;
    if (world_.bad_row && world_.bad_row(step, r)) {
      token.error = bad_data("the logit of token 0 is nan");
      return token;
    }
    token.token = row.given >= 0 ? row.given : next_token(text, plan_.model.vocab_size, row.stream);
    for (int32_t salt = 0; std::count(row.banned.begin(), row.banned.end(), token.token) > 0; ++salt) {
      token.token = (token.token + 1 + salt) % static_cast<int32_t>(plan_.model.vocab_size);
    }
    if (row.logprob) token.logprob = -static_cast<float>(token.token);
    for (uint32_t n = 0; n < row.top_logprobs; ++n) token.top.push_back({static_cast<int32_t>(n), 0});
    return token;
  }

  const Plan& plan_;
  World& world_;
  std::vector<Slot> memory_;
  std::vector<SampledToken> sampled_;
};

}  // namespace ll::simulated
