// What the C ABI's handles hold.
#pragma once

#include <llrt.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/plan/plan.h"
#include "runtime/sampling/sampler.h"
#include "runtime/text/detokenizer.h"
#include "runtime/text/jinja/template.h"
#include "runtime/text/tokenizer.h"

namespace ll::api {

// An open plan, shared by its handle, its sessions and its detokenizers.
class Model {
 public:
  static Result<std::shared_ptr<Model>> open(const std::string& path, const llrt_open_params& params);

  const Plan& plan() const { return *plan_; }
  Engine& engine() { return *engine_; }
  // Held during everything that touches the engine or a session.
  std::mutex& mutex() { return mutex_; }
  const std::string& json() const { return json_; }
  const DeviceInfo& device() const { return device_; }

  // Made on first use: most of the time that opening a large vocabulary takes. kUnsupported without one.
  Result<const Tokenizer*> tokenizer();
  // The same of the chat template.
  Result<const jinja::Template*> chat_template();

 private:
  explicit Model(ValidatedPlan plan) : plan_(std::move(plan)) {}

  ValidatedPlan plan_;
  std::unique_ptr<Engine> engine_;
  DeviceInfo device_;
  std::string json_;
  std::mutex mutex_;
  std::mutex text_mutex_;  // for the two below
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<jinja::Template> chat_template_;
};

// The tokenizer section of a plan. kUnsupported without one.
Result<Tokenizer> read_tokenizer(const Plan& plan);

// `text` as a string of its own for llrt_text_free.
char* copy_text(const std::string& text);

}  // namespace ll::api

struct llrt_model {
  std::shared_ptr<ll::api::Model> model;
};

struct llrt_session {
  std::shared_ptr<ll::api::Model> model;
  std::unique_ptr<ll::Sequence> sequence;
  bool has_logits = false;
  std::vector<float> logits, next_logits;  // the latter becomes the former when a call succeeds
  mutable ll::Sampler sampler;
};

struct llrt_detokenizer {
  std::shared_ptr<ll::api::Model> model;
  const ll::Tokenizer* tokenizer = nullptr;
  ll::DecodeOptions options;
  std::mutex mutex;
  std::unique_ptr<ll::Detokenizer> detokenizer;
  std::string text;
};
