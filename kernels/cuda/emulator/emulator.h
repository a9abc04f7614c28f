// Runs kernels without a GPU: the very .cuh sources, read by the host's C++ compiler, with the threads of a block as
// fibers. For tests alone; nothing that is shipped links it.
//
// What it finds: reads and writes outside an operand, outside a shared array (by at most a page) or, through a constant
// index, outside any array; barriers and warp words that not all threads reach, or reach at different places; use of
// what nobody wrote (shared memory starts as NaN); waiting for ever. Races show as results that depend on the seed: the
// threads run one at a time, from one meeting point to the next, in an order that the seed decides, and blocks in an
// order of theirs, up to three at a time. What it cannot find: races inside one instruction stream between meeting
// points that happen to agree, and what depends on memory ordering of the device.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "kernels/cuda/family.h"
#include "kernels/cuda/prim/args.h"
#include "runtime/base/result.h"

namespace ll::cuda {

class Module;  // one loaded instance

// Not thread safe, and one launch at a time in a process: signal handlers are the process's.
class Emulator {
 public:
  // `sources` is the folder of the .cuh files, `cache` an existing folder for shared objects, which are found again by
  // the hash of sources, compiler and instance. The compiler is $LLCUDA_HOST_CXX or "c++". kUnsupported, with the
  // reason, when it cannot be started or the machine is none of those that fibers are written for.
  static Result<Emulator> open(const std::string& sources, const std::string& cache);
  Emulator(Emulator&&) noexcept;
  ~Emulator();

  // Compiles what is not in the cache, two at a time, so that launches find it. kBadData carries the compiler's words.
  Status prepare(std::span<const Instance> instances);

  // Runs a launch to its end. Seed 0 is the plain order: threads and blocks one after another. kBadData says which
  // thread did what; memory then holds what had been written so far.
  Status launch(const KernelLaunch& launch, const Args& args, uint64_t seed);

 private:
  Emulator() = default;
  Result<const Module*> load(const Instance& instance);
  std::string object_path(const Instance& instance) const;

  std::string sources_, cache_, compiler_;
  uint64_t sources_hash_ = 0;
  std::map<std::string, std::unique_ptr<Module>> modules_;  // by kernel name
};

}  // namespace ll::cuda
