// The comparison of prim/ words between a device and the emulator (kernels/cuda/prim_check.cuh): the launch, its
// inputs, and what differs. For tests and for checks on a GPU.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cuda/family.h"

namespace ll::cuda {

// Name of each row of the output: "exp2", "mma_m8n8k16_ss d1".
std::span<const std::string_view> prim_check_rows();

KernelLaunch prim_check_launch();
uint64_t prim_check_threads();  // of the whole grid

// in[0] of the launch.
std::vector<uint32_t> prim_check_inputs(uint64_t seed);

// One line for each row that differs, with the first thread and both values; empty when all bits agree. Both are
// out[0], prim_check_rows().size() * prim_check_threads() words.
std::string prim_check_differences(std::span<const uint32_t> got, std::span<const uint32_t> want);

}  // namespace ll::cuda
