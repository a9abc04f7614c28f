// A model as the compiler sees it, whatever file it came from: typed hyper-parameters, tensors under GGUF names,
// tokenizer.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/type.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/result.h"

namespace ll {

struct TokenizerSpec;  // runtime/text/tokenizer_spec.h

// A file that tensors lie in.
struct SourceFile {
  std::string name;                           // bare file name, for plans and messages
  std::string path;                           // as opened; empty when the caller handed over bytes
  std::span<const std::byte> bytes;           // the whole file
  std::shared_ptr<const MappedFile> mapping;  // keeps `bytes` alive; null when the caller does
};

// One weight in its file's own order (Layout::kRows). Matrices keep the file's type. Vectors (norms, biases,
// rope_freqs) are f32: those that the file stores otherwise are converted at load and have no source.
struct WeightTensor {
  TensorType type;                   // [N, K] or [N], slowest dimension first; numbers only
  std::span<const std::byte> bytes;  // rows one after another; not necessarily aligned
  int32_t source = -1;               // index into ModelSpec::sources; -1: `bytes` are in memory of the spec's own
  uint64_t offset = 0;               // of `bytes` in that file
};

// Rotary position embedding. inv_frequencies() folds all of it into one frequency a pair and one factor on cos and sin.
struct RopeSpec {
  enum class Style { kHalf, kInterleaved };  // pair i with i + rotary/2 (HF, GPT-NeoX), or 2i with 2i + 1 (GGUF llama)
  enum class Scaling { kNone, kLinear, kLlama3, kYarn };

  Style style = Style::kHalf;
  double base = 10000.0;
  uint32_t dimensions = 0;  // rotary: dimensions of each head that turn; even, at most head_dim
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;            // how much longer the context became; all scalings
  uint32_t original_context = 0;  // llama3, yarn: context length before scaling
  double low_freq_factor = 1.0;   // llama3
  double high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0;        // yarn: rotations within original_context above which a frequency is kept
  double beta_slow = 1.0;         // yarn: below which it is divided by factor
  bool truncate = true;           // yarn: the two bounds are rounded outwards to whole dimensions
  double attention_factor = 1.0;  // yarn: multiplies cos and sin (mscale)
  bool frequency_divisors =
      false;  // tensor rope_freqs.weight f32 [dimensions / 2] divides the frequencies (GGUF llama3)
};

// Validated: every number lies in the range its comment gives, and tensors have the shapes that follow from them.
struct HyperParameters {
  uint32_t vocab_size = 0;        // 1 .. 2^24, rows of token_embd.weight
  uint32_t context_length = 0;    // 1 .. 2^27, the longest the model was made for
  uint32_t embedding_length = 0;  // 1 .. 2^20, D
  uint32_t block_count = 0;       // 1 .. 1024 layers
  uint32_t feed_forward_length = 0;
  uint32_t head_count = 0;
  uint32_t head_count_kv = 0;  // divides head_count
  uint32_t head_dim = 0;       // of queries, keys and values: 2 .. 1024
  double rms_norm_eps = 0;     // 0 .. 1
  std::string activation;      // "silu", "gelu", "gelu_tanh" or "relu"
  RopeSpec rope;
  std::vector<uint32_t> windows;  // [block_count] sliding window of each layer; 0 sees everything
};

// Tensor names are GGUF's: token_embd.weight, output_norm.weight, output.weight (absent when tied to the embedding),
// rope_freqs.weight, and per layer
// blk.I.{attn_norm,attn_q,attn_k,attn_v,attn_output,ffn_norm,ffn_gate,ffn_up,ffn_down}.weight with .bias where the
// family has one. Everything the family's graph needs is there with the right shape, and nothing else.
struct ModelSpec {
  std::string architecture;  // canonical family name, a row of arch/arch.h: "llama", "mistral", "qwen2"
  std::string name;          // general.name, or empty
  HyperParameters hyper;
  std::map<std::string, WeightTensor, std::less<>> tensors;
  std::shared_ptr<const TokenizerSpec> tokenizer;  // null when the model has none
  std::string chat_template;                       // Jinja text, or empty
  int32_t bos_token = -1;                          // -1: none
  std::vector<int32_t> eos_tokens;                 // every id that ends a generation, ascending
  bool add_bos = false;
  std::vector<SourceFile> sources;
  std::vector<std::shared_ptr<const std::vector<float>>> converted;  // memory of the tensors without a source

  const WeightTensor* find(std::string_view tensor) const;
};

// Loads a GGUF file (any shard of a split one) or a Hugging Face folder. Weights stay in the mapped files.
// kNoInput: no such file. kBadData: malformed. kUnsupported: well formed, but of a family or with a feature we do not
// have.
Result<ModelSpec> load_model(const std::string& path);

// The same from bytes that outlive the result. A split GGUF is refused: its other shards cannot be found.
Result<ModelSpec> load_gguf(std::span<const std::byte> bytes, std::string_view name);

// The files of a Hugging Face folder by bare name, as bytes that outlive the result; for tests and fuzzing.
using HfFiles = std::map<std::string, SourceFile, std::less<>>;
Result<ModelSpec> load_hf(const HfFiles& files);

// Frequencies of the rope pairs in radians a position, f32 [dimensions / 2]; sources of the formulas in rope.cc.
// Fails when frequency_divisors is set and the tensor holds zeros or values that are not finite.
Result<std::vector<float>> inv_frequencies(const ModelSpec& spec);

}  // namespace ll
