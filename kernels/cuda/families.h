// The `lower` functions that kernels/cuda/families.cc lists (Family::lower), one source file a family.
#pragma once

#include "kernels/cuda/family.h"

namespace ll::cuda {

// elementwise.cc
Status lower_add(const LaunchSpec&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_mul(const LaunchSpec&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_activation(const LaunchSpec&, const Target&, const Tuning&, std::vector<KernelLaunch>&);

}  // namespace ll::cuda
