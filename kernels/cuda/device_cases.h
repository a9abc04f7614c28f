// The numerics suite's cases (kernels/numerics.h) as GPUs have them: on the emulator (numerics_test.cc) and on a device
// (tests/gpu_check/numerics_device.cc). Included by tests alone.
#pragma once

#include <vector>

#include "kernels/cuda/family.h"
#include "kernels/numerics.h"

namespace ll::numerics {

// A case as a compiler sees it: largest sizes above the step's, distances between rows.
struct DeviceSpec {
  explicit DeviceSpec(const Case& c);
  cuda::PlacedLaunch view() const { return {{in, out, Attrs(attrs)}, in_distance}; }

  std::vector<TensorType> in, out;
  std::vector<Attr> attrs;
  std::vector<int64_t> in_distance;
};

// The step's size behind `symbol`, by the case's operands; 0: none has it.
int size_of(const Case& c, Symbol symbol);

// The kernel's cases as plans have them: outputs are dense. One of them in place as well, where the kernel works so.
std::vector<Case> device_cases(const Kernel& kernel);

// An operand's bytes as GPUs hold them, of those that CPUs hold, and back: i8 caches differ (kernels/kv_layout.h).
std::vector<std::byte> as_gpus_hold(const TensorType& type, std::vector<std::byte> bytes);
std::vector<std::byte> as_cpus_hold(const TensorType& type, std::vector<std::byte> bytes);

}  // namespace ll::numerics
