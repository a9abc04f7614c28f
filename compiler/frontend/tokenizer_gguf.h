// Tokenizers of GGUF files. Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (tokenizer.ggml.*).
#pragma once

#include <optional>

#include "compiler/frontend/gguf.h"
#include "runtime/base/result.h"
#include "runtime/text/tokenizer_spec.h"

namespace ll {

// The tokenizer that the metadata describe; nullopt when there is none (no tokenizer.ggml.model, or "no_vocab" or
// "none"). Ids come out as llama.cpp makes them. kUnsupported names an unknown tokenizer.ggml.model or
// tokenizer.ggml.pre.
Result<std::optional<TokenizerSpec>> tokenizer_from_gguf(const gguf::Metadata& metadata);

}  // namespace ll
