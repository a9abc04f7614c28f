#include "compiler/frontend/model_spec.h"

#include <sys/stat.h>

#include "compiler/frontend/gguf_model.h"
#include "compiler/frontend/hf_model.h"
#include "runtime/base/escape.h"

namespace ll {

const WeightTensor* ModelSpec::find(std::string_view tensor) const {
  const auto it = tensors.find(tensor);
  return it == tensors.end() ? nullptr : &it->second;
}

Result<ModelSpec> load_model(const std::string& path) {
  struct stat info = {};
  const bool folder = stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  auto spec = [&]() -> Result<ModelSpec> {
    if (folder) {
      TRY_ASSIGN(const HfFiles files, open_hf_folder(path));
      return load_hf(files);
    }
    TRY_ASSIGN(const std::vector<GgufShard> shards, open_gguf(path));
    return load_gguf(shards);
  }();
  if (!spec) return std::move(spec.error()).in(quote(path));
  return spec;
}

}  // namespace ll
