// Sampling on the host, for devices that do not sample themselves.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/device/cpu/team.h"
#include "runtime/sampling/sampler.h"

namespace ll {

// Samples the rows of a step on a team of threads. One call at a time.
class HostSampling {
 public:
  // On the caller's team, which outlives this object.
  explicit HostSampling(Team& team);
  // On a team of its own, of at most kMostThreads of the threads this process may use.
  static constexpr int kMostThreads = 8;
  static Result<std::unique_ptr<HostSampling>> create();

  // `logits` f32 [rows, vocab]. Valid until the next call.
  std::span<const SampledToken> sample(std::span<const float> logits, std::span<const RowSampling> rows);

 private:
  std::unique_ptr<Team> own_;
  Team* team_;
  std::vector<Sampler> samplers_;  // by part of the team's work
  std::vector<SampledToken> sampled_;
};

}  // namespace ll
