#include "kernels/cuda/linear_shapes.h"

#include <gtest/gtest.h>

#include <map>

#include "kernels/kernel.h"

namespace ll::cuda {
namespace {

TEST(LinearShapes, AreLaunchesThatTheCatalogAcceptsAndGpusRun) {
  std::map<std::string_view, double> bytes;
  for (const LinearShape& shape : linear_shapes()) {
    SCOPED_TRACE(std::string(shape.model) + " " + std::string(shape.name));
    for (const int64_t tokens : {1, 16, 2048}) {
      const LinearLaunch launch(shape, tokens);
      const Status checked = find_kernel(shape.kernel)->check(launch.view());
      ASSERT_TRUE(checked) << checked.error().message;
      std::vector<KernelLaunch> kernels;
      const Status lowered = find_family(shape.kernel)->lower(launch.view(), Target{}, {}, kernels);
      ASSERT_TRUE(lowered) << lowered.error().message;
      // Merged weights: one kernel, one a type, one a part.
      const size_t most = tokens == 1 ? 1 : tokens == 16 ? 2 : 3;
      ASSERT_GE(kernels.size(), 1u);
      ASSERT_LE(kernels.size(), shape.parts.size() == 3 ? most : 1);
      EXPECT_EQ(kernels[0].instance.function, tokens == 1 ? "linear_gemv" : "linear_mma");
      EXPECT_FALSE(kernels[0].note.empty());
    }
    bytes[shape.model] += 1e-9 * static_cast<double>(weight_bytes(shape) * shape.layers);
  }
  // What a token reads, GB: the files' bytes and up to 3 % more.
  const std::map<std::string_view, double> files = {
      {"llama-3.2-1b", 0.80}, {"llama-3.2-3b", 2.01}, {"llama-3.1-8b", 4.62}, {"qwen2.5-7b", 4.37}};
  for (const auto& [model, gb] : files) EXPECT_NEAR(bytes[model] / gb, 1.015, 0.02) << model;
}

}  // namespace
}  // namespace ll::cuda
