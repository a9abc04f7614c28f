// The GPUs that plans can be made for.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cuda/family.h"
#include "runtime/base/result.h"

namespace ll {

// The rows of the table. Each names the card that grids and the cost model are made for; a plan runs on every card of
// the architecture.
std::span<const cuda::Target> gpu_targets();

// What --target and --isa ask for.
struct TargetList {
  bool cpu = false;
  std::vector<cuda::Target> gpus;  // ascending, one an architecture
  std::string name() const;        // "sm_75,cpu", as plans are named
};

// `targets`: names separated by commas: cpu, native (the same), t4 (sm_75), sm_NN. `isa`: "" or an older sm_NN whose
// instructions and limits (shared memory and threads a multiprocessor) the kernels keep to. kUsage for a name twice or
// an isa that is newer than a target, kUnsupported for what is not in the table.
Result<TargetList> parse_targets(std::string_view targets, std::string_view isa);

// `emulated`, for tests: kernels are run by the emulator of kernels/cuda/emulator/ under the driver of
// tests/cuda_driver/. The code objects are the instances as text.
inline constexpr std::string_view kEmulatedTarget = "emulated";
std::string encode_instance(const cuda::Instance& instance);

}  // namespace ll
