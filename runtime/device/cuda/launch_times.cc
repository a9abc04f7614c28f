#include "runtime/device/cuda/launch_times.h"

#include <algorithm>
#include <utility>

namespace ll::cuda {

LaunchTimes::~LaunchTimes() {
  for (CuHandle event : events_) d_.event_destroy(event);
}

Status LaunchTimes::add_node(CuHandle graph, CuHandle& before, std::string name) {
  CuHandle event = nullptr, node = nullptr;
  TRY(d_.check(d_.event_create(&event, 0), "cuEventCreate"));
  events_.push_back(event);
  names_.push_back(std::move(name));
  TRY(d_.check(d_.graph_add_event(&node, graph, &before, before == nullptr ? 0 : 1, event),
               "cuGraphAddEventRecordNode"));
  before = node;
  return {};
}

Status LaunchTimes::collect() {
  ++steps_;
  for (size_t i = 1; i < events_.size(); ++i) {
    float milliseconds = 0;
    TRY(d_.check(d_.event_elapsed(&milliseconds, events_[i - 1], events_[i]), "cuEventElapsedTime"));
    Sum& sum = sums_[names_[i]];
    ++sum.launches;
    sum.microseconds += 1e3 * static_cast<double>(milliseconds);
  }
  return {};
}

std::string LaunchTimes::table() const {
  if (steps_ == 0) return "";
  double total = 0;
  for (const auto& [name, sum] : sums_) total += sum.microseconds;
  std::vector<std::pair<std::string, Sum>> rows(sums_.begin(), sums_.end());
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.second.microseconds > b.second.microseconds; });
  const auto steps = static_cast<double>(steps_);
  std::string text = fmt::format("{} steps of {:.1f} us\n", steps_, total / steps);
  for (const auto& [name, sum] : rows) {
    text += fmt::format("{:>10.1f} us {:>5.1f} % {:>6.1f} x {:>9.2f} us  {}\n", sum.microseconds / steps,
                        100 * sum.microseconds / std::max(total, 1e-9), static_cast<double>(sum.launches) / steps,
                        sum.microseconds / static_cast<double>(sum.launches), name);
  }
  return text;
}

}  // namespace ll::cuda
