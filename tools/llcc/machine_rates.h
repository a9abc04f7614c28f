// The limits of this machine that predictions are made from.
#pragma once

#include "compiler/plan/roofline.h"

namespace ll {

// Streaming read, and the rate of the best level's product of a q4_K weight with a prompt, both on as many threads as
// the runtime takes by default. Takes about a second.
Result<MachineRates> measure_machine_rates();

}  // namespace ll
