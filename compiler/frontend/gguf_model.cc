// Keys and their meaning: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and llama.cpp, src/llama-model.cpp.
#include "compiler/frontend/gguf_model.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "compiler/frontend/assemble.h"
#include "compiler/frontend/tokenizer_gguf.h"
#include "kernels/quant/formats.h"
#include "runtime/base/escape.h"

namespace ll {
namespace {

std::string bare_name(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

Result<GgufShard> open_shard(const std::string& path) {
  TRY_ASSIGN(MappedFile mapped, MappedFile::open(path));
  auto mapping = std::make_shared<const MappedFile>(std::move(mapped));
  auto file = gguf::parse(mapping->bytes());
  if (!file) return std::move(file.error()).in(quote(bare_name(path)));
  return GgufShard{{bare_name(path), path, mapping->bytes(), mapping}, *std::move(file)};
}

// Features that change what a llama or qwen2 model computes and that we do not have: present and not this value is an
// error.
struct RefusedKey {
  std::string_view key;  // after "{architecture}."
  double harmless;
};
constexpr RefusedKey kRefused[] = {
    {"expert_count", 0},
    {"attention.clamp_kqv", 0},
    {"attention.max_alibi_bias", 0},
    {"attention.scale", 0},
    {"attn_logit_softcapping", 0},
    {"final_logit_softcapping", 0},
    {"logit_scale", 0},
    {"embedding_scale", 0},
    {"residual_scale", 0},
    {"use_parallel_residual", 0},
    {"attention.causal", 1},
    {"rope.scaling.yarn_ext_factor", 1},
    {"rope.scaling.yarn_attn_factor", 1},
    {"rope.scaling.yarn_log_multiplier", 0},
    {"attention.temperature_scale", 0},
    {"attention.temperature_length", 0},
};

// Typed access to "{architecture}.key".
class Keys {
 public:
  Keys(const gguf::Metadata& metadata, std::string_view architecture) : metadata_(metadata), prefix_(architecture) {}

  std::string name(std::string_view key) const { return fmt::format("{}.{}", prefix_, key); }
  bool has(std::string_view key) const { return metadata_.find(name(key)) != nullptr; }
  Result<uint32_t> u32(std::string_view key, uint32_t min, uint32_t max) const {
    return metadata_.get_u32(name(key), min, max);
  }
  Result<uint32_t> u32(std::string_view key, uint32_t min, uint32_t max, uint32_t missing) const {
    return metadata_.get_u32(name(key), min, max, missing);
  }
  Result<double> number(std::string_view key, double min, double max, double missing) const {
    return metadata_.get_number(name(key), min, max, missing);
  }
  Result<double> number(std::string_view key, double min, double max) const {
    return metadata_.get_number(name(key), min, max);
  }

  // A number that some families state once and others for each layer; layers that differ are not supported.
  Result<uint32_t> same_in_all_layers(std::string_view key, uint32_t min, uint32_t max) const {
    const gguf::Value* value = metadata_.find(name(key));
    if (value == nullptr || value->type() != gguf::ValueType::kArray) return u32(key, min, max);
    TRY_ASSIGN(const std::vector<int32_t> values,
               metadata_.get_i32s(name(key), static_cast<int32_t>(min), static_cast<int32_t>(max)));
    if (values.empty()) return bad_data("{} is an empty array", quote(name(key)));
    for (const int32_t v : values) {
      if (v != values[0]) return unsupported("{} differs between layers ({} and {})", quote(name(key)), values[0], v);
    }
    return static_cast<uint32_t>(values[0]);
  }

  Status refuse_foreign_features() const {
    for (const RefusedKey& row : kRefused) {
      const gguf::Value* value = metadata_.find(name(row.key));
      if (value == nullptr) continue;
      const bool scalar = value->type() != gguf::ValueType::kArray;
      // What is no number is never harmless.
      double found = std::numeric_limits<double>::quiet_NaN();
      if (const auto number = value->number(); number && scalar) found = *number;
      if (const auto integer = value->integer(); integer && scalar) found = static_cast<double>(*integer);
      if (const auto flag = value->boolean(); flag && scalar) found = *flag ? 1 : 0;
      if (found == row.harmless) continue;
      return unsupported("{} is {}, which is not supported (expected none, or {})", quote(name(row.key)),
                         std::isnan(found) ? value->describe() : fmt::format("{}", found), row.harmless);
    }
    if (has("rope.dimension_sections"))
      return unsupported("{} is not supported", quote(name("rope.dimension_sections")));
    return {};
  }

  const gguf::Metadata& metadata() const { return metadata_; }

 private:
  const gguf::Metadata& metadata_;
  std::string prefix_;
};

Result<RopeSpec> read_rope(const Keys& keys, const HyperParameters& hyper, RopeSpec::Style style) {
  RopeSpec rope;
  rope.style = style;
  TRY_ASSIGN(rope.base, keys.number("rope.freq_base", kMinRopeBase, kMaxRopeBase, 10000.0));
  TRY_ASSIGN(rope.dimensions, keys.u32("rope.dimension_count", 2, kMaxHeadDim, hyper.head_dim));

  TRY_ASSIGN(const std::string_view type, keys.metadata().get_text(keys.name("rope.scaling.type"), "linear"));
  if (type == "none") return rope;
  if (type != "linear" && type != "yarn") {
    return unsupported("{} is {}, supported are none, linear and yarn", quote(keys.name("rope.scaling.type")),
                       quote(type));
  }
  // "scale_linear" is what files of 2023 call the factor. 0 means none, as in llama.cpp.
  TRY_ASSIGN(const double legacy, keys.number("rope.scale_linear", 0, kMaxRopeFactor, 0));
  TRY_ASSIGN(const double factor, keys.number("rope.scaling.factor", 0, kMaxRopeFactor, legacy));
  if (factor != 0 && factor < kMinRopeFactor)
    return bad_data("rope scaling factor is {}, expected at least {}", factor, kMinRopeFactor);
  if (type == "linear") {
    if (factor == 0 || factor == 1) return rope;
    rope.scaling = RopeSpec::Scaling::kLinear;
    rope.factor = factor;
    return rope;
  }
  rope.scaling = RopeSpec::Scaling::kYarn;
  rope.factor = factor == 0 ? 1 : factor;
  TRY_ASSIGN(rope.original_context,
             keys.u32("rope.scaling.original_context_length", 1, kMaxContext, hyper.context_length));
  TRY_ASSIGN(rope.beta_fast, keys.number("rope.scaling.yarn_beta_fast", kMinRopeFactor, kMaxRopeFactor, 32));
  TRY_ASSIGN(rope.beta_slow, keys.number("rope.scaling.yarn_beta_slow", kMinRopeFactor, kMaxRopeFactor, 1));
  TRY_ASSIGN(const double attention, keys.number("rope.scaling.attn_factor", 0, kMaxAttentionFactor, 1));
  rope.attention_factor = attention * (rope.factor > 1 ? 0.1 * std::log(rope.factor) + 1 : 1);
  return rope;
}

Result<HyperParameters> read_hyper(const Keys& keys, RopeSpec::Style style, uint64_t embedding_rows) {
  HyperParameters h;
  TRY_ASSIGN(h.context_length, keys.u32("context_length", 1, kMaxContext));
  TRY_ASSIGN(h.embedding_length, keys.u32("embedding_length", 1, kMaxEmbedding));
  TRY_ASSIGN(h.block_count, keys.u32("block_count", 1, kMaxLayers));
  TRY_ASSIGN(h.feed_forward_length, keys.same_in_all_layers("feed_forward_length", 1, kMaxFeedForward));
  TRY_ASSIGN(h.head_count, keys.same_in_all_layers("attention.head_count", 1, kMaxHeads));
  h.head_count_kv = h.head_count;
  if (keys.has("attention.head_count_kv")) {
    TRY_ASSIGN(h.head_count_kv, keys.same_in_all_layers("attention.head_count_kv", 1, kMaxHeads));
  }
  TRY_ASSIGN(h.head_dim, keys.u32("attention.key_length", 1, kMaxHeadDim, h.embedding_length / h.head_count));
  if (!keys.has("attention.key_length") && h.embedding_length % h.head_count != 0) {
    return bad_data("{} is {}, expected a multiple of the {} heads", quote(keys.name("embedding_length")),
                    h.embedding_length, h.head_count);
  }
  if (h.head_dim < 1 || h.head_dim > kMaxHeadDim)
    return bad_data("heads of {} elements, expected 1 to {}", h.head_dim, kMaxHeadDim);
  TRY_ASSIGN(const uint32_t value_length, keys.u32("attention.value_length", 1, kMaxHeadDim, h.head_dim));
  if (value_length != h.head_dim)
    return unsupported("keys of {} and values of {} elements differ", h.head_dim, value_length);
  TRY_ASSIGN(h.rms_norm_eps, keys.number("attention.layer_norm_rms_epsilon", 0, 1));
  h.activation = "silu";
  TRY_ASSIGN(const uint32_t window, keys.u32("attention.sliding_window", 0, kMaxContext, 0));
  h.windows.assign(h.block_count, window);
  if (window != 0 && keys.has("attention.sliding_window_pattern")) {
    return unsupported("{} is not supported", quote(keys.name("attention.sliding_window_pattern")));
  }
  const auto rows = static_cast<uint32_t>(std::min<uint64_t>(embedding_rows, kMaxVocab));
  TRY_ASSIGN(h.vocab_size,
             rows == 0 ? keys.u32("vocab_size", 1, kMaxVocab) : keys.u32("vocab_size", 1, kMaxVocab, rows));
  TRY_ASSIGN(h.rope, read_rope(keys, h, style));
  return h;
}

// The ids that end a generation: eos, and the ends of a turn and of a message where a model has its own.
Status read_special_tokens(const gguf::Metadata& metadata, ModelSpec& spec) {
  const uint32_t last = spec.hyper.vocab_size - 1;
  const auto read = [&](std::string_view key) -> Result<int32_t> {
    if (metadata.find(key) == nullptr) return -1;
    TRY_ASSIGN(const uint32_t id, metadata.get_u32(key, 0, last));
    return static_cast<int32_t>(id);
  };
  TRY_ASSIGN(spec.bos_token, read("tokenizer.ggml.bos_token_id"));
  for (const std::string_view key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    TRY_ASSIGN(const int32_t id, read(key));
    if (id >= 0) spec.eos_tokens.push_back(id);
  }
  return {};
}

FileTensor file_tensor(const GgufShard& shard, const gguf::TensorInfo& info, int32_t source) {
  FileTensor tensor;
  const GgmlType* type = find_ggml_type(info.type);
  const Format* format = find_format_of_ggml(info.type);
  tensor.type = type != nullptr ? std::string(type->name) : fmt::format("ggml type {}", info.type);
  if (format != nullptr) tensor.dtype = format->dtype;
  tensor.rank = static_cast<int>(info.rank);
  for (uint32_t i = 0; i < info.rank; ++i) tensor.dims[i] = info.dims[info.rank - 1 - i];
  if (info.size) tensor.bytes = shard.file.data(info);
  tensor.source = source;
  tensor.offset = info.offset;
  return tensor;
}

// "x-00002-of-00005.gguf": what is before the number.
Result<std::string> shard_prefix(const std::string& path, uint32_t index, uint32_t count) {
  const std::string suffix = fmt::format("-{:05}-of-{:05}.gguf", index + 1, count);
  if (!path.ends_with(suffix)) {
    return bad_data("{} is shard {} of {}, but its name does not end in {}", quote(bare_name(path)), index + 1, count,
                    quote(suffix));
  }
  return path.substr(0, path.size() - suffix.size());
}

Result<uint32_t> shard_count(const gguf::Metadata& metadata) {
  return metadata.get_u32("split.count", 0, kMaxShards, 0);
}

}  // namespace

Result<std::vector<GgufShard>> open_gguf(const std::string& path) {
  std::vector<GgufShard> shards;
  TRY_ASSIGN(GgufShard given, open_shard(path));
  TRY_ASSIGN(const uint32_t count, shard_count(given.file.metadata));
  if (count <= 1) {
    shards.push_back(std::move(given));
    return shards;
  }
  TRY_ASSIGN(const uint32_t index, given.file.metadata.get_u32("split.no", 0, count - 1));
  TRY_ASSIGN(const std::string prefix, shard_prefix(path, index, count));
  uint64_t tensors = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (i == index) {
      shards.push_back(std::move(given));
    } else {
      TRY_ASSIGN(GgufShard shard, open_shard(fmt::format("{}-{:05}-of-{:05}.gguf", prefix, i + 1, count)));
      shards.push_back(std::move(shard));
    }
    const GgufShard& shard = shards.back();
    TRY_ASSIGN(const uint32_t its_count, shard_count(shard.file.metadata));
    TRY_ASSIGN(const uint32_t its_index, shard.file.metadata.get_u32("split.no", 0, kMaxShards));
    if (its_count != count || its_index != i) {
      return bad_data("{} says it is shard {} of {}, expected {} of {}", quote(shard.source.name), its_index + 1,
                      its_count, i + 1, count);
    }
    tensors += shard.file.tensors.size();
  }
  const gguf::Metadata& first = shards[0].file.metadata;
  if (first.find("split.tensors.count") != nullptr) {
    TRY_ASSIGN(const uint32_t expected, first.get_u32("split.tensors.count", 0, UINT32_MAX));
    if (expected != tensors)
      return bad_data("the {} shards hold {} tensors, 'split.tensors.count' is {}", count, tensors, expected);
  }
  return shards;
}

Result<ModelSpec> load_gguf(const std::vector<GgufShard>& shards) {
  const gguf::Metadata& metadata = shards[0].file.metadata;
  TRY_ASSIGN(const std::string_view type, metadata.get_text("general.type", "model"));
  if (type != "model") return unsupported("'general.type' is {}, expected a model", quote(type));
  TRY_ASSIGN(const std::string_view architecture, metadata.get_text("general.architecture"));
  Draft draft;
  for (const Family* family : families()) {
    if (!family->gguf_name.empty() && family->gguf_name == architecture) draft.family = family;
  }
  if (draft.family == nullptr) {
    return unsupported("architecture {} is not supported; supported are {}", quote(architecture),
                       supported_architectures());
  }

  for (size_t i = 0; i < shards.size(); ++i) {
    draft.spec.sources.push_back(shards[i].source);
    for (const gguf::TensorInfo& info : shards[i].file.tensors) {
      const auto [at, fresh] =
          draft.tensors.emplace(std::string(info.name), file_tensor(shards[i], info, static_cast<int32_t>(i)));
      if (!fresh) return bad_data("tensor {} is in two shards", quote(info.name));
    }
  }
  const auto embedding = draft.tensors.find("token_embd.weight");
  const uint64_t rows = embedding != draft.tensors.end() && embedding->second.rank == 2 ? embedding->second.dims[0] : 0;

  const Keys keys(metadata, architecture);
  TRY(keys.refuse_foreign_features());
  TRY_ASSIGN(draft.spec.hyper, read_hyper(keys, draft.family->gguf_rope_style, rows));
  TRY_ASSIGN(const std::string_view name, metadata.get_text("general.name", ""));
  draft.spec.name = name;
  TRY_ASSIGN(const std::string_view chat_template, metadata.get_text("tokenizer.chat_template", ""));
  draft.spec.chat_template = chat_template;
  TRY(read_special_tokens(metadata, draft.spec));
  TRY_ASSIGN(std::optional<TokenizerSpec> tokenizer, tokenizer_from_gguf(metadata));
  // llama.cpp ends a generation at any of the tokens it knows for that.
  if (tokenizer)
    draft.spec.eos_tokens.insert(draft.spec.eos_tokens.end(), tokenizer->end_ids.begin(), tokenizer->end_ids.end());
  if (tokenizer) draft.spec.tokenizer = std::make_shared<const TokenizerSpec>(*std::move(tokenizer));
  return assemble(std::move(draft));
}

Result<ModelSpec> load_gguf(std::span<const std::byte> bytes, std::string_view name) {
  TRY_ASSIGN(gguf::File file, gguf::parse(bytes));
  TRY_ASSIGN(const uint32_t count, shard_count(file.metadata));
  if (count > 1) return bad_data("shard of a model split in {}: the other files are needed", count);
  std::vector<GgufShard> shards;
  shards.push_back({{std::string(name), "", bytes, nullptr}, std::move(file)});
  return load_gguf(shards);
}

}  // namespace ll
