#include <charconv>
#include <cstddef>
#include <nlohmann/json.hpp>

#include "runtime/api/handles.h"
#include "runtime/api/status.h"
#include "runtime/device/cpu/cpu_device.h"
#include "runtime/device/cpu/machine.h"
#include "runtime/device/cuda/cuda_device.h"
#include "runtime/plan/describe.h"

namespace ll::api {
namespace {

constexpr size_t kOpenParamsFirst = offsetof(llrt_open_params, device), kInfoFirst = sizeof(llrt_model_info);
static_assert(kOpenParamsFirst == 32 && kInfoFirst == 112, "API version 1; keep these sizes when members are added");

constexpr llrt_open_params kOpenDefaults = {sizeof(llrt_open_params), 0, 0, nullptr, nullptr, nullptr, 0, 0};

Result<std::optional<Isa>> parse_isa(const char* name) {
  if (name == nullptr) return std::optional<Isa>();
  for (int level = 0; level < kIsaCount; ++level) {
    const Isa isa = static_cast<Isa>(level);
    if (std::string_view(name) == isa_name(isa)) return std::optional(isa);
  }
  return usage("isa is '{}', expected scalar or avx2", name);
}

struct DeviceChoice {
  std::optional<Backend> backend;  // absent: what is there
  int ordinal = 0;
};

Result<DeviceChoice> parse_device(const char* name) {
  if (name == nullptr) return DeviceChoice{};
  const std::string_view text(name);
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
  return usage("device is '{}', expected cpu, cuda or cuda:N", name);
}

Result<std::unique_ptr<Device>> open_device(ValidatedPlan& plan, const llrt_open_params& params,
                                            const std::string& folder, int threads, std::optional<Isa> isa) {
  TRY_ASSIGN(const DeviceChoice choice, parse_device(params.device));
  if (params.launch_mode < 0 || params.launch_mode > 2) {
    return usage("launch_mode is {}, expected 0, 1 or 2", params.launch_mode);
  }
  if (choice.backend && !plan->has(*choice.backend)) {
    return unsupported("the plan is for {}, it has no programs for device {}", plan->target, params.device);
  }
  if (choice.backend.value_or(Backend::kGpu) == Backend::kGpu && plan->has(Backend::kGpu)) {
    plan.select(Backend::kGpu);
    auto device =
        open_cuda_device(plan, {choice.ordinal, static_cast<LaunchMode>(params.launch_mode), folder, threads});
    const bool absent = !device && device.error().code == Code::kUnsupported;
    if (!absent || choice.backend || !plan->has(Backend::kCpu)) return device;
  }
  plan.select(Backend::kCpu);
  TRY_ASSIGN(Weights weights, Weights::load(plan, folder, threads));
  return open_cpu_device(*plan, std::move(weights), {threads, isa});
}

std::string facts(const Plan& plan, const DeviceInfo& device) {
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(describe_plan_json(plan));
  json["device"] = {
      {"name", device.name}, {"isa", device.isa}, {"threads", device.threads}, {"working_bytes", device.working_bytes}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

uint64_t weight_bytes(const Plan& plan) {
  uint64_t bytes = 0;
  for (const PlanTensor& tensor : plan.tensors) bytes += tensor.bytes;
  return bytes;
}

}  // namespace

Result<std::shared_ptr<Model>> Model::open(const std::string& path, const llrt_open_params& params) {
  TRY_ASSIGN(const auto isa, parse_isa(params.isa));
  if (params.threads < 0) return usage("threads is {}, expected 0 or more", params.threads);
  const int threads = params.threads == 0 ? default_threads(read_machine()) : params.threads;
  OpenOptions options;
  options.verify_weights = params.verify_weights != 0;
  TRY_ASSIGN(ValidatedPlan plan, open_plan(path, options));
  std::shared_ptr<Model> model(new Model(std::move(plan)));
  const std::string folder = params.model_dir == nullptr ? "" : params.model_dir;
  TRY_ASSIGN(auto device, open_device(model->plan_, params, folder, threads, isa));
  model->device_ = device->info();
  TRY_ASSIGN(model->engine_, Engine::create(model->plan(), std::move(device)));
  model->json_ = facts(model->plan(), model->device_);
  return model;
}

}  // namespace ll::api

// At global scope: a definition inside a namespace would not take the header's visibility.
using namespace ll;       // NOLINT(google-build-using-namespace)
using namespace ll::api;  // NOLINT(google-build-using-namespace)

extern "C" {

llrt_status llrt_open_params_init(llrt_open_params* params, size_t struct_size) {
  return guard([&] { return write_struct(params, kOpenDefaults, struct_size, kOpenParamsFirst, "params"); });
}

llrt_status llrt_model_open(const char* path, const llrt_open_params* params, llrt_model** model) {
  return guard([&]() -> Status {
    TRY(need(model, "model"));
    *model = nullptr;
    TRY(need(path, "path"));
    TRY_ASSIGN(const llrt_open_params read, read_params(params, kOpenDefaults, kOpenParamsFirst, "llrt_open_params"));
    auto handle = std::make_unique<llrt_model>();
    TRY_ASSIGN(handle->model, Model::open(path, read));
    *model = handle.release();
    return {};
  });
}

void llrt_model_close(llrt_model* model) { delete model; }

llrt_status llrt_model_get_info(const llrt_model* model, llrt_model_info* info) {
  return guard([&]() -> Status {
    TRY(need(model, "model"));
    TRY(need(info, "info"));
    const Model& m = *model->model;
    const Plan& plan = m.plan();
    const Program& largest = plan.programs.back();
    llrt_model_info value{};
    // FlatBuffers end their strings with a zero byte.
    value.architecture = plan.model.architecture.data();
    value.name = plan.model.name.empty() ? "" : plan.model.name.data();
    value.vocab_size = plan.model.vocab_size;
    value.context_length = plan.model.context_length;
    value.max_batch = largest.max_sequences;
    value.max_step_tokens = largest.max_tokens;
    value.bos_token = plan.model.bos_token;
    value.add_bos = plan.model.add_bos ? 1 : 0;
    value.eos_tokens = plan.model.eos_tokens.data();
    value.eos_token_count = plan.model.eos_tokens.size();
    value.has_tokenizer = plan.tokenizer.empty() ? 0 : 1;
    value.threads = m.device().threads;
    value.isa = m.device().isa.c_str();
    value.weight_bytes = weight_bytes(plan);
    value.kv_pool_bytes = plan.kv_pool_bytes;
    value.kv_token_bytes = plan.kv_bytes_per_token;
    value.working_bytes = m.device().working_bytes;
    return write_struct(info, value, info->struct_size, kInfoFirst, "llrt_model_info");
  });
}

const char* llrt_model_json(const llrt_model* model) {
  return model == nullptr ? nullptr : model->model->json().c_str();
}

uint64_t llrt_model_step_bytes(const llrt_model* model, uint32_t tokens, uint32_t sessions, uint32_t depth) {
  return model == nullptr ? 0 : model->model->engine().step_bytes(tokens, sessions, depth);
}

int32_t llrt_model_is_eos(const llrt_model* model, int32_t token) {
  if (model == nullptr) return 0;
  const auto& eos = model->model->plan().model.eos_tokens;
  return std::find(eos.begin(), eos.end(), token) != eos.end() ? 1 : 0;
}

}  // extern "C"
