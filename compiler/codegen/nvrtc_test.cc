#include "compiler/codegen/nvrtc.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "compiler/codegen/cubin_cache.h"
#include "compiler/codegen/gpu.h"
#include "compiler/codegen/targets.h"
#include "kernels/cuda/prologue.h"
#include "runtime/plan/cubin.h"

namespace ll {
namespace {

// The instance that adds two vectors, as its family makes it.
cuda::Instance add_instance(const cuda::Target& target) {
  TensorType t;
  t.rank = 2;
  t.dims = {Dim(Symbol::kT, 8), Dim(64)};
  const TensorType in[] = {t, t}, out[] = {t};
  const int64_t rows[] = {256, 256};
  std::vector<cuda::KernelLaunch> launches;
  const Status s = cuda::find_family("add")->lower({{in, out, {}}, rows}, target, {}, launches);
  EXPECT_TRUE(s) << (s ? "" : s.error().message);
  return launches.at(0).instance;
}

cuda::Target target_of(std::string_view name, std::string_view isa = "") {
  return parse_targets(name, isa)->gpus.at(0);
}

#define REQUIRE_NVRTC(nvrtc, sm)                                       \
  const auto nvrtc##_opened = Nvrtc::open("", sm);                     \
  if (!nvrtc##_opened) GTEST_SKIP() << nvrtc##_opened.error().message; \
  const Nvrtc& nvrtc = **nvrtc##_opened

TEST(Nvrtc, CompilesAnInstance) {
  for (const cuda::Target& t : gpu_targets()) {
    REQUIRE_NVRTC(nvrtc, t.sm);
    const cuda::Instance instance = add_instance(t);
    const std::string name = cuda::kernel_name(instance);
    const auto code = nvrtc.compile(cuda::prologue(instance), name, t, true);
    ASSERT_TRUE(code) << code.error().message;
    const auto cubin = read_cubin(std::as_bytes(std::span(code->cubin)));
    ASSERT_TRUE(cubin) << cubin.error().message;
    EXPECT_EQ(static_cast<int>(cubin->sm), t.sm);
    ASSERT_NE(cubin->find(name), nullptr);
    EXPECT_GT(cubin->find(name)->registers, 0u);
    EXPECT_EQ(cubin->find(name)->local_bytes, 0u);
    EXPECT_NE(code->ptx.find(name), std::string::npos);
    EXPECT_EQ(code->ptx.back(), '\0');
  }
}

// Drivers of version 12 load these, which is what Colab and Kaggle have.
TEST(Nvrtc, Toolkit12MakesCubinsForDriver12) {
  REQUIRE_NVRTC(nvrtc, 75);
  if (nvrtc.major() != 12) GTEST_SKIP() << "no NVRTC 12 in a Python environment, found " << nvrtc.path();
  const cuda::Instance instance = add_instance(target_of("t4"));
  const auto code = nvrtc.compile(cuda::prologue(instance), cuda::kernel_name(instance), target_of("t4"), false);
  ASSERT_TRUE(code) << code.error().message;
  const auto cubin = read_cubin(std::as_bytes(std::span(code->cubin)));
  ASSERT_TRUE(cubin) << cubin.error().message;
  EXPECT_EQ(cubin->abi_version, 7u);
  EXPECT_EQ(least_driver(cubin->abi_version), 12000u);
}

TEST(Nvrtc, AssemblesOldInstructionsForANewDevice) {
  REQUIRE_NVRTC(nvrtc, 90);
  const cuda::Target t = target_of("sm_90", "sm_75");
  EXPECT_EQ(t.isa, 75);
  EXPECT_EQ(t.shared_per_sm, 64 << 10);
  EXPECT_EQ(t.threads_per_sm, 1024);
  EXPECT_EQ(t.multiprocessors, 132);
  const cuda::Instance instance = add_instance(t);
  const auto code = nvrtc.compile(cuda::prologue(instance), cuda::kernel_name(instance), t, true);
  if (!code && code.error().code == Code::kUnsupported) GTEST_SKIP() << code.error().message;
  ASSERT_TRUE(code) << code.error().message;
  EXPECT_NE(code->ptx.find(".target sm_75"), std::string::npos);
  const auto cubin = read_cubin(std::as_bytes(std::span(code->cubin)));
  ASSERT_TRUE(cubin) << cubin.error().message;
  EXPECT_EQ(cubin->sm, 90u);
}

TEST(Nvrtc, ErrorsCarryTheLogAndTheKernel) {
  REQUIRE_NVRTC(nvrtc, 75);
  const auto code = nvrtc.compile("#error no luck\n", "broken_0", target_of("t4"), false);
  ASSERT_FALSE(code);
  EXPECT_NE(code.error().message.find("broken_0"), std::string::npos) << code.error().message;
  EXPECT_NE(code.error().message.find("no luck"), std::string::npos) << code.error().message;
}

TEST(Nvrtc, AWrongLibraryIsNamed) {
  const auto nvrtc = Nvrtc::open("/nowhere/libnvrtc.so", 75);
  ASSERT_FALSE(nvrtc);
  EXPECT_EQ(nvrtc.error().code, Code::kUnsupported);
  EXPECT_NE(nvrtc.error().message.find("/nowhere/libnvrtc.so"), std::string::npos);
}

TEST(Targets, ListsAreParsed) {
  EXPECT_EQ(parse_targets("cpu,sm_90,t4", "")->name(), "sm_75,sm_90,cpu");
  EXPECT_EQ(parse_targets("native", "")->name(), "cpu");
  for (const auto& [targets, isa] :
       {std::pair{"t4,sm_75", ""}, {"cpu,native", ""}, {"t4", "sm_90"}, {"cpu", "sm_75"}}) {
    const auto list = parse_targets(targets, isa);
    ASSERT_FALSE(list) << targets;
    EXPECT_EQ(list.error().code, Code::kUsage) << targets;
  }
  for (const char* name : {"", "sm_10", "t4,", "gpu"}) {
    const auto list = parse_targets(name, "");
    ASSERT_FALSE(list) << name;
    EXPECT_EQ(list.error().code, Code::kUnsupported) << name;
  }
}

TEST(CubinCache, KeepsWhatWasStoredAndNothingElse) {
  const std::string folder = testing::TempDir() + "/cubin_cache_test";
  const CubinCache cache(folder);
  const Hash128 key{1, 2}, other{2, 1};
  cache.store(key, {"code", std::string("ptx\0", 4)});
  cache.store(other, {"code", ""});
  ASSERT_TRUE(cache.find(key, true));
  EXPECT_EQ(cache.find(key, true)->cubin, "code");
  EXPECT_EQ(cache.find(key, true)->ptx.size(), 4u);
  EXPECT_EQ(cache.find(key, false)->ptx, "");
  EXPECT_FALSE(cache.find(other, true)) << "it has no PTX";
  EXPECT_FALSE(cache.find({3, 3}, false));
  // A byte changed, a file cut, a file of another key.
  const std::string path = folder + "/" + key.hex();
  std::FILE* file = std::fopen(path.c_str(), "r+");
  ASSERT_NE(file, nullptr);
  std::fseek(file, -1, SEEK_END);
  std::fputc('x', file);
  std::fclose(file);
  EXPECT_FALSE(cache.find(key, false));
  EXPECT_EQ(std::rename((folder + "/" + other.hex()).c_str(), path.c_str()), 0);
  EXPECT_FALSE(cache.find(key, false));
  cache.trim(0);
  EXPECT_NE(std::fopen(path.c_str(), "r") != nullptr, true);
  EXPECT_TRUE(CubinCache("off").folder().empty());
}

}  // namespace
}  // namespace ll
