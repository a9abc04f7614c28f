#include "compiler/frontend/tokenizer_regex.h"

#include <gtest/gtest.h>

#include "runtime/text/regex.h"

namespace ll {
namespace {

// What the translated pattern finds, separated by '|'.
std::string found(std::string_view oniguruma, std::string_view text) {
  auto pattern = regex_to_pcre2(oniguruma);
  if (!pattern) return "refused: " + pattern.error().message;
  auto regex = Regex::compile(*pattern);
  if (!regex) return "no regex: " + regex.error().message;
  RegexRun run(text.size());
  std::vector<TextSpan> matches;
  if (const Status status = run.find_all(*regex, text, matches); !status) return "failed: " + status.error().message;
  std::string out;
  for (const TextSpan m : matches) out += std::string(text.substr(m.begin, m.end - m.begin)) + "|";
  return out;
}

TEST(TokenizerRegex, KeepsWhatMeansTheSame) {
  EXPECT_EQ(found("a+|b{2}|c{1,2}?", "aabbbcc"), "aa|bb|c|c|");
  EXPECT_EQ(found("(?i:'s|'T)|(?>x+)y?+", "'S't'sxxy"), "'S|'t|'s|xxy|");
  EXPECT_EQ(found("(?<=a)b(?!c)", "abcab"), "b|");
  EXPECT_EQ(found(R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})", "ab 1234-x"), "ab|123|4|-x|");
  EXPECT_EQ(found(R"([!-/\[\]\\^-])", "a[b]\\^-+"), "[|]|\\|^|-|+|");
  EXPECT_EQ(found("^b$", "a\nb\nc"), "b|");
}

TEST(TokenizerRegex, SpellsOutWhatDiffers) {
  EXPECT_EQ(found(R"(\s)", " \xC2\x85\xE1\xA0\x8E"), " |\xC2\x85|");  // U+0085 is white space, U+180E is not
  EXPECT_EQ(found(R"(\h+)", "xafF09 z"), "afF09|");                   // hexadecimal digits
  EXPECT_EQ(found(R"(\v)", "\n\v"), "\v|");
  EXPECT_EQ(found(R"(\w+)", "a\xCC\x81_1-\xE2\x92\xB6"), "a\xCC\x81_1|\xE2\x92\xB6|");
  EXPECT_EQ(found(R"(\b\w)", "ab c\xC3\xA9"), "a|c|");
  EXPECT_EQ(found(R"(\p{^L}+)", "ab12c"), "12|");
  EXPECT_EQ(found(R"(\p{Han}+|\p{Hiragana}+)", "\xE6\xBC\xA2\xE3\x81\x8B\xE3\x80\x82"), "\xE6\xBC\xA2|\xE3\x81\x8B|");
  EXPECT_EQ(found(R"(\u4e00|\x41|\x{6f22})", "A\xE6\xBC\xA2\xE4\xB8\x80"), "A|\xE6\xBC\xA2|\xE4\xB8\x80|");
  EXPECT_EQ(found("a{,2}b", "aaab"), "aab|");
  EXPECT_EQ(found("a{x}", "a{x}"), "a{x}|");
  EXPECT_EQ(found("(?m:a.b)", "a\nb"), "a\nb|");
}

TEST(TokenizerRegex, RefusesWhatItDoesNotKnow) {
  for (const char* pattern : {"(a)\\1",        "\\k<n>", "(?<n>a)", "(?(1)a)", "a\\Gb", "\\K",   "\\X",   "[[:alpha:]]",
                              "[a[bc]]",       "[a&&b]", "[\\W]",   "(*FAIL)", "(?~a)", "a{2}+", "a{2}?", "\\xC3",
                              "\\p{Nonesuch}", "\\p{L",  "[a",      "[]",      "(",     "a**b(", "\\"}) {
    auto pcre2 = regex_to_pcre2(pattern);
    ASSERT_FALSE(pcre2) << pattern << " became " << *pcre2;
    EXPECT_EQ(pcre2.error().code, Code::kUnsupported) << pcre2.error().message;
    EXPECT_NE(pcre2.error().message.find(pattern), std::string::npos) << pcre2.error().message;
  }
}

}  // namespace
}  // namespace ll
