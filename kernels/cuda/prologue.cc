#include "kernels/cuda/prologue.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <limits>

namespace ll::cuda {
namespace {

std::string constants(const Instance& instance) {
  std::string text;
  for (const auto& [name, value] : instance.constants) {
    const bool fits = value >= std::numeric_limits<int32_t>::min() + 1 && value <= std::numeric_limits<int32_t>::max();
    text += fmt::format("  static constexpr {} {} = {};\n", fits ? "int" : "long long", name, value);
  }
  return text;
}

}  // namespace

std::string kernel_name(const Instance& instance) {
  const std::string key = fmt::format("{}\n{}\n{} {}\n{}", instance.source, instance.function, instance.threads,
                                      instance.blocks_per_sm, constants(instance));
  return fmt::format("{}_{:016x}", instance.function, XXH3_64bits(key.data(), key.size()));
}

std::string prologue(const Instance& instance) {
  const std::string name = kernel_name(instance);
  return fmt::format(
      "#include \"{}\"\n"
      "namespace {{\n"
      "struct Instance {{\n"
      "{}"
      "  static constexpr int kThreads = {};\n"
      "}};\n"
      "}}  // namespace\n"
      "extern \"C\" __global__ void __launch_bounds__({}, {}) {}(const ll::cuda::Args args) {{\n"
      "  ll::cuda::{}<Instance>(args);\n"
      "}}\n",
      instance.source, constants(instance), instance.threads, instance.threads, instance.blocks_per_sm, name,
      instance.function);
}

std::vector<std::string> device_options() { return {"--std=c++20", "--fmad=false"}; }

}  // namespace ll::cuda
