// Runs sequences on a device: cuts work into steps, picks each step's program, hands logits out.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/device/device.h"
#include "runtime/engine/kv_pages.h"
#include "runtime/engine/sequence.h"
#include "runtime/engine/step_builder.h"

namespace ll {

// Tokens to append to a sequence: a prompt, a part of one, or one token of a decode step.
struct Work {
  Sequence* sequence = nullptr;
  std::span<const int32_t> tokens;
  LogitRows rows = LogitRows::kLast;
};

// Receives f32[vocab_size] of token `token` of work item `item`; the span is valid during the call. Must not throw or
// run the engine.
using LogitsSink = std::function<void(size_t item, size_t token, std::span<const float> logits)>;

// Not thread safe: one run at a time. Plan and engine outlive the sequences.
class Engine {
 public:
  // kBadData when no program of the plan can hold one token and one row.
  static Result<std::unique_ptr<Engine>> create(const Plan& plan, std::unique_ptr<Device> device);

  const Plan& plan() const { return plan_; }
  const Device& device() const { return *device_; }
  const KvPages& pages() const { return pages_; }

  std::unique_ptr<Sequence> make_sequence();

  // Does all the work or none of it: an error leaves every sequence as it was. Items are served in order, as many to a
  // step as the largest program holds; longer ones go on in the next step. What a token's logits are does not depend on
  // that.
  //   kUsage         no tokens, a token outside the vocabulary, a sequence twice
  //   kOutOfMemory   the context is full (--ctx-size) or the pool is (--ctx-size, --max-batch)
  Status run(std::span<const Work> work, const LogitsSink& sink);

  // Bytes a step of this size moves at least: what its launches declare, with keys and values read for `depth` earlier
  // tokens of each sequence. 0 when no program holds it.
  uint64_t step_bytes(uint32_t tokens, uint32_t sequences, uint32_t depth) const;

 private:
  Engine(const Plan& plan, std::unique_ptr<Device> device);
  Status reserve(std::span<const Work> work);
  Status run_steps(std::span<const Work> work, const LogitsSink& sink);

  const Plan& plan_;
  std::unique_ptr<Device> device_;
  KvPages pages_;
  StepBuilder builder_;
};

}  // namespace ll
