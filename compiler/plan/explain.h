// What a plan does and costs, for people and for scripts.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "compiler/plan/roofline.h"
#include "runtime/plan/plan.h"

namespace ll {

// The launch lists of all programs (llcc compile --emit program): one line a launch with kernel, operands and
// attributes.
std::string program_text(const Plan& plan);

// Per launch: op, kernel, shape of the result, bytes moved, operations, arena offsets; totals per kernel and program;
// memory. Costs are those at a program's largest sizes. With rates also what each program's step should take, with
// empty and with full contexts. `program`: only this one; kUsage when there is no such program.
Result<std::string> explain_text(const Plan& plan, std::optional<size_t> program, const MachineRates* rates = nullptr);
Result<std::string> explain_json(const Plan& plan, std::optional<size_t> program, const MachineRates* rates = nullptr);

}  // namespace ll
