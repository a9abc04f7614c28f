#include "compiler/plan/roofline.h"

#include <algorithm>

namespace ll {

double predicted_seconds(const Cost& cost, const MachineRates& rates) {
  return std::max(static_cast<double>(cost.bytes) / rates.bytes_per_second,
                  static_cast<double>(cost.operations) / rates.operations_per_second);
}

double predicted_seconds(const Plan& plan, const Program& program, const MachineRates& rates, uint32_t depth) {
  // Attention's cost is that of full contexts.
  const uint64_t full = std::max<uint64_t>(1, uint64_t{plan.pages_per_sequence} * plan.page_size);
  const double share = std::min(1.0, (depth + static_cast<double>(program.max_tokens)) / static_cast<double>(full));
  double seconds = 0;
  for (const Launch& l : program.launches) {
    const double whole = predicted_seconds(l.cost, rates);
    seconds += l.kernel->op == "attention" ? whole * share : whole;
  }
  return seconds;
}

}  // namespace ll
