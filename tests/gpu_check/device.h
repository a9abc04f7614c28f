// A GPU for tests: compiles instances for it, launches them, moves bytes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "compiler/codegen/nvrtc.h"
#include "kernels/cuda/family.h"
#include "kernels/cuda/prim/args.h"
#include "runtime/device/cuda/driver.h"

namespace ll::gpu_check {

class Gpu {
 public:
  // The first device. `isa` limits the instructions, 0: the device's own. Shared by all tests of the process.
  static Result<Gpu*> get(int isa);

  const cuda::Target& target() const { return target_; }
  const cuda::DeviceFacts& facts() const { return facts_; }

  // Compiles all that were not compiled yet, on all cores.
  Status prepare(const std::vector<cuda::Instance>& instances);
  // Compiles `source`, a whole translation unit with the entry point `name`.
  Status prepare(const std::string& source, const std::string& name);
  // Runs to the end; kRetry after an error that loses the device.
  Status launch(const std::string& name, std::array<uint32_t, 3> grid, int threads, uint32_t dynamic_shared,
                const cuda::Args& args);
  Status launch(const cuda::KernelLaunch& launch, const cuda::Args& args);

  const cuda::Driver& driver() const { return *driver_; }

 private:
  Status load(const std::string& name, const GpuCode& code);

  std::shared_ptr<cuda::Driver> driver_;
  cuda::CuHandle context_ = nullptr;
  cuda::DeviceFacts facts_;
  cuda::Target target_;
  std::map<std::string, cuda::CuHandle> functions_;
};

// Device memory of exactly so many bytes, so that memcheck sees the byte behind it.
class Memory {
 public:
  Memory(Gpu& gpu, const std::vector<std::byte>& contents);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void* data() const { return reinterpret_cast<void*>(pointer_); }
  std::vector<std::byte> contents() const;

 private:
  Gpu& gpu_;
  size_t bytes_;
  cuda::CuPointer pointer_ = 0;
};

}  // namespace ll::gpu_check
