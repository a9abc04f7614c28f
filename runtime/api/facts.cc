#include <sched.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/api/handles.h"
#include "runtime/api/status.h"
#include "runtime/device/cpu/cpu_device.h"
#include "runtime/device/cpu/machine.h"
#include "runtime/device/cpu/node_memory.h"
#include "runtime/device/cpu/placement.h"
#include "runtime/device/cuda/cuda_device.h"
#include "runtime/plan/describe.h"

namespace ll::api {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json describe(const NumaNode& node, const Machine& machine) {
  std::string cpus;
  for (size_t i = 0; i < node.cpus.size(); ++i) {
    const size_t first = i;
    while (i + 1 < node.cpus.size() && node.cpus[i + 1] == node.cpus[i] + 1) ++i;
    cpus += fmt::format("{}{}", cpus.empty() ? "" : ",", node.cpus[first]);
    if (i > first) cpus += fmt::format("-{}", node.cpus[i]);
  }
  return {{"node", node.id},
          {"cpus", cpus},
          {"cores", node.cores},
          {"threads", node.cpus.empty() ? 0 : default_threads(machine, node)},
          {"memory_bytes", node.memory_bytes}};
}

// Where as many threads as by default go, and what becomes of memory policies.
std::string describe_placement(const Machine& machine) {
  if (machine.nodes.empty()) return "one node";
  const auto placement = place(machine, 0, {}, sched_getcpu());
  if (!placement || placement->shares.empty()) return "CPUs of one node";
  const MemoryPolicy policy = memory_policy_of_this_thread();
  std::string text = describe(placement->shares);
  if (policy.error != 0) text += fmt::format("; the system refuses memory policies ({})", strerror(policy.error));
  if (policy.own) text += "; memory by the policy that the process was started with";
  return text;
}

Json describe(const Machine& machine) {
  Json levels = Json::object();
  for (int level = 0; level < kIsaCount; ++level) {
    levels[isa_name(static_cast<Isa>(level))] = has_isa(static_cast<Isa>(level));
  }
  const auto limit = [](auto value) { return value > 0 ? Json(value) : Json(nullptr); };
  Json json = {{"cpu", machine.cpu},
               {"cpus", machine.cpus},
               {"allowed_cpus", machine.allowed_cpus},
               {"allowed_cores", machine.allowed_cores},
               {"cgroup_cpus", limit(machine.cgroup_cpus)},
               {"threads", default_threads(machine)},
               {"isa", levels},
               {"best_isa", isa_name(best_isa())},
               {"last_level_cache_bytes", machine.l3_bytes},
               {"memory_bytes", machine.memory_bytes},
               {"available_bytes", machine.available_bytes},
               {"cgroup_memory_bytes", limit(machine.cgroup_memory_bytes)},
               {"transparent_huge_pages", machine.transparent_huge_pages},
               {"numa_placement", describe_placement(machine)}};
  for (const NumaNode& node : machine.nodes) json["numa_nodes"].push_back(describe(node, machine));
  return json;
}

Json needs(const Plan& plan, const Machine& machine) {
  uint64_t mapped = 0, repacked = 0;
  for (const PlanTensor& tensor : plan.tensors) (tensor.source < 0 ? mapped : repacked) += tensor.bytes;
  const uint64_t working = working_bytes(plan, default_threads(machine));
  uint64_t available = machine.available_bytes;
  if (machine.cgroup_memory_bytes > 0) available = std::min(available, machine.cgroup_memory_bytes);
  const uint64_t total = mapped + repacked + plan.kv_pool_bytes + working;
  Json sources = Json::array();
  for (const PlanSource& source : plan.sources) sources.push_back(source.name);
  return {{"architecture", plan.model.architecture},
          {"name", plan.model.name},
          {"target", plan.target},
          {"reference_kernels", plan.reference_kernels},
          {"isa", isa_name(plan.reference_kernels ? Isa::kScalar : best_isa())},
          {"context_length", plan.model.context_length},
          {"max_batch", plan.max_batch},
          {"mapped_weight_bytes", mapped},
          {"repacked_weight_bytes", repacked},
          {"source_files", sources},
          {"kv_pool_bytes", plan.kv_pool_bytes},
          {"kv_bytes_per_token", plan.kv_bytes_per_token},
          {"working_bytes", working},
          {"total_bytes", total},
          {"fits_in_available_memory", available == 0 || total <= available}};
}

// Where the plan's weights lie now, on machines where that matters.
void add_cached_weights(const Plan& plan, const Machine& machine, Json& json) {
  const std::byte *begin = nullptr, *end = nullptr;
  for (const PlanTensor& t : plan.tensors) {
    if (t.data == nullptr) continue;
    begin = begin == nullptr ? t.data : std::min(begin, t.data);
    end = std::max(end, t.data + t.bytes);
  }
  if (machine.nodes.empty() || begin == nullptr) return;
  const CachedPages cached = cached_pages({begin, end}, plan.file);
  if (cached.error != 0) json["cached_weights"] = fmt::format("unknown: {}", strerror(cached.error));
  if (cached.error == 0 && cached.parts.empty()) json["cached_weights"] = nullptr;
  for (const auto& [node, part] : cached.parts) {
    const double bytes = part * static_cast<double>(end - begin);
    json["cached_weights"].push_back({{"node", node}, {"about_bytes", static_cast<uint64_t>(bytes)}});
  }
}

struct Gpus {
  std::shared_ptr<cuda::Driver> driver;  // null: none, for `reason`
  std::string reason;
  std::vector<cuda::DeviceFacts> devices;
};

Gpus find_gpus() {
  Gpus gpus;
  auto driver = cuda::Driver::open();
  if (!driver) {
    gpus.reason = driver.error().message;
    return gpus;
  }
  gpus.driver = *std::move(driver);
  for (int i = 0; i < gpus.driver->devices(); ++i) {
    auto facts = cuda::device_facts(*gpus.driver, i);
    if (!facts) {
      gpus.reason = facts.error().message;
      break;
    }
    gpus.devices.push_back(*std::move(facts));
  }
  return gpus;
}

std::string version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

Json describe(const Gpus& gpus) {
  if (gpus.driver == nullptr) return {{"driver", nullptr}, {"reason", gpus.reason}};
  Json devices = Json::array();
  for (const cuda::DeviceFacts& d : gpus.devices) {
    devices.push_back({{"name", d.name},
                       {"architecture", fmt::format("sm_{}", d.sm)},
                       {"multiprocessors", d.multiprocessors},
                       {"memory_bytes", d.memory_bytes}});
  }
  Json json = {{"driver", version_text(gpus.driver->version())}, {"devices", devices}};
  if (!gpus.reason.empty()) json["reason"] = gpus.reason;
  return json;
}

// For each of the plan's GPU targets what it needs; for each device which of them it runs, or why none.
Json gpu_needs(const Plan& plan, const Gpus& gpus) {
  Json targets = Json::array(), devices = Json::array();
  for (const GpuTarget& t : plan.gpu_targets) {
    const GpuMemory memory(plan, t);
    targets.push_back({{"name", t.name},
                       {"isa", fmt::format("sm_{}", t.isa)},
                       {"least_driver", version_text(static_cast<int>(t.driver))},
                       {"kernels", t.kernels.size()},
                       {"weight_bytes", memory.weight_bytes},
                       {"kv_pool_bytes", memory.kv_bytes},
                       {"working_bytes", memory.working_bytes()},
                       {"reserve_bytes", kGpuReserve},
                       {"total_bytes", memory.needed_bytes()}});
  }
  for (const cuda::DeviceFacts& d : gpus.devices) {
    const auto target = choose_target(plan, d, gpus.driver->version());
    if (!target) {
      devices.push_back({{"name", d.name}, {"runs", nullptr}, {"reason", target.error().message}});
      continue;
    }
    const uint64_t total = GpuMemory(plan, **target).needed_bytes();
    devices.push_back(
        {{"name", d.name}, {"runs", (*target)->name}, {"fits_in_device_memory", total <= d.memory_bytes}});
  }
  return {{"targets", targets}, {"devices", devices}};
}

}  // namespace

}  // namespace ll::api

// At global scope: a definition inside a namespace would not take the header's visibility.
using namespace ll;       // NOLINT(google-build-using-namespace)
using namespace ll::api;  // NOLINT(google-build-using-namespace)

extern "C" {

llrt_status llrt_verify(const char* path, const char* model_dir, char** json) {
  return guard([&]() -> Status {
    if (json != nullptr) *json = nullptr;
    TRY(need(path, "path"));
    OpenOptions options;
    options.verify_weights = true;
    TRY_ASSIGN(const ValidatedPlan plan, open_plan(path, options));
    if (!plan->tokenizer.empty()) TRY(read_tokenizer(*plan));
    if (!plan->sources.empty()) {
      TRY(Weights::load(plan, model_dir == nullptr ? "" : model_dir, default_threads(read_machine())));
    }
    if (json != nullptr) *json = copy_text(describe_plan_json(*plan));
    return {};
  });
}

llrt_status llrt_doctor(const char* plan_path, char** json) {
  return guard([&]() -> Status {
    TRY(need(json, "json"));
    *json = nullptr;
    const Machine machine = read_machine();
    const Gpus gpus = find_gpus();
    Json facts = {{"version", llrt_version()},
                  {"api_version", LLRT_API_VERSION},
                  {"machine", describe(machine)},
                  {"gpu", describe(gpus)}};
    if (plan_path != nullptr) {
      TRY_ASSIGN(ValidatedPlan plan, open_plan(plan_path));
      facts["plan"] = needs(*plan, machine);
      add_cached_weights(*plan, machine, facts["plan"]);
      if (plan->has(Backend::kGpu)) {
        plan.select(Backend::kGpu);
        facts["plan"]["gpu"] = gpu_needs(*plan, gpus);
      }
    }
    *json = copy_text(dump(facts));
    return {};
  });
}

}  // extern "C"
