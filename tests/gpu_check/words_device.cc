// Every word of kernels/cuda/prim/, on the GPU and on the emulator: the same bits.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "compiler/codegen/cuda_sources.h"
#include "kernels/cuda/emulator/emulator.h"
#include "kernels/cuda/prim_check.h"
#include "tests/gpu_check/device.h"

namespace ll::gpu_check {
namespace {

// The sources that this program carries, as files.
class SourceFolder {
 public:
  SourceFolder() {
    path_ = std::filesystem::temp_directory_path() / fmt::format("llcuda_words_{}", getpid());
    for (const CudaSource& source : cuda_sources()) {
      const std::filesystem::path file = path_ / source.name;
      std::filesystem::create_directories(file.parent_path());
      std::ofstream(file) << source.text;
    }
  }
  ~SourceFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string path() const { return path_; }

 private:
  std::filesystem::path path_;
};

std::vector<uint32_t> words_of(const std::vector<std::byte>& bytes) {
  std::vector<uint32_t> words(bytes.size() / 4);
  std::memcpy(words.data(), bytes.data(), 4 * words.size());
  return words;
}

class DeviceWords : public testing::TestWithParam<int> {};

TEST_P(DeviceWords, HaveTheEmulatorsBits) {
  const auto gpu = Gpu::get(GetParam());
  if (!gpu) GTEST_SKIP() << gpu.error().message;
  const SourceFolder folder;
  Result<cuda::Emulator> emulator = cuda::Emulator::open(folder.path(), folder.path());
  if (!emulator) GTEST_SKIP() << emulator.error().message;
  const cuda::KernelLaunch launch = cuda::prim_check_launch();
  const Status prepared = (*gpu)->prepare({launch.instance});
  ASSERT_TRUE(prepared) << prepared.error().message;
  for (const uint64_t seed : {1, 2, 3}) {
    const std::vector<uint32_t> in = cuda::prim_check_inputs(seed);
    const auto bytes = std::as_bytes(std::span(in));
    const std::vector<std::byte> zero(launch.workspace),
        out(4 * cuda::prim_check_rows().size() * cuda::prim_check_threads());
    const Memory device_in(**gpu, {bytes.begin(), bytes.end()}), device_out(**gpu, out), device_work(**gpu, zero);
    cuda::Args args{};
    args.in[0] = device_in.data();
    args.out[0] = device_out.data();
    args.workspace = device_work.data();
    const Status launched = (*gpu)->launch(launch, args);
    ASSERT_TRUE(launched) << launched.error().message;

    std::vector<std::byte> want = out, work = zero;
    args.in[0] = in.data();
    args.out[0] = want.data();
    args.workspace = work.data();
    const Status emulated = emulator->launch(launch, args, 0);
    ASSERT_TRUE(emulated) << emulated.error().message;
    EXPECT_EQ(cuda::prim_check_differences(words_of(device_out.contents()), words_of(want)), "");
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, DeviceWords, testing::Values(75, 0),
                         [](const auto& p) { return p.param == 0 ? "native" : "sm_75"; });

}  // namespace
}  // namespace ll::gpu_check
