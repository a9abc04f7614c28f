// A plan as one page of HTML: no scripts, nothing fetched, light and dark.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "compiler/plan/roofline.h"

namespace ll {

// For each program (`program`: only this one; kUsage when there is none): its launches as a graph whose boxes are the
// fusion groups, the arena over time (who holds which bytes from which launch to which), and each launch in the
// roofline of `rates`. The same plan and rates give the same bytes.
Result<std::string> explain_html(const Plan& plan, std::optional<size_t> program, const MachineRates& rates);

}  // namespace ll
