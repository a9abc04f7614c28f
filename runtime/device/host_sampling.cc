#include "runtime/device/host_sampling.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

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
  sampled_.resize(rows.size());
  rest_.resize(rows.size());
  std::iota(rest_.begin(), rest_.end(), 0U);
  return sample_rest(logits, rows);
}

std::span<const uint32_t> HostSampling::sample_lists(std::span<const Shortlist> lists,
                                                     std::span<const RowSampling> rows) {
  sampled_.resize(rows.size());
  rest_.clear();
  // Less than a microsecond each: a team would not have woken up.
  for (size_t i = 0; i < rows.size(); ++i) {
    std::optional<SampledToken> sampled;
    if (!lists[i].candidates.empty()) sampled = samplers_[0].sample(lists[i], rows[i]);
    if (sampled) {
      sampled_[i] = *std::move(sampled);
    } else {
      rest_.push_back(static_cast<uint32_t>(i));
    }
  }
  return rest_;
}

std::span<const SampledToken> HostSampling::sample_rest(std::span<const float> logits,
                                                        std::span<const RowSampling> rows) {
  const size_t vocab = rows.empty() ? 0 : logits.size() / rows.size();
  const size_t parts = samplers_.size();
  const auto sample_part = [&](size_t part, size_t step) noexcept {
    for (size_t i = part; i < rest_.size(); i += step) {
      const size_t row = rest_[i];
      sampled_[row] = samplers_[part].sample(logits.subspan(row * vocab, vocab), rows[row]);
    }
  };
  if (rest_.size() < 2 || rest_.size() * vocab < kWorthATeam) {
    sample_part(0, 1);
  } else {
    team_->run([&](uint32_t, int part, int) { sample_part(static_cast<size_t>(part), parts); });
  }
  return sampled_;
}

}  // namespace ll
