// Added tokens: those that are cut out of a text before the model sees it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/regex.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/tokenizer_spec.h"
#include "runtime/text/vocabulary.h"

namespace ll {

// A stretch of text: an added token (id >= 0), or what is between them.
struct Cut {
  TextSpan span;
  int32_t id = -1;
};

// Where special tokens may be found in a text.
struct SpecialPlaces {
  bool anywhere = false;
  std::span<const TextRange> ranges{};  // else: within one of these

  bool nowhere() const { return !anywhere && ranges.empty(); }
  bool allow(size_t begin, size_t end) const;
};

class AddedTokens {
 public:
  // `added` must outlive it. texts[i]: what is looked for in place of added[i]; empty ones are left out.
  void build(const std::vector<AddedToken>& added, const std::vector<std::string>& texts, AddedTokenOrder order);

  bool empty() const { return trie_.empty(); }

  // Appends the stretches of `text` from left to right; none of those without an id is empty. Special tokens are cut
  // out only where `special` allows.
  void cut(std::string_view text, const SpecialPlaces& special, std::vector<Cut>& out) const;

 private:
  void cut_leftmost_longest(std::string_view text, const SpecialPlaces& special, std::vector<Cut>& out) const;
  void cut_longest_first(std::string_view text, const SpecialPlaces& special, std::vector<Cut>& out) const;

  const std::vector<AddedToken>* added_ = nullptr;
  AddedTokenOrder order_ = AddedTokenOrder::kLeftmostLongest;
  ByteTrie trie_;  // values: places in *added_
};

}  // namespace ll
