// What the device's memory and its link reach, for the tables that speeds are read against.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "tests/gpu_check/device.h"

namespace ll::gpu_check {
namespace {

constexpr uint64_t kBytes = uint64_t{4} << 30;
constexpr uint64_t kPinned = uint64_t{1} << 30;
constexpr int kThreads = 512, kBlocksPerMultiprocessor = 4, kRepetitions = 10;

// Every block reads (and copies) pieces of 16 bytes a thread, the blocks side by side.
constexpr const char* kSource = R"(
#include "prim/args.h"
constexpr unsigned long long kPieces = {}ull;
extern "C" __global__ void __launch_bounds__(512) stream_read(const ll::cuda::Args args) {{
  const uint4* in = static_cast<const uint4*>(args.in[0]);
  unsigned sum = 0;
  const unsigned long long step = static_cast<unsigned long long>(gridDim.x) * blockDim.x;
#pragma unroll 8
  for (unsigned long long i = static_cast<unsigned long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < kPieces;
       i += step) {{
    const uint4 v = in[i];
    sum += v.x + v.y + v.z + v.w;
  }}
  atomicAdd(static_cast<unsigned*>(args.out[0]), sum);
}}
)";
constexpr const char* kCopy = R"(
#include "prim/args.h"
constexpr unsigned long long kPieces = {}ull;
extern "C" __global__ void __launch_bounds__(512) stream_copy(const ll::cuda::Args args) {{
  const uint4* in = static_cast<const uint4*>(args.in[0]);
  uint4* out = static_cast<uint4*>(args.out[0]);
  const unsigned long long step = static_cast<unsigned long long>(gridDim.x) * blockDim.x;
#pragma unroll 8
  for (unsigned long long i = static_cast<unsigned long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < kPieces;
       i += step) {{
    out[i] = in[i];
  }}
}}
)";

// Fastest of the repetitions, after one that warms up.
template <class F>
double seconds(F body) {
  double least = 1e30;
  for (int i = 0; i <= kRepetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    if (i > 0) least = std::min(least, took.count());
  }
  return least;
}

TEST(DeviceBandwidth, ReadCopyAndLink) {
  const auto found = Gpu::get(0);
  if (!found) GTEST_SKIP() << found.error().message;
  Gpu& gpu = **found;
  const cuda::Driver& d = gpu.driver();
  cuda::CuPointer from = 0, to = 0;
  void* pinned = nullptr;
  ASSERT_EQ(d.allocate(&from, kBytes), 0);
  ASSERT_EQ(d.allocate(&to, kBytes), 0);
  ASSERT_EQ(d.host_allocate(&pinned, kPinned, 0), 0);
  std::memset(pinned, 1, kPinned);
  ASSERT_EQ(d.set_bytes(from, 1, kBytes, nullptr), 0);
  ASSERT_EQ(d.set_bytes(to, 0, kBytes, nullptr), 0);
  cuda::Args args{};
  args.in[0] = reinterpret_cast<void*>(from);
  args.out[0] = reinterpret_cast<void*>(to);
  const auto blocks = static_cast<uint32_t>(gpu.facts().multiprocessors * kBlocksPerMultiprocessor);
  const auto run = [&](const char* source, const std::string& name) {
    const Status prepared = gpu.prepare(fmt::format(fmt::runtime(source), kBytes / 16), name);
    EXPECT_TRUE(prepared) << prepared.error().message;
    return seconds([&] {
      const Status done = gpu.launch(name, {blocks, 1, 1}, kThreads, 0, args);
      ASSERT_TRUE(done) << done.error().message;
    });
  };
  const double read = run(kSource, "stream_read");
  uint32_t sum = 0;
  ASSERT_EQ(d.copy_to_host(&sum, to, sizeof sum, nullptr), 0);
  ASSERT_EQ(d.stream_wait(nullptr), 0);
  EXPECT_EQ(sum, static_cast<uint32_t>(uint64_t{kRepetitions + 1} * (kBytes / 4) * 0x01010101));
  const double copy = run(kCopy, "stream_copy");
  const double link = seconds([&] {
    ASSERT_EQ(d.copy_to_device(to, pinned, kPinned, nullptr), 0);
    ASSERT_EQ(d.stream_wait(nullptr), 0);
  });
  fmt::print("{}: streaming read {:.0f} GB/s, copy {:.0f} GB/s (read plus write), pinned host to device {:.1f} GB/s\n",
             gpu.facts().name, kBytes / read / 1e9, 2 * kBytes / copy / 1e9, kPinned / link / 1e9);
  d.free(from);
  d.free(to);
  d.host_free(pinned);
}

}  // namespace
}  // namespace ll::gpu_check
