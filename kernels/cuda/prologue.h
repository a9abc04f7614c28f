// The only code that is generated: what makes an instance a translation unit of its own.
#pragma once

#include <string>
#include <vector>

#include "kernels/cuda/family.h"

namespace ll::cuda {

// Name of the entry point: the function and a hash of the instance. Equal instances, equal names.
std::string kernel_name(const Instance& instance);

// The whole source text: includes instance.source and defines the entry point.
std::string prologue(const Instance& instance);

// What a device compiler (NVRTC, nvcc) must be told, besides where sources lie (-I) and the architecture.
//   --fmad=false   a product and a sum are two roundings, as in the emulator; fma() of prim/math.cuh is one
std::vector<std::string> device_options();

}  // namespace ll::cuda
