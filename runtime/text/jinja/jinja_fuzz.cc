// Compiles the bytes as a template, or loads them as a program, and renders with a fixed input under small budgets.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runtime/text/jinja/json_value.h"
#include "runtime/text/jinja/template.h"

namespace {

ll::jinja::Value input() {
  auto value = ll::jinja::parse_json(
      R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": " é <b> "},
          {"role": "assistant", "content": null, "tool_calls": [{"name": "f", "arguments": {"a": [1, 2.5, true], "b": {}}}]}],
          "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
          "bos_token": "<s>", "s": "Hello, W", "n": 7, "f": 2.5, "l": [3, 1, 2], "d": {"b": 1, "a": 2}})");
  if (!value) std::abort();
  return *std::move(value);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ll::jinja;
  static const Value kInput = input();
  RenderOptions options;
  options.now = CivilTime{2026, 1, 2, 3, 4, 5};
  options.max_steps = 2'000;
  options.max_output = 1 << 14;
  options.max_memory = 1 << 20;
  const auto run = [&](const Template& compiled) {
    const auto rendered = compiled.render(kInput, options);
    if (!rendered) return;
    // The pieces cover the text, and neighbours differ.
    size_t bytes = 0;
    for (size_t i = 0; i < rendered->segments.size(); ++i) {
      bytes += rendered->segments[i].size;
      if (i > 0 && rendered->segments[i].trusted == rendered->segments[i - 1].trusted) std::abort();
    }
    if (bytes != rendered->text.size()) std::abort();
  };
  if (const auto program = Template::deserialize({reinterpret_cast<const std::byte*>(data), size})) {
    run(*program);
    return 0;
  }
  const auto compiled = Template::compile({reinterpret_cast<const char*>(data), size});
  if (!compiled) return 0;
  const std::string bytes = compiled->serialize();
  const auto loaded = Template::deserialize(std::as_bytes(std::span(bytes)));
  if (!loaded) std::abort();
  run(*loaded);
  return 0;
}
