// The normalizer of a tokenizer: NormalizerStep after NormalizerStep over a text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/text/charsmap.h"
#include "runtime/text/regex.h"
#include "runtime/text/tokenizer_spec.h"

namespace ll {

class Normalizer {
 public:
  // Compiles patterns and charsmaps. `steps` must outlive it.
  static Result<Normalizer> create(const std::vector<NormalizerStep>& steps);

  bool empty() const { return steps_.empty(); }
  // False when every step works byte by byte, so that the text need not be UTF-8.
  bool needs_utf8() const;

  // Rewrites `text`.
  Status apply(std::string& text, RegexRun& run) const;

 private:
  struct Step {
    const NormalizerStep* spec = nullptr;
    Regex regex;
    CharsMap charsmap;
  };
  std::vector<Step> steps_;
};

// Every '<byte>' of the text becomes its GPT-2 letter.
void append_byte_letters(std::string& out, std::string_view text);

}  // namespace ll
