// Runs the blocks of one launch as fibers: the implementation of prim/emulated.h.
#pragma once

#include <cstdint>

#include "kernels/cuda/family.h"
#include "kernels/cuda/prim/args.h"
#include "kernels/cuda/prim/emulated.h"
#include "runtime/base/result.h"

namespace ll::cuda {

using EntryPoint = void (*)(Args);

// What the words of every loaded instance call.
const emulated::Runtime* emulator_runtime();

// As Emulator::launch, for a loaded instance.
Status run_blocks(const KernelLaunch& launch, EntryPoint entry, const Args& args, uint64_t seed);

}  // namespace ll::cuda
