// Tokens that a GPU's shortlists choose are those that its logits choose: a step of the bundled model whose rows ask
// for different things, on the driver of tests/cuda_driver/. The plan is compiled by this build's llcc.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "runtime/device/open_device.h"
#include "tests/sampled_steps.h"

namespace ll::sampled_steps {
namespace {

namespace fs = std::filesystem;

std::unique_ptr<ValidatedPlan> compile() {
  const fs::path llcc = fs::path(LLCUDA_BINARY_DIR) / "llcc";
  if (!fs::exists(llcc)) return nullptr;
  const std::string path = testing::TempDir() + "/sampled_step_" + std::to_string(getpid()) + ".llcp";
  const std::string command = llcc.string() + " compile -q " LLCUDA_SOURCE_DIR "/examples/kjv-7m-Q8_0.gguf -o " + path +
                              " --target emulated --ctx-size 64 --max-batch 2";
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  auto plan = open_plan(path);
  EXPECT_TRUE(plan) << plan.error().message;
  unlink(path.c_str());
  return plan ? std::make_unique<ValidatedPlan>(std::move(*plan)) : nullptr;
}

class SampledStep : public testing::Test {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "the thread sanitizer does not follow the emulator's fibers";
#endif
    const std::string library = LLCUDA_BINARY_DIR "/libllcuda_fake_driver.so";
    ASSERT_EQ(setenv("LLRT_CUDA_DRIVER", library.c_str(), 1), 0);
    plan_ = compile();
    if (plan_ == nullptr) GTEST_SKIP() << "this build has no llcc";
    auto device = open_device(*plan_, {.name = "cuda", .threads = 2});
    if (!device) GTEST_SKIP() << device.error().message;
    device_ = *std::move(device);
    void* driver = dlopen(library.c_str(), RTLD_NOW | RTLD_NOLOAD);
    ASSERT_NE(driver, nullptr);
    bytes_to_host_ = reinterpret_cast<uint64_t (*)()>(dlsym(driver, "llcuda_fake_bytes_to_host"));
    dlclose(driver);
    ASSERT_NE(bytes_to_host_, nullptr);
  }

  std::unique_ptr<ValidatedPlan> plan_;
  std::unique_ptr<Device> device_;
  uint64_t (*bytes_to_host_)() = nullptr;
};

TEST_F(SampledStep, ChoosesWhatTheLogitsChoose) { expect_the_logits_choices(*device_, **plan_, bytes_to_host_); }

TEST_F(SampledStep, CopiesOnlyTheRowsThatNeedTheirLogits) {
  const auto copied = [&](const std::vector<size_t>& asked) {
    std::vector<int32_t> places(asked.size());
    std::iota(places.begin(), places.end(), 0);
    Rows rows(asked);
    const uint64_t before = bytes_to_host_();
    EXPECT_EQ(sample(*device_, **plan_, places, rows.rows).size(), asked.size());
    return (bytes_to_host_() - before) / ((*plan_)->model.vocab_size * sizeof(float));  // whole rows
  };
  constexpr size_t kGreedy = 0, kWhole = 4, kLate = 7;
  EXPECT_EQ(copied({kLate, kWhole, kGreedy, kGreedy, kGreedy, kLate}), 3U);
  EXPECT_EQ(copied({kWhole, kGreedy, kWhole, kWhole}), 4U) << "most rows: one copy of all";
}

TEST_F(SampledStep, RowsMustBeThoseOfTheStep) {
  Rows rows({0, 0});
  const auto sampled = device_->run_sampled(program_of(**plan_), step_of(**plan_, {1}), rows.rows);
  ASSERT_FALSE(sampled);
  EXPECT_NE(sampled.error().message.find("2 rows to sample, the step has 1"), std::string::npos);
  EXPECT_TRUE(sample(*device_, **plan_, {}, {}).empty());
}

}  // namespace
}  // namespace ll::sampled_steps
