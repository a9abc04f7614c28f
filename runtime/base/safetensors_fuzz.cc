// Any bytes as a safetensors file: read or refused, and what is read lies in the file.
#include <cstdlib>

#include "runtime/base/checked.h"
#include "runtime/base/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto contents = ll::safetensors::parse({reinterpret_cast<const std::byte*>(data), size});
  if (!contents) {
    if (contents.error().message.empty()) std::abort();
    return 0;
  }
  for (const auto& tensor : contents->tensors) {
    if (!ll::fits(tensor.offset, tensor.size, size)) std::abort();
    if (contents->find(tensor.name) != &tensor) std::abort();
  }
  return 0;
}
