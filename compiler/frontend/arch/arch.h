// The model families we know: one row each. A family is one file beside this one and a line in arch.cc.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "compiler/frontend/model_spec.h"
#include "ir/graph.h"

namespace ll {

// A size that a tensor's shape is made of; extents.cc knows its value and the keys it comes from.
enum class Extent : uint8_t {
  kNone,         // no such dimension: the tensor is a vector
  kVocab,        // vocab_size
  kEmbedding,    // embedding_length
  kFeedForward,  // feed_forward_length
  kQueries,      // head_count * head_dim
  kKeys,         // head_count_kv * head_dim
  kRopePairs,    // rope.dimensions / 2
};

// When a model has the tensor.
enum class Presence : uint8_t {
  kAlways,
  kUntied,        // unless the output is tied to the embedding: HF tie_word_embeddings; in GGUF files, as found
  kQkvBias,       // as Family::qkv_bias says
  kOutputBias,    // as Family::output_bias says
  kMlpBias,       // as Family::mlp_bias says
  kGgufOptional,  // in GGUF files alone, as found
};

// When a family's linear layers have biases.
enum class Bias : uint8_t {
  kNone,
  kAlways,
  kFlag,  // as HF attention_bias or mlp_bias says; in GGUF files, which state no flags, as found
};

// One tensor, or with '*' in the names one tensor of each layer.
struct TensorRow {
  std::string_view name;     // in ModelSpec and GGUF: "blk.*.attn_q.weight"
  std::string_view hf_name;  // "model.layers.*.self_attn.q_proj.weight"; empty: HF models have none
  Extent rows;               // N
  Extent columns;            // K; kNone for a vector of N
  Presence presence;
};

struct Family {
  std::string_view name;             // ModelSpec::architecture
  std::string_view gguf_name;        // general.architecture; empty: files of this family say another one's
  std::string_view hf_model_type;    // config.json model_type
  std::string_view hf_architecture;  // config.json architectures[0]
  RopeSpec::Style gguf_rope_style;   // HF files are always kHalf
  std::span<const TensorRow> (*tensors)();
  Bias qkv_bias, output_bias, mlp_bias;
  // What transformers' configuration class assumes for keys that config.json leaves out.
  uint32_t hf_kv_heads;        // 0: as many as heads
  uint32_t hf_sliding_window;  // 0: none
  bool hf_windows_by_layer;    // use_sliding_window and max_window_layers choose the layers; else all have it
  Result<ir::Graph> (*build)(const ModelSpec& spec, DType kv);
};

extern const Family kLlama, kMistral, kQwen2;  // each in its own file

std::span<const Family* const> families();
const Family* find_family(std::string_view name);
// "llama, mistral, qwen2": for messages.
std::string supported_architectures();

// The graph of a loaded model in basic ops alone. `kv`: element type of the KV caches (kF32, kF16, kI8 as q8).
// The result is f32 [R, vocab_size].
Result<ir::Graph> build_graph(const ModelSpec& spec, DType kv);

}  // namespace ll
