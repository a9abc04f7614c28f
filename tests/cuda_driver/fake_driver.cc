// A CUDA driver without a GPU, for tests: the functions of runtime/device/cuda/driver.h on host memory, with kernels
// run by the emulator (kernels/cuda/emulator/). LLRT_CUDA_DRIVER=libllcuda_fake_driver.so makes llrt use it; it runs
// plans of llcc compile --target emulated, whose code objects are instances as text.
//
// Stricter than a driver: memory is poisoned and ends at pages that fault, every copy must lie within one allocation,
// handles are checked, a graph runs only if it was instantiated and its nodes form a chain, and what is still allocated
// when the last context is released is a failure. Environment:
//   LLCUDA_FAKE_MEMORY   bytes of device memory (default 8 GiB)
//   LLCUDA_FAKE_SM       architecture that the device claims (default 0, the emulated one)
//   LLCUDA_FAKE_LOST_AFTER launches of graphs that succeed; the one after them loses the device, as an illegal access
//                        does: its launch succeeds, every call that follows fails
//   LLCUDA_EMULATOR_SEED order of threads and blocks (default 0)
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/cuda/emulator/emulator.h"
#include "kernels/cuda/prologue.h"
#include "runtime/device/cuda/driver.h"

#define FAKE extern "C" __attribute__((visibility("default"))) CuResult

namespace {

using namespace ll::cuda;  // NOLINT(google-build-using-namespace)

constexpr CuResult kInvalidImage = 200, kInvalidContext = 201, kInvalidHandle = 400, kNotFound = 500;
constexpr size_t kPage = 4096;

// Memory that ends, to 256 bytes, at a page that faults, full of NaNs.
struct Allocation {
  std::byte* mapped = nullptr;
  size_t mapped_bytes = 0, bytes = 0;
};

struct FakeModule {
  Instance instance;
  std::string name;
};
struct FakeFunction {
  const FakeModule* module;
};
struct FakeNode {
  const FakeFunction* function;  // null: an event is recorded
  std::array<uint32_t, 3> grid;
  unsigned shared;
  Args args;
};
struct FakeGraph {
  std::vector<std::unique_ptr<FakeNode>> nodes;
};
struct FakeExec {
  std::vector<FakeNode> nodes;
};

uint64_t number(const char* name, uint64_t missing) {
  const char* text = std::getenv(name);
  return text == nullptr ? missing : std::strtoull(text, nullptr, 10);
}

struct State {
  std::mutex mutex;
  std::optional<Emulator> emulator;
  std::map<CuPointer, Allocation> device;  // by start
  std::map<const void*, Allocation> pinned;
  uint64_t used = 0;
  std::set<const void*> handles;                                   // streams, events, modules, graphs, execs
  std::map<const void*, std::unique_ptr<FakeFunction>> functions;  // go with their module
  int contexts = 0;
  CuResult lost = 0;  // after a fault
  uint64_t graph_launches = 0;
  uint64_t bytes_to_host = 0;
};
State& state() {
  static State* const s = new State;  // outlives everything
  return *s;
}

CuResult complain(const char* what) {
  std::fprintf(stderr, "fake CUDA driver: %s\n", what);
  return kCuInvalidValue;
}

std::optional<Allocation> map(size_t bytes) {
  Allocation a;
  const size_t used = (bytes + 255) / 256 * 256;
  a.bytes = bytes;
  a.mapped_bytes = (used + kPage - 1) / kPage * kPage + 2 * kPage;
  void* memory = mmap(nullptr, a.mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return std::nullopt;
  a.mapped = static_cast<std::byte*>(memory);
  mprotect(a.mapped, kPage, PROT_NONE);
  mprotect(a.mapped + a.mapped_bytes - kPage, kPage, PROT_NONE);
  return a;
}
std::byte* start_of(const Allocation& a) { return a.mapped + a.mapped_bytes - kPage - (a.bytes + 255) / 256 * 256; }

bool inside(CuPointer p, size_t bytes) {
  const auto& all = state().device;
  auto it = all.upper_bound(p);
  if (it == all.begin()) return false;
  --it;
  return p - it->first <= it->second.bytes && bytes <= it->second.bytes - (p - it->first);
}

template <class T>
T* known(CuHandle handle) {
  return state().handles.contains(handle) ? static_cast<T*>(handle) : nullptr;
}
const FakeFunction* function_of(CuHandle handle) {
  const auto it = state().functions.find(handle);
  return it == state().functions.end() ? nullptr : it->second.get();
}
template <class T>
CuHandle enter(T* object) {
  state().handles.insert(object);
  return object;
}
template <class T>
CuResult leave(CuHandle handle) {
  if (state().handles.erase(handle) == 0) return complain("a handle is destroyed that is not alive"), kInvalidHandle;
  delete static_cast<T*>(handle);
  return 0;
}

CuResult run(const FakeNode& node) {
  State& s = state();
  if (!s.emulator) {
    const std::filesystem::path cache = std::filesystem::path(LLCUDA_BINARY_DIR) / "emulated";
    std::filesystem::create_directories(cache);
    auto opened = Emulator::open(std::string(LLCUDA_SOURCE_DIR) + "/kernels/cuda", cache);
    if (!opened) {
      std::fprintf(stderr, "fake CUDA driver: %s\n", opened.error().message.c_str());
      return s.lost = 999;
    }
    s.emulator.emplace(*std::move(opened));
  }
  KernelLaunch launch;
  launch.instance = node.function->module->instance;
  launch.grid = node.grid;
  launch.dynamic_shared = node.shared;
  const ll::Status done = s.emulator->launch(launch, node.args, number("LLCUDA_EMULATOR_SEED", 0));
  if (done) return 0;
  std::fprintf(stderr, "fake CUDA driver: %s: %s\n", node.function->module->name.c_str(), done.error().message.c_str());
  return s.lost = kCuIllegalAddress;
}

// The text of encode_instance (compiler/codegen/targets.h).
std::optional<Instance> decode(const char* text) {
  std::istringstream in{std::string(text, strnlen(text, 1 << 16))};
  Instance i;
  std::string key;
  int64_t value = 0;
  if (!std::getline(in, i.source) || !std::getline(in, i.function) || !(in >> i.threads >> i.blocks_per_sm)) return {};
  while (in >> key && key != "end") {
    if (!(in >> value)) return {};
    i.constants.emplace_back(key, value);
  }
  if (key != "end") return {};
  return i;
}

}  // namespace

#define LOCKED                                     \
  State& s = state();                              \
  const std::lock_guard<std::mutex> lock(s.mutex); \
  if (s.lost != 0) return s.lost

// For tests: bytes that were copied to the host.
extern "C" __attribute__((visibility("default"))) uint64_t llcuda_fake_bytes_to_host() {
  const std::lock_guard<std::mutex> lock(state().mutex);
  return state().bytes_to_host;
}

FAKE cuInit(unsigned flags) { return flags == 0 ? 0 : kCuInvalidValue; }
FAKE cuDriverGetVersion(int* version) {
  *version = static_cast<int>(number("LLCUDA_FAKE_DRIVER", 13000));
  return 0;
}
FAKE cuGetErrorName(CuResult error, const char** text) {
  *text = error == kCuIllegalAddress ? "CUDA_ERROR_ILLEGAL_ADDRESS" : error == 0 ? "CUDA_SUCCESS" : "CUDA_ERROR_FAKE";
  return 0;
}
FAKE cuGetErrorString(CuResult error, const char** text) {
  *text = error == kCuIllegalAddress ? "an illegal memory access was encountered" : "of the fake driver";
  return 0;
}
FAKE cuDeviceGetCount(int* count) {
  *count = static_cast<int>(number("LLCUDA_FAKE_DEVICES", 1));
  return 0;
}
FAKE cuDeviceGet(CuDevice* device, int ordinal) {
  if (ordinal != 0) return 101;
  *device = 0;
  return 0;
}
FAKE cuDeviceGetName(char* name, int bytes, CuDevice) {
  std::snprintf(name, static_cast<size_t>(bytes), "emulated GPU");
  return 0;
}
FAKE cuDeviceGetAttribute(int* value, int attribute, CuDevice) {
  const auto sm = static_cast<int>(number("LLCUDA_FAKE_SM", 0));
  switch (static_cast<DeviceAttribute>(attribute)) {
    case DeviceAttribute::kMultiprocessors:
      *value = 4;
      return 0;
    case DeviceAttribute::kL2Bytes:
      *value = 4 << 20;
      return 0;
    case DeviceAttribute::kMajor:
      *value = sm / 10;
      return 0;
    case DeviceAttribute::kMinor:
      *value = sm % 10;
      return 0;
    case DeviceAttribute::kSharedPerBlock:
      *value = 64 << 10;
      return 0;
  }
  return kCuInvalidValue;
}
FAKE cuDeviceTotalMem_v2(size_t* bytes, CuDevice) {
  *bytes = number("LLCUDA_FAKE_MEMORY", uint64_t{8} << 30);
  return 0;
}
FAKE cuDevicePrimaryCtxRetain(CuHandle* context, CuDevice) {
  LOCKED;
  ++s.contexts;
  *context = &s;
  return 0;
}
FAKE cuDevicePrimaryCtxRelease_v2(CuDevice) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  if (s.contexts == 0) return kInvalidContext;
  if (--s.contexts == 0 && (!s.device.empty() || !s.pinned.empty() || !s.handles.empty())) {
    std::fprintf(stderr, "fake CUDA driver: %zu allocations, %zu pinned ones and %zu handles are left\n",
                 s.device.size(), s.pinned.size(), s.handles.size());
    std::_Exit(70);
  }
  return 0;
}
FAKE cuCtxSetCurrent(CuHandle context) { return context == &state() ? 0 : kInvalidContext; }
FAKE cuMemGetInfo_v2(size_t* free, size_t* total) {
  LOCKED;
  *total = number("LLCUDA_FAKE_MEMORY", uint64_t{8} << 30);
  *free = *total - std::min<size_t>(*total, s.used);
  return 0;
}
FAKE cuMemAlloc_v2(CuPointer* pointer, size_t bytes) {
  LOCKED;
  if (bytes == 0) return kCuInvalidValue;
  if (s.used + bytes > number("LLCUDA_FAKE_MEMORY", uint64_t{8} << 30)) return kCuOutOfMemory;
  const auto a = map(bytes);
  if (!a) return kCuOutOfMemory;
  std::memset(start_of(*a), 0xff, bytes);
  *pointer = reinterpret_cast<CuPointer>(start_of(*a));
  s.device.emplace(*pointer, *a);
  s.used += bytes;
  return 0;
}
FAKE cuMemFree_v2(CuPointer pointer) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  const auto it = s.device.find(pointer);
  if (it == s.device.end()) return complain("cuMemFree of what was not allocated");
  s.used -= it->second.bytes;
  munmap(it->second.mapped, it->second.mapped_bytes);
  s.device.erase(it);
  return s.lost;
}
FAKE cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  LOCKED;
  const auto a = map(bytes);
  if (bytes == 0 || !a) return bytes == 0 ? kCuInvalidValue : kCuOutOfMemory;
  *pointer = start_of(*a);
  s.pinned.emplace(*pointer, *a);
  return 0;
}
FAKE cuMemFreeHost(void* pointer) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  const auto it = s.pinned.find(pointer);
  if (it == s.pinned.end()) return complain("cuMemFreeHost of what was not allocated");
  munmap(it->second.mapped, it->second.mapped_bytes);
  s.pinned.erase(it);
  return s.lost;
}
FAKE cuMemcpyHtoDAsync_v2(CuPointer to, const void* from, size_t bytes, CuHandle stream) {
  LOCKED;
  if (!inside(to, bytes)) return complain("a copy to the device is outside its allocation");
  if (stream != nullptr && known<int>(stream) == nullptr) return kInvalidHandle;
  std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  return 0;
}
FAKE cuMemcpyDtoHAsync_v2(void* to, CuPointer from, size_t bytes, CuHandle stream) {
  LOCKED;
  if (!inside(from, bytes)) return complain("a copy from the device is outside its allocation");
  if (stream != nullptr && known<int>(stream) == nullptr) return kInvalidHandle;
  std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
  s.bytes_to_host += bytes;
  return 0;
}
FAKE cuMemcpyDtoDAsync_v2(CuPointer to, CuPointer from, size_t bytes, CuHandle stream) {
  LOCKED;
  if (!inside(from, bytes) || !inside(to, bytes)) return complain("a copy on the device is outside its allocation");
  if (stream != nullptr && known<int>(stream) == nullptr) return kInvalidHandle;
  std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
  return 0;
}
FAKE cuMemsetD8Async(CuPointer to, unsigned char value, size_t count, CuHandle stream) {
  LOCKED;
  if (!inside(to, count)) return complain("a fill is outside its allocation");
  if (stream != nullptr && known<int>(stream) == nullptr) return kInvalidHandle;
  std::memset(reinterpret_cast<void*>(to), value, count);
  return 0;
}
FAKE cuStreamCreate(CuHandle* stream, unsigned) {
  LOCKED;
  *stream = enter(new int(0));
  return 0;
}
FAKE cuStreamDestroy_v2(CuHandle stream) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  return leave<int>(stream);
}
FAKE cuStreamSynchronize(CuHandle stream) {
  LOCKED;
  return stream == nullptr || known<int>(stream) != nullptr ? 0 : kInvalidHandle;
}
FAKE cuEventCreate(CuHandle* event, unsigned) {
  LOCKED;
  *event = enter(new int(0));
  return 0;
}
FAKE cuEventDestroy_v2(CuHandle event) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  return leave<int>(event);
}
FAKE cuEventRecord(CuHandle event, CuHandle stream) {
  LOCKED;
  return known<int>(event) != nullptr && known<int>(stream) != nullptr ? 0 : kInvalidHandle;
}
FAKE cuEventSynchronize(CuHandle event) {
  LOCKED;
  return known<int>(event) != nullptr ? 0 : kInvalidHandle;
}
FAKE cuEventElapsedTime(float* milliseconds, CuHandle from, CuHandle to) {
  LOCKED;
  *milliseconds = 1;
  return known<int>(from) != nullptr && known<int>(to) != nullptr ? 0 : kInvalidHandle;
}
FAKE cuModuleLoadData(CuHandle* module, const void* image) {
  LOCKED;
  auto instance = decode(static_cast<const char*>(image));
  if (!instance) return kInvalidImage;
  std::string name = kernel_name(*instance);
  *module = enter(new FakeModule{*std::move(instance), std::move(name)});
  return 0;
}
FAKE cuModuleUnload(CuHandle module) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  std::erase_if(s.functions, [&](const auto& f) { return f.second->module == module; });
  return leave<FakeModule>(module);
}
FAKE cuModuleGetFunction(CuHandle* function, CuHandle module, const char* name) {
  LOCKED;
  const auto* m = known<FakeModule>(module);
  if (m == nullptr) return kInvalidHandle;
  if (m->name != name) return kNotFound;
  auto owned = std::make_unique<FakeFunction>(FakeFunction{m});
  *function = owned.get();
  s.functions.emplace(owned.get(), std::move(owned));
  return 0;
}
FAKE cuFuncSetAttribute(CuHandle function, int, int) {
  LOCKED;
  return function_of(function) != nullptr ? 0 : kInvalidHandle;
}
FAKE cuLaunchKernel(CuHandle function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                    unsigned block_y, unsigned block_z, unsigned shared, CuHandle stream, void** parameters, void**) {
  LOCKED;
  const auto* f = function_of(function);
  if (f == nullptr || known<int>(stream) == nullptr) return kInvalidHandle;
  if (static_cast<int>(block_x) != f->module->instance.threads || block_y != 1 || block_z != 1) {
    return complain("a launch with another block than the kernel was made for");
  }
  return run({f, {grid_x, grid_y, grid_z}, shared, *static_cast<const Args*>(parameters[0])});
}
FAKE cuGraphCreate(CuHandle* graph, unsigned) {
  LOCKED;
  *graph = enter(new FakeGraph);
  return 0;
}
FAKE cuGraphDestroy(CuHandle graph) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  return leave<FakeGraph>(graph);
}
FAKE cuGraphAddKernelNode_v2(CuHandle* node, CuHandle graph, const CuHandle* dependencies, size_t count,
                             const KernelNodeParams* p) {
  LOCKED;
  auto* g = known<FakeGraph>(graph);
  const auto* f = function_of(p->function);
  if (g == nullptr || f == nullptr) return kInvalidHandle;
  if (static_cast<int>(p->block_x) != f->module->instance.threads || p->block_y != 1 || p->block_z != 1) {
    return complain("a node with another block than the kernel was made for");
  }
  const bool chain = g->nodes.empty() ? count == 0 : count == 1 && dependencies[0] == g->nodes.back().get();
  if (!chain) return complain("a node that does not follow the one before it");
  g->nodes.push_back(std::make_unique<FakeNode>(
      FakeNode{f, {p->grid_x, p->grid_y, p->grid_z}, p->shared_bytes, *static_cast<const Args*>(p->parameters[0])}));
  *node = g->nodes.back().get();
  return 0;
}
FAKE cuGraphAddEventRecordNode(CuHandle* node, CuHandle graph, const CuHandle* dependencies, size_t count,
                               CuHandle event) {
  LOCKED;
  auto* g = known<FakeGraph>(graph);
  if (g == nullptr || known<int>(event) == nullptr) return kInvalidHandle;
  const bool chain = g->nodes.empty() ? count == 0 : count == 1 && dependencies[0] == g->nodes.back().get();
  if (!chain) return complain("a node that does not follow the one before it");
  g->nodes.push_back(std::make_unique<FakeNode>());
  *node = g->nodes.back().get();
  return 0;
}
FAKE cuGraphInstantiateWithFlags(CuHandle* exec, CuHandle graph, unsigned long long) {
  LOCKED;
  const auto* g = known<FakeGraph>(graph);
  if (g == nullptr) return kInvalidHandle;
  auto* e = new FakeExec;
  for (const auto& n : g->nodes) e->nodes.push_back(*n);
  *exec = enter(e);
  return 0;
}
FAKE cuGraphExecDestroy(CuHandle exec) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  return leave<FakeExec>(exec);
}
FAKE cuGraphUpload(CuHandle exec, CuHandle stream) {
  LOCKED;
  return known<FakeExec>(exec) != nullptr && known<int>(stream) != nullptr ? 0 : kInvalidHandle;
}
FAKE cuGraphLaunch(CuHandle exec, CuHandle stream) {
  LOCKED;
  const auto* e = known<FakeExec>(exec);
  if (e == nullptr || known<int>(stream) == nullptr) return kInvalidHandle;
  if (s.graph_launches++ >= number("LLCUDA_FAKE_LOST_AFTER", UINT64_MAX)) {
    s.lost = kCuIllegalAddress;
    return 0;
  }
  for (const FakeNode& n : e->nodes) {
    if (n.function == nullptr) continue;
    if (const CuResult r = run(n); r != 0) return r;
  }
  return 0;
}
