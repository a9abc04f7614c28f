// config.json and its neighbours: what transformers' configuration classes read, as hyper-parameters.
#pragma once

#include <string>

#include "compiler/frontend/assemble.h"
#include "compiler/frontend/json_fields.h"

namespace ll {

// Fills family, hyper-parameters, flags and special tokens of `draft` from config.json (a JSON object) and, unless
// null, generation_config.json. kUnsupported names what we do not have: an architecture, a rope type, an activation.
Status read_hf_config(const nlohmann::json& config, const nlohmann::json* generation, Draft& draft);

// The chat template in tokenizer_config.json: a string, or a list of named ones of which "default" is taken. Empty:
// none.
Result<std::string> hf_chat_template(const nlohmann::json& tokenizer_config);

}  // namespace ll
