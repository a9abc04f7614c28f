// Tokenizers of Hugging Face folders. Format: https://huggingface.co/docs/tokenizers (tokenizer.json, version 1.0).
#pragma once

#include <string_view>

#include "runtime/base/result.h"
#include "runtime/text/tokenizer_spec.h"

namespace ll {

// The tokenizer of tokenizer.json. tokenizer_config.json (may be empty) names the special tokens (bos, eos, ...) and
// says whether decoded text is cleaned up. kBadData: not JSON, or a field that contradicts another. kUnsupported: a
// normalizer, pre-tokenizer, model, post-processor, decoder or regex construct that we do not have; the message names
// it.
Result<TokenizerSpec> tokenizer_from_json(std::string_view tokenizer_json, std::string_view tokenizer_config_json);

}  // namespace ll
