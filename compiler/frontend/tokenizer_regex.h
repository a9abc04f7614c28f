// From Oniguruma's regex syntax, which tokenizer.json uses, to PCRE2's, which specs use.
#pragma once

#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace ll {

// The same language in PCRE2 syntax under Regex's options (UTF, UCP, MULTILINE). Oniguruma with Ruby syntax:
// https://github.com/kkos/oniguruma/blob/master/doc/RE. What means the same in both is copied; classes whose letters
// differ
// (\s, \w, \h, \b, scripts) are spelled out; anything else (back references, conditions, subexpression calls, nested
// classes and their intersections, verbs, ...) is kUnsupported, which names it.
Result<std::string> regex_to_pcre2(std::string_view oniguruma);

}  // namespace ll
