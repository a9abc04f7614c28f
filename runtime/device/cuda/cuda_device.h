// An NVIDIA GPU as a device: a plan's code and weights are loaded, each program becomes one CUDA graph, made node by
// node from its launches, and a step is one copy in, one graph, and copies out: all logits, or shortlists and
// the logits of the rows that those do not decide. Nothing is compiled, captured or tuned.
#pragma once

#include <memory>
#include <string>

#include "runtime/device/cuda/driver.h"
#include "runtime/device/device.h"
#include "runtime/plan/gpu_memory.h"

namespace ll {

// How the launches of a step reach the device.
enum class LaunchMode : uint8_t {
  kGraphs,   // one graph a program
  kPlain,    // kernel after kernel: for comparison
  kChecked,  // as kPlain, waiting for each kernel: an error names it
  kTimed,    // as kGraphs with an event between kernels: what they take is printed to stderr at the end
  kDumped,   // as kPlain; what each launch wrote goes to a file of CudaOptions::dump_folder
};

struct CudaOptions {
  int ordinal = 0;  // of the device among those that the driver shows
  LaunchMode mode = LaunchMode::kGraphs;
  std::string model_dir;      // of source files, as Weights::load
  int threads = 1;            // that read weights
  std::string dump_folder{};  // with LaunchMode::kDumped: StepDump
};

// The target of the plan that runs on a device of architecture `sm`: its own, or, from PTX, the newest older one. Null:
// none.
const GpuTarget* find_target(const Plan& plan, int sm);
// The same, or why this device and driver run none: kUnsupported names the plan's targets and the device, or both
// drivers' versions (as cuDriverGetVersion counts).
Result<const GpuTarget*> choose_target(const Plan& plan, const cuda::DeviceFacts& device, int driver_version);

// Needs a plan whose `programs` are the GPU's. Weights are read from the plan's file while the code is loaded.
//   kUnsupported   no driver or one that is too old for the plan, no such device, no target for it
//   kOutOfMemory   the device has too little free memory; the message says what needs how much and which knob to turn
// $LLRT_CUDA_FAULT=N makes launch N of every program write where nothing is, for tests of what happens then.
Result<std::unique_ptr<Device>> open_cuda_device(const ValidatedPlan& plan, const CudaOptions& options);

}  // namespace ll
