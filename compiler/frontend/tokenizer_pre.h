// The pre-tokenizers that tokenizer.ggml.pre names: one row for every name that llama.cpp knows.
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace ll {

// How a step cuts text. Regexes are in Oniguruma's syntax (tokenizer_regex.h), matches are isolated.
inline constexpr std::string_view kDigitGroupsStep = "digit groups";  // PreTokenizerStep::Kind::kDigitGroups
inline constexpr std::string_view kDigitGroupsBeforeBoundaryStep = "digit groups before a boundary";

// GPT-2's pattern, where a tokenizer names no other.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct PreTokenizerRow {
  // What the pieces are made of.
  enum class Letters {
    kBytes,      // GPT-2's letters for bytes, as a rule
    kMetaspace,  // UTF-8 with ' ' as U+2581; letters that are no token become byte tokens
    kUtf8,       // UTF-8 as it is
  };
  std::string_view names;                 // separated by spaces
  std::array<std::string_view, 6> steps;  // up to the first empty one
  bool ignore_merges = false;             // a piece that is a token stays whole
  bool add_bos = false;                   // unless tokenizer.ggml.add_bos_token says otherwise
  bool always_bos = false;                // whatever the file says
  bool no_default_bos = false;            // without tokenizer.ggml.bos_token_id there is none
  bool whole_newlines = false;            // a run of newlines that is a token stays whole
  Letters letters = Letters::kBytes;
};

// The row of a name; null when there is none.
const PreTokenizerRow* find_pre_tokenizer(std::string_view name);

// All names, for messages: "afmoe, a.x-4.0, ...".
std::string pre_tokenizer_names();

}  // namespace ll
