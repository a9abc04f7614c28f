// tokenizer.json from anywhere: reading it, carrying it through a plan's section, and running the tokenizer it
// describes.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "compiler/frontend/tokenizer_json.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"

namespace {

constexpr std::string_view kText =
    "Hello  w\xC3\xB6rld's 123\n\n<s>\xE6\xBC\xA2\xF0\x9F\x8E\x89 a\xCC\x81 \xFF\xE2\x96\x81x ";

void expect(bool held) {
  if (!held) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  auto spec = ll::tokenizer_from_json(file, "");
  if (!spec) return 0;
  const std::string section = ll::serialize_tokenizer(*spec);
  auto again = ll::deserialize_tokenizer(std::as_bytes(std::span(section.data(), section.size())));
  expect(static_cast<bool>(again));
  expect(ll::serialize_tokenizer(*again) == section);
  auto tokenizer = ll::Tokenizer::create(*std::move(again));
  if (!tokenizer) return 0;
  for (const bool special : {false, true}) {
    const auto ids = tokenizer->encode(kText, {.add_special = special, .parse_special = special});
    if (!ids) continue;  // a pattern that backtracks without end
    for (const int32_t id : *ids) expect(id >= 0 && static_cast<size_t>(id) < tokenizer->vocab_size());
    expect(ll::is_utf8(tokenizer->decode(*ids, {.show_special = special})));
  }
  return 0;
}
