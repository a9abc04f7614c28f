// Keys and defaults: transformers, src/transformers/models/{llama,mistral,qwen2}/configuration_*.py; rope parameters:
// modeling_rope_utils.py (RotaryEmbeddingConfigMixin.standardize_rope_params for the two spellings).
#include "compiler/frontend/hf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/base/escape.h"

namespace ll {
namespace {

constexpr double kDefaultRopeBase = 10000.0;

// transformers' ACT2FN, as far as it is one of the activations we have.
constexpr std::pair<std::string_view, std::string_view> kActivations[] = {
    {"silu", "silu"},
    {"swish", "silu"},
    {"gelu", "gelu"},
    {"gelu_python", "gelu"},
    {"gelu_new", "gelu_tanh"},
    {"gelu_fast", "gelu_tanh"},
    {"gelu_pytorch_tanh", "gelu_tanh"},
    {"relu", "relu"},
};

Result<const Family*> find_hf_family(const JsonFields& config) {
  TRY_ASSIGN(const std::string type, config.get_text("model_type"));
  TRY_ASSIGN(const std::vector<std::string> architectures, config.get_texts("architectures"));
  for (const Family* family : families()) {
    if (family->hf_model_type != type) continue;
    if (architectures.empty() || architectures[0] == family->hf_architecture) return family;
    return unsupported("architecture {} is not supported, expected {}", quote(architectures[0]),
                       family->hf_architecture);
  }
  return unsupported("architecture {} is not supported; supported are {}",
                     quote(architectures.empty() ? type : architectures[0]), supported_architectures());
}

// The object that holds the rope parameters, in either spelling; nullopt when there is none. Parameters for each type
// of layer
// ("full_attention", "sliding_attention") are taken when they are all the same.
Result<std::optional<JsonFields>> rope_object(const JsonFields& config) {
  const std::string_view key = config.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  TRY_ASSIGN(const std::optional<JsonFields> rope, config.get_object(key));
  if (!rope) return rope;
  std::optional<JsonFields> nested;
  const nlohmann::json* first = nullptr;
  for (const std::string_view layer_type : {"full_attention", "sliding_attention"}) {
    TRY_ASSIGN(std::optional<JsonFields> found, rope->get_object(layer_type));
    if (!found) continue;
    if (first != nullptr && *rope->find(layer_type) != *first) {
      return unsupported("{} differs between types of layers", config.name(key));
    }
    first = rope->find(layer_type);
    nested = std::move(found);
  }
  return nested ? nested : rope;
}

// transformers' get_mscale.
double yarn_mscale(double factor, double mscale) { return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

Status read_yarn(const JsonFields& fields, RopeSpec& rope) {
  // Zero means the default here, as in transformers (`or`).
  TRY_ASSIGN(const double beta_fast, fields.get_number("beta_fast", 0, kMaxRopeFactor, 0));
  TRY_ASSIGN(const double beta_slow, fields.get_number("beta_slow", 0, kMaxRopeFactor, 0));
  rope.beta_fast = beta_fast == 0 ? 32 : beta_fast;
  rope.beta_slow = beta_slow == 0 ? 1 : beta_slow;
  TRY_ASSIGN(rope.truncate, fields.get_bool("truncate", true));
  if (fields.has("llama_4_scaling_beta"))
    return unsupported("{} is not supported", fields.name("llama_4_scaling_beta"));
  if (fields.has("attention_factor")) {
    TRY_ASSIGN(rope.attention_factor, fields.get_number("attention_factor", 0, kMaxAttentionFactor));
    return {};
  }
  TRY_ASSIGN(const double mscale, fields.get_number("mscale", 0, kMaxAttentionFactor, 0));
  TRY_ASSIGN(const double mscale_all, fields.get_number("mscale_all_dim", 0, kMaxAttentionFactor, 0));
  rope.attention_factor = mscale != 0 && mscale_all != 0
                              ? yarn_mscale(rope.factor, mscale) / yarn_mscale(rope.factor, mscale_all)
                              : yarn_mscale(rope.factor, 1);
  return {};
}

Result<RopeSpec> read_rope(const JsonFields& config, const HyperParameters& hyper) {
  RopeSpec rope;
  rope.style = RopeSpec::Style::kHalf;
  rope.dimensions = hyper.head_dim;
  TRY_ASSIGN(rope.base, config.get_number("rope_theta", kMinRopeBase, kMaxRopeBase, kDefaultRopeBase));
  TRY_ASSIGN(double partial, config.get_number("partial_rotary_factor", 0, 1, 1));
  TRY_ASSIGN(const std::optional<JsonFields> found, rope_object(config));
  std::string type = "default";
  if (found) {
    TRY_ASSIGN(rope.base, found->get_number("rope_theta", kMinRopeBase, kMaxRopeBase, rope.base));
    TRY_ASSIGN(partial, found->get_number("partial_rotary_factor", 0, 1, partial));
    TRY_ASSIGN(type, found->get_text("type", type));  // the spelling of 2023
    TRY_ASSIGN(type, found->get_text("rope_type", type));
  }
  if (partial != 1) return unsupported("'partial_rotary_factor' is {}, supported is 1", partial);
  if (type == "default") return rope;
  const JsonFields& fields = *found;
  const auto factor = [&] { return fields.get_number("factor", kMinRopeFactor, kMaxRopeFactor); };
  if (type == "linear") {
    rope.scaling = RopeSpec::Scaling::kLinear;
    TRY_ASSIGN(rope.factor, factor());
    return rope;
  }
  if (type != "llama3" && type != "yarn") {
    return unsupported("{} is {}, supported are default, linear, llama3 and yarn", fields.name("rope_type"),
                       quote(type));
  }
  TRY_ASSIGN(rope.original_context,
             config.get_u32("original_max_position_embeddings", 1, kMaxContext, hyper.context_length));
  if (!config.has("original_max_position_embeddings")) {
    TRY_ASSIGN(rope.original_context,
               fields.get_u32("original_max_position_embeddings", 1, kMaxContext, hyper.context_length));
  }
  if (type == "llama3") {
    rope.scaling = RopeSpec::Scaling::kLlama3;
    TRY_ASSIGN(rope.factor, factor());
    TRY_ASSIGN(rope.low_freq_factor, fields.get_number("low_freq_factor", kMinRopeFactor, kMaxRopeFactor));
    TRY_ASSIGN(rope.high_freq_factor, fields.get_number("high_freq_factor", kMinRopeFactor, kMaxRopeFactor));
    return rope;
  }
  rope.scaling = RopeSpec::Scaling::kYarn;
  rope.factor = double{static_cast<double>(hyper.context_length)} / rope.original_context;
  if (fields.has("factor")) {
    TRY_ASSIGN(rope.factor, factor());
  }
  TRY(read_yarn(fields, rope));
  return rope;
}

// The window of each layer.
Result<std::vector<uint32_t>> read_windows(const JsonFields& config, const Family& family, uint32_t layers) {
  // An explicit null switches the window off; an absent key means the default.
  const bool stated = config.has_key("sliding_window");
  TRY_ASSIGN(uint32_t window, config.get_u32("sliding_window", 0, kMaxContext, stated ? 0 : family.hf_sliding_window));
  uint32_t first = 0;
  if (family.hf_windows_by_layer) {
    TRY_ASSIGN(const bool on, config.get_bool("use_sliding_window", false));
    if (!on) window = 0;
    TRY_ASSIGN(first, config.get_u32("max_window_layers", 0, UINT32_MAX, 28));
  }
  TRY_ASSIGN(const std::vector<std::string> types, config.get_texts("layer_types"));
  std::vector<uint32_t> windows(layers);
  if (types.empty()) {
    for (uint32_t i = first; i < layers; ++i) windows[i] = window;
    return windows;
  }
  if (types.size() != layers) {
    return bad_data("{} names {} layers, 'num_hidden_layers' is {}", config.name("layer_types"), types.size(), layers);
  }
  for (uint32_t i = 0; i < layers; ++i) {
    if (types[i] != "sliding_attention" && types[i] != "full_attention") {
      return unsupported("{} holds {}, supported are full_attention and sliding_attention", config.name("layer_types"),
                         quote(types[i]));
    }
    windows[i] = types[i] == "sliding_attention" ? window : 0;
  }
  return windows;
}

Result<HyperParameters> read_hyper(const JsonFields& config, const Family& family) {
  HyperParameters h;
  TRY_ASSIGN(h.vocab_size, config.get_u32("vocab_size", 1, kMaxVocab));
  TRY_ASSIGN(h.context_length, config.get_u32("max_position_embeddings", 1, kMaxContext));
  TRY_ASSIGN(h.embedding_length, config.get_u32("hidden_size", 1, kMaxEmbedding));
  TRY_ASSIGN(h.block_count, config.get_u32("num_hidden_layers", 1, kMaxLayers));
  TRY_ASSIGN(h.feed_forward_length, config.get_u32("intermediate_size", 1, kMaxFeedForward));
  TRY_ASSIGN(h.head_count, config.get_u32("num_attention_heads", 1, kMaxHeads));
  const uint32_t kv_heads =
      family.hf_kv_heads == 0 || config.has_key("num_key_value_heads") ? h.head_count : family.hf_kv_heads;
  TRY_ASSIGN(h.head_count_kv, config.get_u32("num_key_value_heads", 1, kMaxHeads, kv_heads));
  if (!config.has("head_dim") && h.embedding_length % h.head_count != 0) {
    return bad_data("'hidden_size' is {}, expected a multiple of the {} heads", h.embedding_length, h.head_count);
  }
  TRY_ASSIGN(h.head_dim, config.get_u32("head_dim", 1, kMaxHeadDim, h.embedding_length / h.head_count));
  if (h.head_dim > kMaxHeadDim) return bad_data("heads of {} elements, expected 1 to {}", h.head_dim, kMaxHeadDim);
  TRY_ASSIGN(h.rms_norm_eps, config.get_number("rms_norm_eps", 0, 1, 1e-6));

  TRY_ASSIGN(const std::string act, config.get_text("hidden_act", "silu"));
  const auto row =
      std::find_if(std::begin(kActivations), std::end(kActivations), [&](const auto& r) { return r.first == act; });
  if (row == std::end(kActivations)) {
    return unsupported("'hidden_act' is {}, supported are silu, gelu, gelu_pytorch_tanh and relu", quote(act));
  }
  h.activation = row->second;
  TRY_ASSIGN(h.windows, read_windows(config, family, h.block_count));
  TRY_ASSIGN(h.rope, read_rope(config, h));
  return h;
}

}  // namespace

Status read_hf_config(const nlohmann::json& config_json, const nlohmann::json* generation_json, Draft& draft) {
  TRY_ASSIGN(const JsonFields config, JsonFields::of(config_json));
  TRY_ASSIGN(draft.family, find_hf_family(config));
  if (config.has("quantization_config")) {
    return unsupported(
        "'quantization_config': weights quantized by transformers are not supported; use the plain model or a GGUF "
        "file");
  }
  TRY_ASSIGN(draft.spec.hyper, read_hyper(config, *draft.family));
  TRY_ASSIGN(draft.tied, config.get_bool("tie_word_embeddings", false));
  TRY_ASSIGN(draft.attention_bias, config.get_bool("attention_bias", false));
  TRY_ASSIGN(draft.mlp_bias, config.get_bool("mlp_bias", false));

  const uint32_t last = draft.spec.hyper.vocab_size - 1;
  TRY_ASSIGN(std::vector<uint32_t> bos, config.get_ids("bos_token_id", last));
  TRY_ASSIGN(std::vector<uint32_t> eos, config.get_ids("eos_token_id", last));
  if (generation_json != nullptr) {
    auto generation = JsonFields::of(*generation_json);
    if (!generation) return std::move(generation.error()).in("generation_config.json");
    for (const auto& [key, ids] : {std::pair{"bos_token_id", &bos}, std::pair{"eos_token_id", &eos}}) {
      auto found = generation->get_ids(key, last);
      if (!found) return std::move(found.error()).in("generation_config.json");
      if (!found->empty()) *ids = *std::move(found);
    }
  }
  if (!bos.empty()) draft.spec.bos_token = static_cast<int32_t>(bos[0]);
  draft.spec.eos_tokens.assign(eos.begin(), eos.end());
  return {};
}

Result<std::string> hf_chat_template(const nlohmann::json& tokenizer_config) {
  TRY_ASSIGN(const JsonFields config, JsonFields::of(tokenizer_config));
  const nlohmann::json* found = config.find("chat_template");
  if (found == nullptr) return std::string();
  if (!found->is_array()) return config.get_text("chat_template");
  for (const nlohmann::json& item : *found) {
    TRY_ASSIGN(const JsonFields fields, JsonFields::of(item, "chat_template"));
    TRY_ASSIGN(const std::string name, fields.get_text("name"));
    if (name == "default") return fields.get_text("template");
  }
  return std::string();
}

}  // namespace ll
