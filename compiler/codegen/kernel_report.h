// What the GPU kernels of a plan need of a device, read from their code: for `llcc kernels`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/codegen/sass.h"
#include "runtime/base/result.h"
#include "runtime/plan/plan.h"

namespace ll {

struct KernelFacts {
  std::string_view function;
  std::string_view kernel;  // of the catalog: of the first launch that runs it
  std::string_view op;      // of that launch
  uint32_t launches = 0;    // nodes of all programs
  uint32_t threads = 0, registers = 0, shared_bytes = 0, local_bytes = 0;  // shared_bytes: with the most dynamic
  uint32_t blocks_per_sm = 0;                                              // that the target holds at once
  double occupancy = 0;                                                    // of its threads
  SassReport code;
  double instructions_per_byte = 0;  // lane instructions of the hottest loop for a weight byte; 0: no dp4a, or weights
                                     // of several types
};

// The kernels of one target, in the plan's order. `target`: its place in Plan::gpu_targets.
Result<std::vector<KernelFacts>> kernel_facts(const Plan& plan, size_t target);

// One line a kernel for each target, or the same as JSON. kUsage where the plan has no GPU target of that name (empty:
// all).
Result<std::string> kernel_report(const Plan& plan, std::string_view target, bool json);

}  // namespace ll
