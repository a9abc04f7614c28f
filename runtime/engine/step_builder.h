// Fills the inputs of one step from chunks of sequences, and proves every index that kernels will trust.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/base/result.h"
#include "runtime/device/device.h"
#include "runtime/engine/sequence.h"

namespace ll {

// Which tokens' logits are wanted.
enum class LogitRows : uint8_t { kNone, kLast, kAll };

class StepBuilder {
 public:
  explicit StepBuilder(const Plan& plan) : plan_(plan) {}

  // Starts an empty step.
  void clear();
  // Appends `tokens`, which become positions sequence.length() .. of the sequence (the caller appends them to it
  // afterwards), as one more row of the block table. A sequence may be in a step once. kUsage: a token outside the
  // vocabulary. kInternal: no tokens, a position at or beyond the context length, or a page missing or outside the
  // pool.
  Status add(const Sequence& sequence, std::span<const int32_t> tokens, LogitRows rows);

  const Step& step() const { return step_; }

 private:
  const Plan& plan_;
  Step step_;
};

}  // namespace ll
