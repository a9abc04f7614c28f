// Whether a plan fits a GPU's memory, proved before anything is compiled or written for it.
#pragma once

#include <cstdint>
#include <vector>

#include "compiler/plan/draft.h"
#include "kernels/cuda/family.h"
#include "runtime/base/result.h"

namespace ll {

// Compares what a device will allocate for each target (runtime/plan/gpu_memory.h) with `budget` bytes of free memory.
// `draft` has all programs, its tensors are laid out; targets need no code yet.
//   kOutOfMemory  says what takes how much and how far --ctx-size, --max-batch or --kv-type must go, each alone if it
//                 can; the sizes named do fit
Status check_gpu_memory(const PlanDraft& draft, const std::vector<cuda::Target>& targets, const cuda::Tuning& tuning,
                        uint64_t budget);

}  // namespace ll
