#include "tests/gpu_check/device.h"

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "compiler/codegen/gpu.h"
#include "compiler/codegen/targets.h"
#include "kernels/cuda/prologue.h"

namespace ll::gpu_check {

Result<Gpu*> Gpu::get(int isa) {
  static std::map<int, std::unique_ptr<Gpu>> gpus;
  std::unique_ptr<Gpu>& gpu = gpus[isa];
  if (gpu != nullptr) return gpu.get();
  auto g = std::make_unique<Gpu>();
  TRY_ASSIGN(g->driver_, cuda::Driver::open());
  TRY_ASSIGN(g->facts_, cuda::device_facts(*g->driver_, 0));
  const std::string name = fmt::format("sm_{}", g->facts_.sm);
  const bool limited = isa != 0 && isa != g->facts_.sm;
  TRY_ASSIGN(const TargetList list, parse_targets(name, limited ? fmt::format("sm_{}", isa) : ""));
  g->target_ = list.gpus.at(0);
  const cuda::Driver& d = *g->driver_;
  TRY(d.check(d.context_retain(&g->context_, 0), "cuDevicePrimaryCtxRetain"));
  TRY(d.check(d.context_set(g->context_), "cuCtxSetCurrent"));
  gpu = std::move(g);
  return gpu.get();
}

Status Gpu::load(const std::string& name, const GpuCode& code) {
  const cuda::Driver& d = *driver_;
  cuda::CuHandle module = nullptr, function = nullptr;
  TRY(d.check(d.module_load(&module, code.cubin.data()), "cuModuleLoadData of " + name));
  TRY(d.check(d.module_function(&function, module, name.c_str()), "cuModuleGetFunction of " + name));
  functions_[name] = function;
  return {};
}

Status Gpu::prepare(const std::vector<cuda::Instance>& instances) {
  std::vector<cuda::Instance> missing;
  for (const cuda::Instance& i : instances) {
    if (!functions_.contains(cuda::kernel_name(i))) missing.push_back(i);
  }
  GpuOptions options;
  options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  TRY_ASSIGN(const auto compiled, compile_instances(missing, target_, options));
  for (const CompiledInstance& c : compiled) TRY(load(c.name, c.code));
  return {};
}

Status Gpu::prepare(const std::string& source, const std::string& name) {
  if (functions_.contains(name)) return {};
  TRY_ASSIGN(const auto nvrtc, Nvrtc::open("", target_.sm));
  TRY_ASSIGN(const GpuCode code, nvrtc->compile(source, name, target_, false));
  return load(name, code);
}

Status Gpu::launch(const std::string& name, std::array<uint32_t, 3> grid, int threads, uint32_t dynamic_shared,
                   const cuda::Args& args) {
  const cuda::Driver& d = *driver_;
  const auto function = functions_.find(name);
  if (function == functions_.end()) return error(Code::kInternal, "kernel {} was not prepared", name);
  // Static and dynamic together may exceed the 48 KiB that need no asking.
  if (dynamic_shared > 0) {
    TRY(d.check(d.function_set(function->second, static_cast<int>(cuda::FunctionAttribute::kMaxDynamicShared),
                               static_cast<int>(dynamic_shared)),
                "cuFuncSetAttribute of " + name));
  }
  cuda::Args copy = args;
  void* parameters[] = {&copy};
  TRY(d.check(d.launch(function->second, grid[0], grid[1], grid[2], static_cast<unsigned>(threads), 1, 1,
                       dynamic_shared, nullptr, parameters, nullptr),
              "cuLaunchKernel of " + name));
  return d.check(d.stream_wait(nullptr), name);
}

Status Gpu::launch(const cuda::KernelLaunch& l, const cuda::Args& args) {
  return launch(cuda::kernel_name(l.instance), l.grid, l.instance.threads, l.dynamic_shared, args);
}

Memory::Memory(Gpu& gpu, const std::vector<std::byte>& contents) : gpu_(gpu), bytes_(contents.size()) {
  const cuda::Driver& d = gpu_.driver();
  Status s = d.check(d.allocate(&pointer_, std::max<size_t>(bytes_, 16)), "cuMemAlloc");
  if (s && bytes_ > 0) s = d.check(d.copy_to_device(pointer_, contents.data(), bytes_, nullptr), "cuMemcpyHtoD");
  if (s) s = d.check(d.stream_wait(nullptr), "cuStreamSynchronize");
  if (!s) {
    fmt::print(stderr, "{}\n", s.error().message);
    std::exit(static_cast<int>(s.error().code));
  }
}

Memory::~Memory() { gpu_.driver().free(pointer_); }

std::vector<std::byte> Memory::contents() const {
  const cuda::Driver& d = gpu_.driver();
  std::vector<std::byte> out(bytes_);
  Status s;
  if (bytes_ > 0) s = d.check(d.copy_to_host(out.data(), pointer_, bytes_, nullptr), "cuMemcpyDtoH");
  if (s) s = d.check(d.stream_wait(nullptr), "cuStreamSynchronize");
  if (!s) {
    fmt::print(stderr, "{}\n", s.error().message);
    std::exit(static_cast<int>(s.error().code));
  }
  return out;
}

}  // namespace ll::gpu_check
