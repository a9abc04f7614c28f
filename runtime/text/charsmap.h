// SentencePiece's precompiled_charsmap: a double array (Darts) from strings to their replacements.
// Layout: u32 size of the array in bytes, the array (u32 units), then the replacements, each ended by a zero byte. A
// unit holds its label in bits 0-7 and 31, "a value follows" in bit 8, "offset is scaled by 256" in bit 9 and its
// offset in bits 10-30. https://github.com/google/sentencepiece/blob/master/src/normalizer.cc
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace ll {

class CharsMap {
 public:
  static Result<CharsMap> parse(std::string_view precompiled);

  // A string of the map at the start of `text`, and what it becomes. length 0: none.
  struct Match {
    size_t length = 0;
    std::string_view replacement;
  };
  Match shortest(std::string_view text) const { return search(text, false); }
  Match longest(std::string_view text) const { return search(text, true); }

 private:
  Match search(std::string_view text, bool longest) const;
  std::vector<uint32_t> units_;
  std::string replacements_;  // ends with a zero byte
};

}  // namespace ll
