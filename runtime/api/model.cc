#include <cstddef>
#include <nlohmann/json.hpp>

#include "runtime/api/handles.h"
#include "runtime/api/status.h"
#include "runtime/device/open_device.h"
#include "runtime/plan/describe.h"

namespace ll::api {
namespace {

constexpr size_t kOpenParamsFirst = offsetof(llrt_open_params, device), kInfoFirst = sizeof(llrt_model_info);
static_assert(kOpenParamsFirst == 32 && kInfoFirst == 112, "API version 1; keep these sizes when members are added");

constexpr llrt_open_params kOpenDefaults = {
    sizeof(llrt_open_params), 0, 0, nullptr, nullptr, nullptr, 0, 0, nullptr, nullptr};

std::string facts(const Plan& plan, const DeviceInfo& device) {
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(describe_plan_json(plan));
  json["device"] = {
      {"name", device.name}, {"isa", device.isa}, {"threads", device.threads}, {"working_bytes", device.working_bytes}};
  nlohmann::ordered_json shares = nlohmann::ordered_json::array();
  for (const NodeShare& s : device.shares)
    shares.push_back({{"node", s.node}, {"threads", s.threads}, {"cpus", s.cpus}});
  if (!shares.empty())
    json["device"]["numa"] = {
        {"shares", shares}, {"threads", device.thread_placement}, {"memory", device.memory_placement}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

uint64_t weight_bytes(const Plan& plan) {
  uint64_t bytes = 0;
  for (const PlanTensor& tensor : plan.tensors) bytes += tensor.bytes;
  return bytes;
}

}  // namespace

Result<std::shared_ptr<Model>> Model::open(const std::string& path, const llrt_open_params& params) {
  OpenOptions options;
  options.verify_weights = params.verify_weights != 0;
  TRY_ASSIGN(ValidatedPlan plan, open_plan(path, options));
  std::shared_ptr<Model> model(new Model(std::move(plan)));
  const auto text = [](const char* value) { return std::string(value == nullptr ? "" : value); };
  const DeviceOptions device_options{text(params.device), text(params.isa),        text(params.model_dir),
                                     params.threads,      text(params.numa),       params.deterministic != 0,
                                     params.launch_mode,  text(params.dump_folder)};
  TRY_ASSIGN(auto device, open_device(model->plan_, device_options));
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
