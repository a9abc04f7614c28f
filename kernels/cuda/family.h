// What a CUDA kernel is: the contract between the sources (kernels/cuda/*.cuh), the compiler, which picks instances and
// compiles them, and the devices, which launch them. Knows no model. Linked by the compiler and by tests; the runtime
// needs only kernels/cuda/prim/args.h, because a plan holds grids, blocks and argument lists.
//
// A source is a real .cuh file, read alike by editors, nvcc, NVRTC and the emulator. It includes only prim/ and holds a
// function template in namespace ll::cuda:
//
//   template <class C> __device__ void gemv(const Args& args);
//
// C is the instance: static constexpr members for everything known at compile time. Code generation writes the prologue
// alone:
//
//   #include "gemv.cuh"
//   struct Instance { static constexpr int kRows = 4096; ... };
//   extern "C" __global__ void __launch_bounds__(128, 4) gemv_1f3a(const ll::cuda::Args args) {
//     ll::cuda::gemv<Instance>(args);
//   }
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/kernel.h"
#include "runtime/base/result.h"

namespace ll::cuda {

// The GPU that code is chosen for. Instructions and limits follow `isa`; grids and splits follow the device. With
// `--target sm_90 --isa sm_75` isa is 75 and the rest describes the H100, but for the limits, which stay the T4's.
struct Target {
  std::string_view name;            // "sm_75"
  int sm = 75;                      // architecture of the cubin
  int isa = 75;                     // instruction set the sources may use
  int multiprocessors = 40;         // grids and splits
  int shared_per_block = 64 << 10;  // bytes
  int shared_per_sm = 64 << 10;     // bytes
  int threads_per_sm = 1024;
  int blocks_per_sm = 16;
  int registers_per_sm = 64 << 10;
  uint64_t l2_bytes = 4 << 20;
  double bytes_per_second = 250e9;     // that streaming reads reach
  double instructions_per_second = 0;  // lane instructions, all multiprocessors: issue limit
};

// One kernel to compile. Equal instances are compiled once.
struct Instance {
  std::string source;                                      // file below kernels/cuda/: "gemv.cuh"
  std::string function;                                    // the template: "gemv"
  std::vector<std::pair<std::string, int64_t>> constants;  // members of C; a float as its bits
  int threads = 128;                                       // a block; __launch_bounds__
  int blocks_per_sm = 1;                                   // least that must fit: second argument of __launch_bounds__
  bool operator==(const Instance&) const = default;
};

// Which pointer of Args a kernel sees; see prim/args.h. `kernel` arguments of a launch with several kernels are the
// same for all: in and out as the launch lists them.
struct KernelLaunch {
  Instance instance;
  std::array<uint32_t, 3> grid{1, 1, 1};
  uint32_t dynamic_shared = 0;    // bytes
  uint64_t workspace = 0;         // bytes that Args::workspace must have; contents undefined at start ...
  uint64_t workspace_zeroed = 0;  // ... except the first of them, which are 0 at the step's start and which the kernel
                                  // leaves 0
  std::string note;               // the choice in words, for --print-tiles: "rows 8, split 2, waves 1.3: 12.4 us"
};

// What a tuning file overrides: "linear.ahead" = 2. Its keys are those of tuning_keys().
using Tuning = std::map<std::string, int64_t, std::less<>>;
std::span<const std::string_view> tuning_keys();

// A launch as families see it: also how far apart the rows of its inputs lie, which is more than a row where the input
// is a slice of a wider tensor. Outputs are dense.
struct PlacedLaunch : LaunchSpec {
  std::span<const int64_t> in_row_bytes;  // of each input, as Operand::row_bytes of a plan
};

// One row of the table of families: how a kernel of the catalog runs on a GPU.
struct Family {
  std::string_view kernel;  // catalog name
  // Appends the kernels of one launch, in order. `spec` has largest sizes (kernels/kernel.h) and has passed the
  // kernel's check; quantized weights are in Layout::kTile8. kUnsupported names what has no kernel.
  Status (*lower)(const PlacedLaunch& spec, const Target& target, const Tuning& tuning, std::vector<KernelLaunch>& out);
};

std::span<const Family> families();
const Family* find_family(std::string_view kernel);

}  // namespace ll::cuda
