#include "runtime/device/host_sampling.h"

#include <algorithm>

#include "runtime/device/cpu/machine.h"

namespace ll {
namespace {

// Fewer logits than these are done before a team has woken up.
constexpr size_t kWorthATeam = 32768;

}  // namespace

HostSampling::HostSampling(Team& team) : team_(&team), samplers_(static_cast<size_t>(team.size())) {}

Result<std::unique_ptr<HostSampling>> HostSampling::create() {
  TRY_ASSIGN(auto team, Team::create(std::min(kMostThreads, default_threads(read_machine()))));
  auto sampling = std::make_unique<HostSampling>(*team);
  sampling->own_ = std::move(team);
  return sampling;
}

std::span<const SampledToken> HostSampling::sample(std::span<const float> logits, std::span<const RowSampling> rows) {
  const size_t vocab = rows.empty() ? 0 : logits.size() / rows.size(), parts = samplers_.size();
  sampled_.resize(rows.size());
  const auto sample_part = [&](size_t part, size_t step) noexcept {
    for (size_t i = part; i < rows.size(); i += step) {
      sampled_[i] = samplers_[part].sample(logits.subspan(i * vocab, vocab), rows[i]);
    }
  };
  if (rows.size() < 2 || logits.size() < kWorthATeam) {
    sample_part(0, 1);
  } else {
    team_->run(1, [&](uint32_t, int part, int) { sample_part(static_cast<size_t>(part), parts); });
  }
  return sampled_;
}

}  // namespace ll
