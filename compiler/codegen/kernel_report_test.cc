// What a plan for GPUs tells of its kernels.
#include "compiler/codegen/kernel_report.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "compiler/driver.h"
#include "compiler/plan/explain.h"

namespace ll {
namespace {

class KernelReport : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::string(LLCUDA_BINARY_DIR) + "/kernel_report";
    std::filesystem::create_directories(folder_);
    options_.input = std::string(LLCUDA_SOURCE_DIR) + "/examples/kjv-7m-Q8_0.gguf";
    options_.output = folder_ + "/plan.llcp";
    options_.kernel_cache = folder_;
    options_.context_length = 64;
    options_.max_batch = 1;
    options_.embed_weights = false;
  }
  std::string folder_;
  CompileOptions options_;
};

TEST_F(KernelReport, ReadsTheCode) {
  options_.target = "t4";
  options_.tuning = folder_ + "/tuning";
  std::ofstream(options_.tuning) << "attention.blocks 7\n";
  const auto compiled = compile(options_);
  if (!compiled && compiled.error().code == Code::kUnsupported) GTEST_SKIP() << compiled.error().message;
  ASSERT_TRUE(compiled) << compiled.error().message;
  const auto plan = open_plan(options_.output);
  ASSERT_TRUE(plan) << plan.error().message;
  const auto facts = kernel_facts(**plan, 0);
  ASSERT_TRUE(facts) << facts.error().message;
  ASSERT_EQ(facts->size(), (*plan)->gpu_targets[0].kernels.size());
  size_t gemv = 0, mma = 0;
  for (const KernelFacts& k : *facts) {
    SCOPED_TRACE(k.function);
    EXPECT_GT(k.launches, 0u);
    EXPECT_GT(k.code.instructions, 0);
    EXPECT_GT(k.registers, 0u);
    EXPECT_EQ(k.local_bytes, 0u);
    EXPECT_GT(k.blocks_per_sm, 0u);
    EXPECT_LE(k.occupancy, 1.0);
    EXPECT_LE(k.shared_bytes, 64u << 10);
    if (k.instructions_per_byte > 0) {
      // Where K is a single round of the warps, the loop that is left goes over row tiles: in kernels that quantize
      // what they take or give, with that around each tile's few dp4a. The gates of real products are in sass_test.cc.
      const bool alone = k.kernel == "linear_q8" || k.kernel == "linear_add_q8" || k.kernel == "gated_linear_q8";
      EXPECT_LT(k.instructions_per_byte, alone ? 4.0 : 20.0);
      ++gemv;
    }
    if (k.code.hottest.mmas > 0) ++mma;
  }
  EXPECT_GT(gemv, 0u);
  EXPECT_GT(mma, 0u);

  const auto text = kernel_report(**plan, "", false);
  ASSERT_TRUE(text);
  EXPECT_EQ(text->find("sm_75 (isa 75): "), 0u);
  const auto json = kernel_report(**plan, "sm_75", true);
  ASSERT_TRUE(json);
  EXPECT_EQ(nlohmann::json::parse(*json).at(0).at("kernels").size(), facts->size());
  const auto missing = kernel_report(**plan, "sm_90", true);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().message, "the plan has no GPU target 'sm_90', it has sm_75");

  const auto explained = explain_text(**plan, 0);
  ASSERT_TRUE(explained);
  EXPECT_NE(explained->find("grid 7x1x1 of 128 threads"), std::string::npos) << *explained;
  EXPECT_NE(explained->find("kernels in a graph"), std::string::npos);
  const auto as_json = nlohmann::json::parse(*explain_json(**plan, 0));
  EXPECT_TRUE(as_json.at("programs").at(0).at("launches").at(0).at("nodes").contains("sm_75"));
}

TEST_F(KernelReport, APlanForTheCpuHasNone) {
  ASSERT_TRUE(compile(options_));
  const auto plan = open_plan(options_.output);
  ASSERT_TRUE(plan);
  const auto report = kernel_report(**plan, "", false);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, Code::kUsage);
}

}  // namespace
}  // namespace ll
