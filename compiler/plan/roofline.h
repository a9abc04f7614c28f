// What a step of a plan should take on a machine of known limits.
#pragma once

#include "runtime/plan/plan.h"

namespace ll {

// Limits of a machine: what it streams from memory, and what its int8 (f32 for the rest) products reach.
struct MachineRates {
  double bytes_per_second = 0;
  double operations_per_second = 0;  // multiplications and additions
};

// The roofline: a launch waits for memory or for arithmetic, whichever takes longer.
double predicted_seconds(const Cost& cost, const MachineRates& rates);

// The sum over a program's launches at its largest sizes, but with `depth` tokens already in each sequence: what
// attention reads grows with them, up to the context its cost was counted for.
double predicted_seconds(const Plan& plan, const Program& program, const MachineRates& rates, uint32_t depth);

}  // namespace ll
