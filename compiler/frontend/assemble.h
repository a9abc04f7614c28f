// The last step of every reader: from a file's own tensors and numbers to a ModelSpec that keeps its promises.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "compiler/frontend/arch/arch.h"
#include "compiler/frontend/model_spec.h"

namespace ll {

// Ranges of hyper-parameters, whatever file they come from.
inline constexpr uint32_t kMaxVocab = 1 << 24;
inline constexpr uint32_t kMaxContext = 1 << 27;
inline constexpr uint32_t kMaxEmbedding = 1 << 20;
inline constexpr uint32_t kMaxFeedForward = 1 << 24;
inline constexpr uint32_t kMaxLayers = 1024;
inline constexpr uint32_t kMaxHeads = 4096;
inline constexpr uint32_t kMaxHeadDim = 1024;
inline constexpr uint32_t kMaxShards = 4096;
inline constexpr double kMinRopeBase = 1.001, kMaxRopeBase = 1e15;
inline constexpr double kMinRopeFactor = 1e-3, kMaxRopeFactor = 1e6;  // also of betas and frequency factors
inline constexpr double kMaxAttentionFactor = 1e3;

// A tensor as a file states it.
struct FileTensor {
  std::string type;            // for messages: "q4_K", "F8_E4M3"
  std::optional<DType> dtype;  // nullopt: one we do not have
  int rank = 0;
  std::array<uint64_t, kMaxRank> dims{};  // slowest first; each 1 .. 2^48
  std::span<const std::byte> bytes;       // empty when dtype is nullopt
  int32_t source = 0;
  uint64_t offset = 0;
};

struct Draft {
  ModelSpec spec;  // everything but tensors; bos_token and eos_tokens below vocab_size
  const Family* family = nullptr;
  bool hf = false;    // names and keys are transformers', not GGUF's
  bool tied = false;  // HF flags: see Presence
  bool attention_bias = false, mlp_bias = false;
  std::map<std::string, FileTensor, std::less<>> tensors;  // under the file's own names
};

// Checks hyper-parameters against each other and tensors against them, renames tensors, converts vectors to f32.
// kBadData: a number or shape contradicts another, or a tensor is missing. kUnsupported: a tensor's type, or a tensor
// that no model of the family has.
Result<ModelSpec> assemble(Draft draft);

}  // namespace ll
