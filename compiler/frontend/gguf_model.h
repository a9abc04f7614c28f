// GGUF files as models.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "compiler/frontend/gguf.h"
#include "compiler/frontend/model_spec.h"

namespace ll {

// A GGUF file opened and parsed; its bytes are mapped.
struct GgufShard {
  SourceFile source;
  gguf::File file;
};

// Opens a GGUF file, and, when it is one of a split set ("x-00002-of-00005.gguf"), all files of the set, first one
// first: bare names in the same folder. Proves that they belong together.
Result<std::vector<GgufShard>> open_gguf(const std::string& path);

// The model that the shards hold; metadata is the first one's.
Result<ModelSpec> load_gguf(const std::vector<GgufShard>& shards);

}  // namespace ll
