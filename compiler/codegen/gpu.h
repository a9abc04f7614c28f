// From the launches of GPU programs to compiled kernels with grids: asks each kernel's family (kernels/cuda/family.h),
// compiles the instances that are needed, each once, and enters code and nodes in the plan.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "compiler/codegen/nvrtc.h"
#include "compiler/plan/draft.h"
#include "kernels/cuda/family.h"
#include "runtime/base/result.h"

namespace ll {

struct GpuOptions {
  std::vector<cuda::Target> targets;  // ascending
  cuda::Tuning tuning;
  std::string nvrtc;         // path; empty: Nvrtc::open looks for one
  std::string cache_folder;  // as CubinCache
  bool ptx = false;          // with PTX, for architectures newer than the targets
  int threads = 2;
  std::function<void(size_t done, size_t total)> progress;
};

// The plan's programs for GPUs, whichever backend is its first.
const std::vector<Program>& gpu_programs(const Plan& plan);

// The nodes of every launch of one program on one target, families asked.
struct GpuProgramNodes {
  std::vector<std::vector<cuda::KernelLaunch>> launches;
};
Result<GpuProgramNodes> lower_for_gpu(const Program& program, const cuda::Target& target, const cuda::Tuning& tuning);

// An instance that a target needs, once, with its code.
struct CompiledInstance {
  cuda::Instance instance;
  std::string name;  // of the entry point
  GpuCode code;
};
// Compiles instances that differ, in the order given, on options.threads threads; from the cache where it can. One that
// spills is compiled for fewer blocks of a multiprocessor than it asks for.
Result<std::vector<CompiledInstance>> compile_instances(const std::vector<cuda::Instance>& instances,
                                                        const cuda::Target& target, const GpuOptions& options);

// Fills Plan::gpu_targets and PlanDraft::gpu_code for the GPU programs of `draft`. The same draft and options give the
// same bytes on every machine with the same NVRTC.
Status add_gpu_code(PlanDraft& draft, const GpuOptions& options);

// The choice behind every launch, for --print-tiles: one line a kernel.
Result<std::string> tiles_text(const Plan& plan, const GpuOptions& options);

// Every instance of the first target, one after another: its source text, or its PTX.
Result<std::string> kernels_text(const Plan& plan, const GpuOptions& options, bool ptx);

}  // namespace ll
