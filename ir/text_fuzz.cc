// Any bytes give a graph or an error; a graph prints, and the text reads back as the same graph.
#include <cstdint>
#include <cstdlib>

#include "ir/text.h"
#include "ir/verifier.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ll::ir;
  const auto graph = parse({reinterpret_cast<const char*>(data), size}, "input");
  if (!graph) return 0;
  const std::string text = print(*graph);
  const auto again = parse(text, "printed");
  if (!again || !same(*graph, *again) || print(*again) != text) std::abort();
  (void)verify(*graph).operator bool();
  return 0;
}
