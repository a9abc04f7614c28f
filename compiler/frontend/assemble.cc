#include "compiler/frontend/assemble.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "kernels/quant/formats.h"
#include "runtime/base/checked.h"
#include "runtime/base/escape.h"
#include "runtime/text/tokenizer_spec.h"

namespace ll {
namespace {

// Where an extent comes from, for messages.
struct ExtentRow {
  Extent extent;
  std::string_view gguf_key, hf_key;
};
constexpr ExtentRow kExtents[] = {
    {Extent::kVocab, "vocab_size", "vocab_size"},
    {Extent::kEmbedding, "embedding_length", "hidden_size"},
    {Extent::kFeedForward, "feed_forward_length", "intermediate_size"},
    {Extent::kQueries, "attention.head_count", "num_attention_heads"},
    {Extent::kKeys, "attention.head_count_kv", "num_key_value_heads"},
    {Extent::kRopePairs, "rope.dimension_count", "head_dim"},
};

uint64_t value_of(Extent extent, const HyperParameters& hyper) {
  switch (extent) {
    case Extent::kVocab:
      return hyper.vocab_size;
    case Extent::kEmbedding:
      return hyper.embedding_length;
    case Extent::kFeedForward:
      return hyper.feed_forward_length;
    case Extent::kQueries:
      return uint64_t{hyper.head_count} * hyper.head_dim;
    case Extent::kKeys:
      return uint64_t{hyper.head_count_kv} * hyper.head_dim;
    case Extent::kRopePairs:
      return hyper.rope.dimensions / 2;
    case Extent::kNone:
      break;
  }
  return 0;
}

std::string key_of(Extent extent, const Draft& draft) {
  for (const ExtentRow& row : kExtents) {
    if (row.extent != extent) continue;
    return draft.hf ? std::string(row.hf_key) : fmt::format("{}.{}", draft.family->gguf_name, row.gguf_key);
  }
  return "";
}

std::string describe(const FileTensor& tensor) {
  return fmt::format("{}[{}]", tensor.type, fmt::join(tensor.dims.begin(), tensor.dims.begin() + tensor.rank, ","));
}

// "blk.*.x" -> "blk.7.x".
std::string in_layer(std::string_view pattern, uint32_t layer) {
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) return std::string(pattern);
  return fmt::format("{}{}{}", pattern.substr(0, star), layer, pattern.substr(star + 1));
}

Status check_hyper(const HyperParameters& h) {
  if (h.head_count % h.head_count_kv != 0) {
    return bad_data("{} heads share {} key-value heads, expected a divisor", h.head_count, h.head_count_kv);
  }
  const RopeSpec& rope = h.rope;
  if (h.head_dim % 2 != 0) return unsupported("heads of {} elements, expected an even number", h.head_dim);
  if (rope.dimensions % 2 != 0 || rope.dimensions > h.head_dim) {
    return bad_data("rope turns {} of {} elements of a head, expected an even number of them", rope.dimensions,
                    h.head_dim);
  }
  if (rope.scaling == RopeSpec::Scaling::kLlama3 && !(rope.high_freq_factor > rope.low_freq_factor)) {
    return bad_data("rope scaling: high_freq_factor is {}, expected more than low_freq_factor {}",
                    rope.high_freq_factor, rope.low_freq_factor);
  }
  if (rope.scaling == RopeSpec::Scaling::kYarn && rope.beta_fast < rope.beta_slow) {
    return bad_data("rope scaling: beta_fast is {}, expected at least beta_slow {}", rope.beta_fast, rope.beta_slow);
  }
  return {};
}

// What the model's own settings leave open, its tokenizer may know. Ids that it has beyond the embedding do not count.
void complete_tokens(ModelSpec& spec) {
  if (!spec.tokenizer) return;
  const TokenizerSpec& tokenizer = *spec.tokenizer;
  const auto vocab = static_cast<int32_t>(spec.hyper.vocab_size);
  if (spec.bos_token < 0 && tokenizer.bos_id < vocab) spec.bos_token = tokenizer.bos_id;
  if (spec.eos_tokens.empty()) spec.eos_tokens = tokenizer.end_ids;
  std::erase_if(spec.eos_tokens, [&](int32_t id) { return id >= vocab; });
  spec.add_bos = spec.bos_token >= 0 &&
                 std::find(tokenizer.prefix.begin(), tokenizer.prefix.end(), spec.bos_token) != tokenizer.prefix.end();
}

// Words in tensor names that tell what a model is that we cannot run.
constexpr std::pair<std::string_view, std::string_view> kForeignParts[] = {
    {"ffn_gate_inp", "a mixture of experts"},
    {"_exps.", "a mixture of experts"},
    {".experts.", "a mixture of experts"},
    {"block_sparse_moe", "a mixture of experts"},
    {"attn_qkv", "fused q, k and v weights"},
    {"qkv_proj", "fused q, k and v weights"},
    {"lora_", "a LoRA adapter"},
    {".qweight", "GPTQ or AWQ weights"},
};

// Tensors that hold nothing the graph needs: what training code saved of its caches.
bool is_idle(std::string_view name) {
  return name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".attn_rot_embd.weight");
}

// The layer in "blk.7.x" or "model.layers.7.x".
std::optional<uint32_t> layer_of(std::string_view name) {
  for (const std::string_view prefix : {"blk.", "model.layers."}) {
    if (!name.starts_with(prefix)) continue;
    uint32_t layer = 0;
    const char* first = name.data() + prefix.size();
    const auto [end, ec] = std::from_chars(first, name.data() + name.size(), layer);
    if (ec == std::errc() && end != first) return layer;
  }
  return std::nullopt;
}

Error unexpected(const std::string& name, const Draft& draft) {
  const auto layer = layer_of(name);
  if (layer && *layer >= draft.spec.hyper.block_count) {
    return bad_data(
        "tensor {} is of layer {}, but {} is {}", quote(name), *layer,
        draft.hf ? std::string("num_hidden_layers") : fmt::format("{}.block_count", draft.family->gguf_name),
        draft.spec.hyper.block_count);
  }
  return unsupported("tensor {} is none that {} models have here", quote(name), draft.family->name);
}

enum class Wanted { kYes, kMaybe, kNo };
Wanted wanted(Bias bias, bool flag, bool hf) {
  if (bias == Bias::kFlag) return !hf ? Wanted::kMaybe : flag ? Wanted::kYes : Wanted::kNo;
  return bias == Bias::kAlways ? Wanted::kYes : Wanted::kNo;
}
Wanted wanted(const TensorRow& row, const Draft& draft) {
  switch (row.presence) {
    case Presence::kAlways:
      return Wanted::kYes;
    case Presence::kUntied:
      return !draft.hf ? Wanted::kMaybe : draft.tied ? Wanted::kNo : Wanted::kYes;
    case Presence::kQkvBias:
      return wanted(draft.family->qkv_bias, draft.attention_bias, draft.hf);
    case Presence::kOutputBias:
      return wanted(draft.family->output_bias, draft.attention_bias, draft.hf);
    case Presence::kMlpBias:
      return wanted(draft.family->mlp_bias, draft.mlp_bias, draft.hf);
    case Presence::kGgufOptional:
      return draft.hf ? Wanted::kNo : Wanted::kMaybe;
  }
  return Wanted::kNo;
}

// Proves type and shape, and makes the ModelSpec's tensor of it.
Result<WeightTensor> take(const std::string& name, const FileTensor& file, const TensorRow& row, const Draft& draft,
                          ModelSpec& spec) {
  if (!file.dtype) return unsupported("tensor {} has type {}, which is not supported", quote(name), file.type);
  const Extent extents[] = {row.rows, row.columns};
  const int rank = row.columns == Extent::kNone ? 1 : 2;
  uint64_t expected[2] = {};
  for (int i = 0; i < rank; ++i) expected[i] = value_of(extents[i], draft.spec.hyper);
  for (int i = 0; i < rank; ++i) {
    if (file.rank == rank && file.dims[static_cast<size_t>(i)] == expected[i]) continue;
    return bad_data("tensor {} is {}, expected [{}] (from {})", quote(name), describe(file),
                    fmt::join(expected, expected + rank, ","), key_of(extents[i], draft));
  }
  WeightTensor tensor;
  tensor.type.rank = rank;
  for (size_t i = 0; i < static_cast<size_t>(rank); ++i) tensor.type.dims[i] = static_cast<int64_t>(expected[i]);
  const auto length = static_cast<int64_t>(expected[rank - 1]);
  const auto row_size = checked_row_bytes(*file.dtype, length);
  if (!row_size) return bad_data("tensor {} is {}: rows are no whole number of blocks", quote(name), describe(file));
  const auto size = checked_mul<uint64_t>(static_cast<uint64_t>(*row_size), rank == 2 ? expected[0] : 1);
  if (!size || *size != file.bytes.size()) {
    return bad_data("tensor {} is {} in {} bytes, expected {}", quote(name), describe(file), file.bytes.size(),
                    size.value_or(0));
  }
  if (!is_weight_dtype(*file.dtype))
    return unsupported("tensor {} has type {}, expected a weight's", quote(name), file.type);
  if (rank == 1 && *file.dtype != DType::kF32) {
    auto values = std::make_shared<std::vector<float>>(expected[0]);
    find_format(*file.dtype)->dequantize(file.bytes.data(), length, values->data());
    tensor.bytes = std::as_bytes(std::span<const float>(*values));
    spec.converted.push_back(std::move(values));
    return tensor;
  }
  tensor.type.dtype = *file.dtype;
  tensor.bytes = file.bytes;
  tensor.source = file.source;
  tensor.offset = file.offset;
  return tensor;
}

}  // namespace

Result<ModelSpec> assemble(Draft draft) {
  const Family& family = *draft.family;
  if (draft.tensors.empty()) return unsupported("the file holds a vocabulary or settings, and no weights");
  for (const auto& [name, tensor] : draft.tensors) {
    for (const auto& [part, what] : kForeignParts) {
      if (name.find(part) == std::string::npos) continue;
      return unsupported("tensor {}: {} is not supported (architecture {})", quote(name), what, family.name);
    }
  }
  TRY(check_hyper(draft.spec.hyper));
  complete_tokens(draft.spec);
  auto& eos = draft.spec.eos_tokens;
  std::sort(eos.begin(), eos.end());
  eos.erase(std::unique(eos.begin(), eos.end()), eos.end());

  ModelSpec spec = std::move(draft.spec);
  draft.spec.hyper = spec.hyper;
  spec.architecture = family.name;
  std::set<std::string_view> used;
  for (const TensorRow& row : family.tensors()) {
    const Wanted want = wanted(row, draft);
    if (want == Wanted::kNo) continue;
    const bool layered = row.name.find('*') != std::string_view::npos;
    for (uint32_t layer = 0; layer < (layered ? spec.hyper.block_count : 1); ++layer) {
      const std::string name = in_layer(draft.hf ? row.hf_name : row.name, layer);
      const auto found = draft.tensors.find(name);
      if (found == draft.tensors.end()) {
        if (want == Wanted::kMaybe) continue;
        return bad_data("tensor {} is missing ({} tensors found)", quote(name), draft.tensors.size());
      }
      TRY_ASSIGN(WeightTensor tensor, take(name, found->second, row, draft, spec));
      used.insert(found->first);
      spec.tensors.emplace(in_layer(row.name, layer), std::move(tensor));
    }
  }
  for (const auto& [name, tensor] : draft.tensors) {
    if (used.contains(name) || is_idle(name)) continue;
    if (draft.tied && name == "lm_head.weight") continue;  // a second copy of the embedding
    return unexpected(name, draft);
  }
  spec.hyper.rope.frequency_divisors = spec.find("rope_freqs.weight") != nullptr;
  TRY(inv_frequencies(spec));
  return spec;
}

}  // namespace ll
