// Text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/text/tokenizer_spec.h"

namespace ll {

// Bytes [begin, end) of a text.
struct TextRange {
  size_t begin = 0, end = 0;
};

struct EncodeOptions {
  bool add_special = false;  // put TokenizerSpec::prefix and suffix around the ids
  bool parse_special =
      false;  // special tokens written out in the text become their ids; else they are text like any other
  // With parse_special: only those that lie within one of these ranges, which ascend and do not touch. The text has to
  // be UTF-8 (kUsage). All other text is cut and joined to tokens as if the ranges were not there.
  std::optional<std::span<const TextRange>> special_ranges{};
};

struct DecodeOptions {
  bool show_special = false;  // write control and unknown tokens out; else they leave no text
  bool continues = false;     // the ids go on after others, so what the decoder does to the first token is not done
};

// Safe to use from several threads at once. Movable.
class Tokenizer {
 public:
  // Checks the spec (check_tokenizer) and compiles its patterns: kBadData. For 128k tokens this takes some 20 ms.
  static Result<Tokenizer> create(TokenizerSpec spec);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Bytes that are not UTF-8 become U+FFFD each, as llama.cpp has it (HF takes no such text), except where the
  // vocabulary has tokens for single bytes and no step looks at letters ("llama" vocabularies): there they become those
  // tokens. kUsage: more than kMaxTextToEncode bytes. kUnsupported: a pattern backtracks beyond all bounds on this
  // text.
  Result<std::vector<int32_t>> encode(std::string_view text, const EncodeOptions& options = {}) const;

  // Text of any ids; those outside the vocabulary leave none. Always UTF-8: bytes that make no letter become U+FFFD.
  // The same as pushing the ids through a Detokenizer (detokenizer.h).
  std::string decode(std::span<const int32_t> ids, const DecodeOptions& options = {}) const;

  size_t vocab_size() const;
  std::string_view token_text(int32_t id) const;    // as the vocabulary spells it; empty for ids outside
  std::string_view decoded_text(int32_t id) const;  // what decoding starts from: the normalized form of an added token
  int32_t find(std::string_view token) const;       // -1: no token has this text
  const TokenizerSpec& spec() const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ll
