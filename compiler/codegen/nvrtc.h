// CUDA source to code objects: NVRTC and nvJitLink, opened at run time. Nothing is linked, so everything else works
// where neither is installed.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cuda/family.h"
#include "runtime/base/result.h"

namespace ll {

// One architecture's code of one kernel.
struct GpuCode {
  std::string cubin;
  std::string ptx;  // ends with a zero byte
};

// The libraries of one toolkit.
class Nvrtc {
 public:
  // `path`: a libnvrtc.so, or empty. Then, in this order: $LLCC_NVRTC; for architectures before sm_80 that of a Python
  // environment in version 12 (package nvidia-cuda-nvrtc-cu12), because many machines with such cards have drivers of
  // version 12, which refuse what toolkit 13 makes; the installed toolkit ($CUDA_HOME, $CUDA_PATH, /usr/local/cuda);
  // any of a Python environment; what the loader finds. kUnsupported lists where it looked.
  static Result<std::shared_ptr<Nvrtc>> open(const std::string& path, int sm);
  ~Nvrtc();

  int major() const { return major_; }
  int minor() const { return minor_; }
  const std::string& path() const { return path_; }
  // What code objects depend on besides source and options: versions of the compiler and of the linker, if the target
  // needs it.
  std::string fingerprint(const cuda::Target& target) const;

  // Compiles a translation unit with the entry point `name`. Where isa is older than sm, PTX for isa is assembled for
  // sm by nvJitLink. kUnsupported when that is missing; kInternal carries the compiler's log and the kernel's name.
  // Thread safe.
  Result<GpuCode> compile(const std::string& source, const std::string& name, const cuda::Target& target,
                          bool want_ptx) const;

 private:
  struct Functions;
  struct Linker;
  Nvrtc() = default;
  Result<std::string> assemble(const std::string& ptx, const std::string& name, const cuda::Target& target) const;

  std::string path_;
  int major_ = 0, minor_ = 0;
  std::unique_ptr<Functions> functions_;
  std::unique_ptr<Linker> linker_;  // null: none found
};

}  // namespace ll
