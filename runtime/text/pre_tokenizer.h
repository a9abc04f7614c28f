// The pre-tokenizer of a tokenizer: PreTokenizerStep after PreTokenizerStep, from a text to pieces.
#pragma once

#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/text/regex.h"
#include "runtime/text/tokenizer_spec.h"

namespace ll {

// A text and the parts of it that are left, from left to right, none of them empty.
struct Pieces {
  std::string text;
  std::vector<TextSpan> spans;
  bool starts_text = false;  // `text` starts where the whole text to encode starts
};

class PreTokenizer {
 public:
  // Compiles patterns. `steps` must outlive it.
  static Result<PreTokenizer> create(const std::vector<PreTokenizerStep>& steps);
  bool empty() const { return steps_.empty(); }
  Status apply(Pieces& pieces, RegexRun& run) const;

 private:
  struct Step {
    const PreTokenizerStep* spec = nullptr;
    Regex regex;
    bool has_regex = false;
  };
  std::vector<Step> steps_;
};

}  // namespace ll
