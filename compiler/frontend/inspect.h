// What a file holds, for people and for programs: GGUF of any architecture, safetensors, Hugging Face folders, plans.
#pragma once

#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace ll {

// Metadata, tensors and totals of a file, of all shards of a split model, or of a folder, as text for a terminal
// (control characters escaped, long arrays cut) or as one JSON object. Reads directories of files, not the weights.
Result<std::string> inspect(const std::string& path, bool json);

// Writes one tensor, as f32, to a safetensors file under the same name. kUsage when there is none of that name;
// kUnsupported when its type is one we cannot read.
Status export_tensor(const std::string& path, std::string_view name, const std::string& output);

}  // namespace ll
