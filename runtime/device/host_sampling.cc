#include "runtime/device/host_sampling.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "runtime/device/cpu/machine.h"

namespace ll {
namespace {

// Fewer logits than these are done before a team has woken up.
constexpr size_t kWorthATeam = 32768;
// The same for lists, each a few microseconds.
constexpr size_t kListsWorthATeam = 16;

}  // namespace

HostSampling::HostSampling(Team& team) : team_(&team), samplers_(static_cast<size_t>(team.size())) {}

Result<std::unique_ptr<HostSampling>> HostSampling::create() {
  TRY_ASSIGN(auto team, Team::create(std::min(kMostThreads, default_threads(read_machine()))));
  auto sampling = std::make_unique<HostSampling>(*team);
  sampling->own_ = std::move(team);
  return sampling;
}

// each(part, step) for every part: items part, part + step, ... are its own.
template <class Each>
void HostSampling::for_each_part(bool team, const Each& each) {
  const size_t parts = samplers_.size();
  if (!team) return each(0, 1);
  team_->run(1, [&](uint32_t, int part, int) { each(static_cast<size_t>(part), parts); });
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
  decided_.assign(rows.size(), 0);
  for_each_part(rows.size() >= kListsWorthATeam, [&](size_t part, size_t step) noexcept {
    for (size_t i = part; i < rows.size(); i += step) {
      if (lists[i].candidates.empty()) continue;
      auto sampled = samplers_[part].sample(lists[i], rows[i]);
      if (!sampled) continue;
      sampled_[i] = *std::move(sampled);
      decided_[i] = 1;
    }
  });
  rest_.clear();
  for (size_t i = 0; i < rows.size(); ++i) {
    if (decided_[i] == 0) rest_.push_back(static_cast<uint32_t>(i));
  }
  return rest_;
}

std::span<const SampledToken> HostSampling::sample_rest(std::span<const float> logits,
                                                        std::span<const RowSampling> rows) {
  const size_t vocab = rows.empty() ? 0 : logits.size() / rows.size();
  for_each_part(rest_.size() >= 2 && rest_.size() * vocab >= kWorthATeam, [&](size_t part, size_t step) noexcept {
    for (size_t i = part; i < rest_.size(); i += step) {
      const size_t row = rest_[i];
      sampled_[row] = samplers_[part].sample(logits.subspan(row * vocab, vocab), rows[row]);
    }
  });
  return sampled_;
}

}  // namespace ll
