// Regular expressions of pre-tokenizers: PCRE2 on UTF-8 with Unicode properties, and a bound on the work.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace ll {

// Bytes [begin, end) of a text.
struct TextSpan {
  uint32_t begin = 0, end = 0;
};

// A compiled pattern: UTF and UCP on, ^ and $ at every line (as Oniguruma has them), no code execution, no JIT.
// Movable; const use from several threads is safe.
class Regex {
 public:
  // kBadData with PCRE2's message and the place.
  static Result<Regex> compile(std::string_view pattern);

 private:
  friend class RegexRun;
  struct Free {
    void operator()(void* code) const;
  };
  std::unique_ptr<void, Free> code_;
  std::string pattern_;
};

// What one thread needs to search, and how much work it may still do. Make one for each text to encode.
class RegexRun {
 public:
  // `text_bytes`: size of the whole text; the work allowed grows with it.
  explicit RegexRun(size_t text_bytes);
  ~RegexRun();
  RegexRun(const RegexRun&) = delete;
  RegexRun& operator=(const RegexRun&) = delete;

  // Appends every match in `text` from left to right. After an empty match the search goes on one letter later; an
  // empty match that touches the one before it does not count. kBadData when the text is not UTF-8; kUnsupported when
  // the pattern backtracks beyond all bounds on it.
  Status find_all(const Regex& regex, std::string_view text, std::vector<TextSpan>& matches);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ll
