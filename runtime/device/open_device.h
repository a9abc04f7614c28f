// A plan's device, by the name that people give it.
#pragma once

#include <memory>
#include <string>

#include "runtime/device/device.h"
#include "runtime/plan/plan.h"

namespace ll {

struct DeviceOptions {
  std::string name{};       // "cpu", "cuda", "cuda:1"; empty: a GPU that the plan has code for, else the CPU
  std::string isa{};        // of the CPU's kernels: "scalar", "avx2"; empty: the best here
  std::string model_dir{};  // of the files that a plan with source files names; empty: beside the plan
  int threads = 0;          // 0: one per physical core that affinity and cgroup allow
  std::string numa{};  // of the CPU: "auto", "off", the number of a node (runtime/device/cpu/placement.h); empty: auto
  bool deterministic = false;  // no row's logits depend on what else is in its step: KernelCall::deterministic
  int launch_mode = 0;         // 0 .. 3, LaunchMode of runtime/device/cuda/cuda_device.h
  std::string dump_folder{};   // GPUs: what each launch wrote goes there, a file a step, with launch_mode 0 or 1
};

// Selects the plan's programs for the device and opens it. kUsage names the option that is out of range; kUnsupported:
// the plan has nothing for the device, or it is not there.
Result<std::unique_ptr<Device>> open_device(ValidatedPlan& plan, const DeviceOptions& options);

}  // namespace ll
