// Any bytes as a GGUF file: read or refused. What loads keeps the promises of ModelSpec.
#include <cstdlib>

#include "compiler/frontend/gguf.h"
#include "compiler/frontend/model_spec.h"
#include "runtime/base/checked.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  const auto file = ll::gguf::parse(bytes);
  if (!file) {
    if (file.error().message.empty()) std::abort();
    return 0;
  }
  for (const auto& tensor : file->tensors) {
    if (!ll::fits(tensor.offset, tensor.size.value_or(0), size)) std::abort();
  }
  const auto spec = ll::load_gguf(bytes, "fuzz.gguf");
  if (!spec) {
    const ll::Code code = spec.error().code;
    if (code != ll::Code::kBadData && code != ll::Code::kUnsupported) std::abort();
    return 0;
  }
  for (const auto& [name, tensor] : spec->tensors) {
    if (tensor.source >= 0 && !ll::fits(tensor.offset, tensor.bytes.size(), size)) std::abort();
  }
  return 0;
}
