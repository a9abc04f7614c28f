#include "runtime/device/open_device.h"

#include <sched.h>

#include <charconv>
#include <optional>

#include "runtime/device/cpu/cpu_device.h"
#include "runtime/device/cpu/machine.h"
#include "runtime/device/cpu/node_memory.h"
#include "runtime/device/cpu/placement.h"
#include "runtime/device/cuda/cuda_device.h"

namespace ll {
namespace {

Result<std::optional<Isa>> parse_isa(std::string_view name) {
  if (name.empty()) return std::optional<Isa>();
  std::string names;
  for (int level = 0; level < kIsaCount; ++level) {
    const Isa isa = static_cast<Isa>(level);
    if (name == isa_name(isa)) return std::optional(isa);
    names += fmt::format("{}{}", level == 0 ? "" : level + 1 == kIsaCount ? " or " : ", ", isa_name(isa));
  }
  return usage("isa is '{}', expected {}", name, names);
}

struct DeviceChoice {
  std::optional<Backend> backend;  // absent: what is there
  int ordinal = 0;
};

Result<DeviceChoice> parse_device(std::string_view text) {
  if (text.empty()) return DeviceChoice{};
  if (text == "cpu") return DeviceChoice{Backend::kCpu};
  if (text == "cuda") return DeviceChoice{Backend::kGpu};
  constexpr std::string_view kNumbered = "cuda:";
  int ordinal = -1;
  if (text.starts_with(kNumbered)) {
    const auto [end, failed] = std::from_chars(text.data() + kNumbered.size(), text.data() + text.size(), ordinal);
    if (failed == std::errc() && end == text.data() + text.size() && ordinal >= 0) {
      return DeviceChoice{Backend::kGpu, ordinal};
    }
  }
  return usage("device is '{}', expected cpu, cuda or cuda:N", text);
}

}  // namespace

Result<std::unique_ptr<Device>> open_device(ValidatedPlan& plan, const DeviceOptions& options) {
  TRY_ASSIGN(const auto isa, parse_isa(options.isa));
  TRY_ASSIGN(const DeviceChoice choice, parse_device(options.name));
  if (options.threads < 0) return usage("threads is {}, expected 0 or more", options.threads);
  TRY_ASSIGN(const NumaChoice numa, parse_numa(options.numa));
  const Machine machine = read_machine();
  if (options.launch_mode < 0 || options.launch_mode > 3) {
    return usage("launch_mode is {}, expected 0 to 3", options.launch_mode);
  }
  const bool dumps = !options.dump_folder.empty();
  if (dumps && options.launch_mode > 1)
    return usage("tensors are dumped with launch_mode 0 or 1, not {}", options.launch_mode);
  if (choice.backend && !plan->has(*choice.backend)) {
    return unsupported("the plan is for {}, it has no programs for device {}", plan->target, options.name);
  }
  if (choice.backend.value_or(Backend::kGpu) == Backend::kGpu && plan->has(Backend::kGpu)) {
    plan.select(Backend::kGpu);
    const int threads = options.threads == 0 ? default_threads(machine) : options.threads;
    const LaunchMode mode = dumps ? LaunchMode::kDumped : static_cast<LaunchMode>(options.launch_mode);
    auto device = open_cuda_device(plan, {choice.ordinal, mode, options.model_dir, threads, options.dump_folder});
    const bool absent = !device && device.error().code == Code::kUnsupported;
    if (!absent || choice.backend || dumps || !plan->has(Backend::kCpu)) return device;
  }
  if (dumps) return unsupported("only GPUs dump tensors");
  plan.select(Backend::kCpu);
  TRY_ASSIGN(Placement placement, place(machine, options.threads, numa, sched_getcpu()));
  const int threads = placement.threads;
  Weights weights;
  {
    const LoadingOnNodes loading(placement.shares);
    TRY_ASSIGN(weights, Weights::load(plan, options.model_dir, threads));
  }
  return open_cpu_device(*plan, std::move(weights),
                         {threads, isa, options.launch_mode == 3, options.deterministic, std::move(placement.shares)});
}

}  // namespace ll
