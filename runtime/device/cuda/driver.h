// The CUDA driver, opened at run time: the functions that are used, with the signatures of cuda.h. Nothing is linked
// and no CUDA header is needed to build.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace ll::cuda {

using CuResult = int;  // CUresult: 0 for success
using CuDevice = int;
using CuPointer = unsigned long long;  // CUdeviceptr
using CuHandle = void*;                // CUcontext, CUstream, CUmodule, ...

// CUDA_KERNEL_NODE_PARAMS_v2.
struct KernelNodeParams {
  CuHandle function;
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
  void** parameters;
  void** extra;
  CuHandle kernel, context;
};

inline constexpr CuResult kCuInvalidValue = 1, kCuOutOfMemory = 2, kCuNoDevice = 100, kCuNoBinaryForGpu = 209,
                          kCuNotReady = 600, kCuIllegalAddress = 700;
enum class DeviceAttribute : int {
  kMultiprocessors = 16,
  kL2Bytes = 38,
  kMajor = 75,
  kMinor = 76,
  kSharedPerBlock = 97,  // that a kernel may ask for
};
enum class FunctionAttribute : int { kMaxDynamicShared = 8, kSharedCarveout = 9 };

// clang-format off
// X(result, name of the exported symbol, member, parameters)
#define LL_CUDA_DRIVER(X)                                                                                             \
  X("cuInit", init, (unsigned flags))                                                                                 \
  X("cuDriverGetVersion", driver_version, (int* version))                                                             \
  X("cuGetErrorName", error_name, (CuResult error, const char** text))                                                \
  X("cuGetErrorString", error_string, (CuResult error, const char** text))                                            \
  X("cuDeviceGetCount", device_count, (int* count))                                                                   \
  X("cuDeviceGet", device_get, (CuDevice* device, int ordinal))                                                       \
  X("cuDeviceGetName", device_name, (char* name, int bytes, CuDevice device))                                         \
  X("cuDeviceGetAttribute", device_attribute, (int* value, int attribute, CuDevice device))                           \
  X("cuDeviceTotalMem_v2", device_memory, (size_t* bytes, CuDevice device))                                           \
  X("cuDevicePrimaryCtxRetain", context_retain, (CuHandle* context, CuDevice device))                                 \
  X("cuDevicePrimaryCtxRelease_v2", context_release, (CuDevice device))                                               \
  X("cuCtxSetCurrent", context_set, (CuHandle context))                                                               \
  X("cuMemGetInfo_v2", memory_info, (size_t* free, size_t* total))                                                    \
  X("cuMemAlloc_v2", allocate, (CuPointer* pointer, size_t bytes))                                                    \
  X("cuMemFree_v2", free, (CuPointer pointer))                                                                        \
  X("cuMemHostAlloc", host_allocate, (void** pointer, size_t bytes, unsigned flags))                                  \
  X("cuMemFreeHost", host_free, (void* pointer))                                                                      \
  X("cuMemcpyHtoDAsync_v2", copy_to_device, (CuPointer to, const void* from, size_t bytes, CuHandle stream))          \
  X("cuMemcpyDtoHAsync_v2", copy_to_host, (void* to, CuPointer from, size_t bytes, CuHandle stream))                  \
  X("cuMemcpyDtoDAsync_v2", copy_on_device, (CuPointer to, CuPointer from, size_t bytes, CuHandle stream))            \
  X("cuMemsetD8Async", set_bytes, (CuPointer to, unsigned char value, size_t count, CuHandle stream))                 \
  X("cuStreamCreate", stream_create, (CuHandle* stream, unsigned flags))                                              \
  X("cuStreamDestroy_v2", stream_destroy, (CuHandle stream))                                                          \
  X("cuStreamSynchronize", stream_wait, (CuHandle stream))                                                            \
  X("cuEventCreate", event_create, (CuHandle* event, unsigned flags))                                                 \
  X("cuEventDestroy_v2", event_destroy, (CuHandle event))                                                             \
  X("cuEventRecord", event_record, (CuHandle event, CuHandle stream))                                                 \
  X("cuEventSynchronize", event_wait, (CuHandle event))                                                               \
  X("cuEventElapsedTime", event_elapsed, (float* milliseconds, CuHandle from, CuHandle to))                           \
  X("cuModuleLoadData", module_load, (CuHandle* module, const void* image))                                           \
  X("cuModuleUnload", module_unload, (CuHandle module))                                                               \
  X("cuModuleGetFunction", module_function, (CuHandle* function, CuHandle module, const char* name))                  \
  X("cuFuncSetAttribute", function_set, (CuHandle function, int attribute, int value))                                \
  X("cuLaunchKernel", launch, (CuHandle function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, \
     unsigned block_y, unsigned block_z, unsigned shared_bytes, CuHandle stream, void** parameters, void** extra))     \
  X("cuGraphCreate", graph_create, (CuHandle* graph, unsigned flags))                                                 \
  X("cuGraphDestroy", graph_destroy, (CuHandle graph))                                                                \
  X("cuGraphAddKernelNode_v2", graph_add_kernel, (CuHandle* node, CuHandle graph, const CuHandle* dependencies,        \
     size_t count, const KernelNodeParams* parameters))                                                               \
  X("cuGraphAddEventRecordNode", graph_add_event, (CuHandle* node, CuHandle graph, const CuHandle* dependencies,       \
     size_t count, CuHandle event))                                                                                   \
  X("cuGraphInstantiateWithFlags", graph_instantiate, (CuHandle* exec, CuHandle graph, unsigned long long flags))     \
  X("cuGraphExecDestroy", exec_destroy, (CuHandle exec))                                                              \
  X("cuGraphUpload", exec_upload, (CuHandle exec, CuHandle stream))                                                   \
  X("cuGraphLaunch", exec_launch, (CuHandle exec, CuHandle stream))
// clang-format on

class Driver {
 public:
  // The library that $LLRT_CUDA_DRIVER names, else libcuda.so.1, initialised. kUnsupported without a driver, with one
  // older than 12.0, or when the driver finds no device.
  static Result<std::shared_ptr<Driver>> open();

  int version() const { return version_; }  // as cuDriverGetVersion counts: 13000 = 13.0
  int devices() const { return devices_; }

  // "cuGraphLaunch: CUDA_ERROR_ILLEGAL_ADDRESS (700): an illegal memory access was encountered". kOutOfMemory for
  // memory, kRetry for an error after which the device's context is lost, else kInternal. `what` names the call and
  // what it was for.
  Error failed(CuResult result, std::string_view what) const;
  // After these nothing works in this process any more.
  static bool sticky(CuResult result);
  Status check(CuResult result, std::string_view what) const {
    if (result == 0) return {};
    return failed(result, what);
  }

#define LL_MEMBER(symbol, member, parameters) CuResult(*member) parameters = nullptr;
  LL_CUDA_DRIVER(LL_MEMBER)
#undef LL_MEMBER

 private:
  Driver() = default;
  int version_ = 0, devices_ = 0;
};

// One device as the driver describes it.
struct DeviceFacts {
  std::string name;  // "Tesla T4"
  int sm = 0;        // 75
  int multiprocessors = 0, shared_per_block = 0;
  uint64_t memory_bytes = 0;
};
Result<DeviceFacts> device_facts(const Driver& driver, int ordinal);

}  // namespace ll::cuda
