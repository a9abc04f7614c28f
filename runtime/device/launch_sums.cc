#include "runtime/device/launch_sums.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace ll {

void LaunchSums::add(const std::string& name, double microseconds) {
  Sum& sum = sums_[name];
  ++sum.launches;
  sum.microseconds += microseconds;
}

std::string LaunchSums::table() const {
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

}  // namespace ll
