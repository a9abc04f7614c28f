// What a GPU's shortlists choose is what its logits choose: the bundled model, which LLCUDA_CHECK_MODEL names, with the
// device's own instructions and with those of sm_75.
#include <cstdlib>
#include <filesystem>

#include "compiler/driver.h"
#include "runtime/device/open_device.h"
#include "tests/gpu_check/device.h"
#include "tests/sampled_steps.h"

namespace ll {
namespace {

class DeviceSampling : public testing::TestWithParam<int> {};

TEST_P(DeviceSampling, ChoosesWhatTheLogitsChoose) {
  const char* model = std::getenv("LLCUDA_CHECK_MODEL");
  if (model == nullptr) GTEST_SKIP() << "LLCUDA_CHECK_MODEL names no model";
  const auto gpu = gpu_check::Gpu::get(GetParam());
  if (!gpu) GTEST_SKIP() << gpu.error().message;
  CompileOptions options;
  options.input = model;
  options.output = testing::TempDir() + "/sampling_device.llcp";
  const cuda::Target& target = (*gpu)->target();
  options.target = target.name;
  if (target.isa != target.sm) options.isa = "sm_" + std::to_string(target.isa);
  options.context_length = 64;
  const auto compiled = compile(options);
  ASSERT_TRUE(compiled) << compiled.error().message;
  auto plan = open_plan(options.output);
  std::filesystem::remove(options.output);
  ASSERT_TRUE(plan) << plan.error().message;
  const auto device = open_device(*plan, {.name = "cuda"});
  ASSERT_TRUE(device) << device.error().message;
  sampled_steps::expect_the_logits_choices(**device, **plan);
}

INSTANTIATE_TEST_SUITE_P(Instructions, DeviceSampling, testing::Values(75, 0),
                         [](const auto& p) { return p.param == 75 ? "sm_75" : "native"; });

}  // namespace
}  // namespace ll
