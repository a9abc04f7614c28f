// What both tokenizer readers do with a vocabulary and its merges.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>

#include "runtime/text/tokenizer_spec.h"

namespace ll {

// From texts to symbols: tokens, and behind them texts that only merges name. Where tokens share a text, the last one
// counts.
class SymbolTable {
 public:
  // `spec.tokens` must be complete; extra symbols are added to `spec`.
  explicit SymbolTable(TokenizerSpec& spec);

  int32_t find(std::string_view text) const;  // -1: none
  int32_t find_or_add(std::string_view text);

 private:
  TokenizerSpec& spec_;
  std::unordered_map<std::string_view, int32_t> tokens_;  // views into spec_.tokens
  std::unordered_map<std::string, int32_t> extra_;
};

// True for "<0x00>" .. "<0xFF>".
bool is_byte_token(std::string_view text);

// Texts that mark the end of a turn or of a text in the vocabularies that are about (llama.cpp's list).
bool is_end_of_generation(std::string_view text);

}  // namespace ll
