#include "runtime/device/cuda/driver.h"

#include <dlfcn.h>

#include <array>
#include <cstdlib>

#include "runtime/base/escape.h"

namespace ll::cuda {
namespace {

constexpr int kLeastVersion = 12000;

}  // namespace

Result<std::shared_ptr<Driver>> Driver::open() {
  const char* named = std::getenv("LLRT_CUDA_DRIVER");
  const char* path = named != nullptr && *named != '\0' ? named : "libcuda.so.1";
  // Never closed: the driver keeps threads.
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    return unsupported("no CUDA driver: {}", reason == nullptr ? path : reason);
  }
  std::shared_ptr<Driver> d(new Driver());
  const auto find = [&](const char* symbol, auto& member) -> Status {
    member = reinterpret_cast<std::remove_reference_t<decltype(member)>>(dlsym(library, symbol));
    if (member == nullptr)
      return unsupported("the CUDA driver {} has no {}: it is older than 12.0", quote(path), symbol);
    return {};
  };
#define LL_FIND(symbol, member, parameters) TRY(find(symbol, d->member));
  LL_CUDA_DRIVER(LL_FIND)
#undef LL_FIND
  if (const CuResult r = d->init(0); r != 0) {
    const Error e = d->failed(r, "cuInit");
    return unsupported("the CUDA driver does not start: {}", e.message);
  }
  TRY(d->check(d->driver_version(&d->version_), "cuDriverGetVersion"));
  if (d->version_ < kLeastVersion) {
    return unsupported("CUDA driver {}.{}, expected 12.0 or newer", d->version_ / 1000, d->version_ % 1000 / 10);
  }
  TRY(d->check(d->device_count(&d->devices_), "cuDeviceGetCount"));
  if (d->devices_ == 0) return unsupported("the CUDA driver finds no device");
  return d;
}

bool Driver::sticky(CuResult r) {
  // cuda.h says of these that the process must be terminated: 214 ECC, 220 and 226 links, 700 illegal address, 702
  // time-out, 709 context destroyed, 710 assert, 714 to 719 faults of kernels, 721, 999 unknown.
  constexpr std::array kSticky = {214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 999};
  for (const int s : kSticky) {
    if (r == s) return true;
  }
  return false;
}

Error Driver::failed(CuResult result, std::string_view what) const {
  const char *name = nullptr, *text = nullptr;
  error_name(result, &name);
  error_string(result, &text);
  const Code code = result == kCuOutOfMemory ? Code::kOutOfMemory : sticky(result) ? Code::kRetry : Code::kInternal;
  return error(code, "{}: {} ({}): {}", what, name == nullptr ? "unknown error" : name, result,
               text == nullptr ? "no description" : text);
}

Result<DeviceFacts> device_facts(const Driver& d, int ordinal) {
  CuDevice device = 0;
  TRY(d.check(d.device_get(&device, ordinal), "cuDeviceGet"));
  std::array<char, 256> name{};
  TRY(d.check(d.device_name(name.data(), static_cast<int>(name.size()) - 1, device), "cuDeviceGetName"));
  const auto attribute = [&](DeviceAttribute a, int& value) {
    return d.check(d.device_attribute(&value, static_cast<int>(a), device), "cuDeviceGetAttribute");
  };
  DeviceFacts facts;
  facts.name = name.data();
  int major = 0, minor = 0;
  TRY(attribute(DeviceAttribute::kMajor, major));
  TRY(attribute(DeviceAttribute::kMinor, minor));
  facts.sm = major * 10 + minor;
  TRY(attribute(DeviceAttribute::kMultiprocessors, facts.multiprocessors));
  TRY(attribute(DeviceAttribute::kSharedPerBlock, facts.shared_per_block));
  size_t bytes = 0;
  TRY(d.check(d.device_memory(&bytes, device), "cuDeviceTotalMem"));
  facts.memory_bytes = bytes;
  return facts;
}

}  // namespace ll::cuda
