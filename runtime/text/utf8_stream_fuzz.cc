// Bytes as they come out of a model, one token a byte and in larger pieces: every part that is given out is valid
// UTF-8, and all parts together are what the whole text is, with U+FFFD for what is no letter.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "runtime/text/detokenizer.h"
#include "runtime/text/utf8.h"

namespace {

std::string repaired(std::string_view bytes, bool per_byte) {
  std::string out;
  while (!bytes.empty()) {
    const ll::CodePoint letter = ll::decode_utf8(bytes);
    if (letter.valid) {
      out += bytes.substr(0, letter.size);
    } else {
      for (uint32_t i = 0; i < (per_byte ? letter.size : 1); ++i) out += ll::kReplacementCharacter;
    }
    bytes.remove_prefix(letter.size);
  }
  return out;
}

void expect(bool holds) {
  if (!holds) std::abort();
}

const ll::Tokenizer& byte_tokenizer() {
  static const ll::Tokenizer tokenizer = [] {
    ll::TokenizerSpec spec;
    for (int byte = 0; byte < 256; ++byte) {
      std::string text;
      ll::append_utf8(text, ll::byte_letter(static_cast<uint8_t>(byte)));
      spec.tokens.push_back(text);
      spec.types.push_back(ll::TokenType::kNormal);
    }
    spec.pre_tokenizer.push_back({.kind = ll::PreTokenizerStep::Kind::kByteLevel});
    spec.decoder.push_back({.kind = ll::DecoderStep::Kind::kByteLevel});
    auto made = ll::Tokenizer::create(std::move(spec));
    expect(static_cast<bool>(made));
    return *std::move(made);
  }();
  return tokenizer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), std::min<size_t>(size, 4096));
  for (const bool per_byte : {false, true}) {
    for (const size_t piece : {size_t{1}, size_t{2}, size_t{5}, bytes.size() + 1}) {
      ll::LetterAssembler letters(per_byte);
      std::string all;
      for (size_t at = 0; at < bytes.size(); at += piece) {
        std::string part;
        letters.push(bytes.substr(at, piece), part);
        expect(ll::is_utf8(part));
        all += part;
      }
      letters.finish(all);
      expect(all == repaired(bytes, per_byte));
    }
  }
  ll::Detokenizer text(byte_tokenizer());
  std::string all;
  for (const char byte : bytes) {
    const std::string part = text.push(static_cast<uint8_t>(byte));
    expect(ll::is_utf8(part));
    all += part;
  }
  const std::string last = text.finish();
  expect(ll::is_utf8(last));
  expect(all + last == repaired(bytes, false));
  return 0;
}
