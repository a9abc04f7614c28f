// How a plan's memory lies on a GPU: one allocation, made once. The compiler proves with it that a plan fits; the
// device allocates by it.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/plan/plan.h"

namespace ll {

// What must stay free besides a plan's own memory: for its code, its graphs and the driver.
inline constexpr uint64_t kGpuReserve = uint64_t{64} << 20;

// Bytes of the plan file that are copied as one piece: tensors in use that lie one after another.
struct WeightRun {
  uint64_t file_offset = 0;    // from the start of the weights section
  uint64_t device_offset = 0;  // from the start of the allocation
  uint64_t bytes = 0;
};

// Offsets from the start of the allocation, each a multiple of 256. Needs a plan whose `programs` are the GPU's.
struct GpuMemory {
  explicit GpuMemory(const Plan& plan, const GpuTarget& target);

  std::vector<uint64_t> tensors;  // of Plan::tensors; UINT64_MAX: not in use
  std::vector<WeightRun> runs;    // embedded tensors; those of source files are copied one by one
  uint64_t kv = 0, arena = 0, logits = 0;
  uint64_t shortlists = 0, shortlist_bytes = 0;  // a step's, one after another; 0 bytes where no program has them
  // The first `workspace_zeroed` bytes at workspace are 0 between launches: a launch that wants z of them gets
  // workspace + workspace_zeroed - z.
  uint64_t workspace = 0, workspace_zeroed = 0;
  uint64_t inputs = 0;  // the step's inputs, one copy a step: see below
  uint64_t total = 0;   // saturates

  // Parts of the inputs, from their start. The block table, the largest, is last, so that a step copies only the rows
  // it has.
  uint64_t sizes = 0, work = 0;       // cuda::StepSizes; the attention work list
  std::vector<uint64_t> step_inputs;  // by step input
  uint64_t input_bytes = 0;
  uint64_t work_bytes = 0;

  uint64_t weight_bytes = 0, kv_bytes = 0;                                    // of these, for reports
  uint64_t working_bytes() const { return total - weight_bytes - kv_bytes; }  // all the rest
  // Free memory that a device needs for the plan; saturates.
  uint64_t needed_bytes() const { return total > UINT64_MAX - kGpuReserve ? UINT64_MAX : total + kGpuReserve; }
};

}  // namespace ll
