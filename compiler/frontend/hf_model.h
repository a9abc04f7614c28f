// Hugging Face folders as models.
#pragma once

#include <set>
#include <string>

#include "compiler/frontend/model_spec.h"

namespace ll {

// Names of the files that hold the weights, from model.safetensors.index.json: bare names, at most kMaxShards.
Result<std::set<std::string>> hf_weight_files(std::span<const std::byte> index);

// Opens what there is of the files a model consists of. kNoInput without config.json or weights.
Result<HfFiles> open_hf_folder(const std::string& folder);

}  // namespace ll
