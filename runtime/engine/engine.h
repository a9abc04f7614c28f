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

struct EngineOptions {
  uint32_t kv_pages = 0;        // 0: the plan's; at most those
  uint32_t resident_pages = 0;  // KvPages::Options::resident; 0: all
};

// Not thread safe: one run at a time. Plan and engine outlive the sequences.
class Engine {
 public:
  // kBadData when no program of the plan can hold one token and one row.
  static Result<std::unique_ptr<Engine>> create(const Plan& plan, std::unique_ptr<Device> device,
                                                const EngineOptions& options = {});

  const Plan& plan() const { return plan_; }
  const Device& device() const { return *device_; }
  const KvPages& pages() const { return pages_; }
  KvPages& pages() { return pages_; }

  std::unique_ptr<Sequence> make_sequence(uint64_t salt = 0);

  // Does all the work or none of it: an error leaves every sequence as it was. Items are served in order, as many to a
  // step as the largest program holds; longer ones go on in the next step. What a token's logits are does not depend on
  // that where the device is deterministic.
  //   kUsage         no tokens, a token outside the vocabulary, a sequence twice
  //   kOutOfMemory   the context is full (--ctx-size) or the pool is (--ctx-size, --max-batch)
  Status run(std::span<const Work> work, const LogitsSink& sink);

  // Runs all of the work as one step and chooses a token for each row that it asks for, in order. Every sequence
  // appears once and has reserved room for its tokens; the step fits the plan's largest program. On success the tokens
  // are appended. An error leaves the sequences as they were. The result is valid until the next step or run.
  Result<std::span<const SampledToken>> step(std::span<const Work> work, std::span<const RowSampling> rows);

  // Bytes a step of this size moves at least: what its launches declare, with keys and values read for `depth` earlier
  // tokens of each sequence. 0 when no program holds it.
  uint64_t step_bytes(uint32_t tokens, uint32_t sequences, uint32_t depth) const;

 private:
  Engine(const Plan& plan, std::unique_ptr<Device> device, const KvPages::Options& pages, uint32_t page_count);
  Result<size_t> ready();
  Status reserve(std::span<const Work> work);
  Status run_steps(std::span<const Work> work, const LogitsSink& sink);

  const Plan& plan_;
  std::unique_ptr<Device> device_;
  KvPages pages_;
  StepBuilder builder_;
};

}  // namespace ll
