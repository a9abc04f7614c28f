// Hostile cubins: the input is one as it is.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "runtime/plan/cubin.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  const std::vector<std::byte> bytes(input.begin(), input.end());  // ends where the allocation does
  const auto cubin = ll::read_cubin(bytes);
  if (!cubin) return 0;
  uint64_t sum = 0;
  for (const ll::CubinKernel& k : cubin->kernels) {
    for (const std::byte b : k.code) sum += std::to_integer<uint64_t>(b);
    if (cubin->find(k.function) != &k) std::abort();
  }
  if (sum > uint64_t{255} * size * cubin->kernels.size()) std::abort();
  return 0;
}
