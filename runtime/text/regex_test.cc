#include "runtime/text/regex.h"

#include <gtest/gtest.h>

namespace ll {
namespace {

TEST(Regex, SaysWhatIsWrongWithAPattern) {
  const auto regex = Regex::compile("a(b");
  ASSERT_FALSE(regex);
  EXPECT_EQ(regex.error().code, Code::kBadData);
  EXPECT_NE(regex.error().message.find("'a(b'"), std::string::npos);
  EXPECT_FALSE(Regex::compile("\\C"));
  EXPECT_FALSE(Regex::compile("\xFF"));
}

TEST(Regex, StepsOverEmptyMatches) {
  auto regex = Regex::compile("x*(?=\xC3\xA9|$)");
  ASSERT_TRUE(regex);
  RegexRun run(100);
  std::vector<TextSpan> matches;
  ASSERT_TRUE(run.find_all(*regex, "xx\xC3\xA9\xC3\xA9", matches));
  ASSERT_EQ(matches.size(), 3u);
  EXPECT_EQ(matches[0].end, 2u);
  EXPECT_EQ(matches[1].begin, 4u);
  EXPECT_EQ(matches[2].begin, 6u);
}

// PCRE2 would look up a letter beyond all letters, and one that the text ends in.
TEST(Regex, TextThatIsNoUtf8IsAnError) {
  auto regex = Regex::compile("[^\\s\\p{L}\\p{N}]+");
  ASSERT_TRUE(regex);
  for (const std::string_view text : {"\xFF\xFF\xFF\xFF\xFF\xFF", "a\xE6", "\xBC\xA2", "\xED\xA0\x80"}) {
    RegexRun run(text.size());
    std::vector<TextSpan> matches;
    const Status status = run.find_all(*regex, text, matches);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::kBadData);
    EXPECT_TRUE(matches.empty());
  }
}

// The pattern tries 2^n ways: an error.
TEST(Regex, BacktrackingWithoutEndIsAnError) {
  auto regex = Regex::compile("(?:a+)+[bc]");
  ASSERT_TRUE(regex);
  const std::string text(5000, 'a');
  RegexRun run(text.size());
  std::vector<TextSpan> matches;
  const Status status = run.find_all(*regex, text, matches);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kUnsupported);
}

// Long but linear work is none: half a million backtracking steps in one search.
TEST(Regex, LongRunsAreNoError) {
  auto regex = Regex::compile("\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+");
  ASSERT_TRUE(regex);
  const std::string text = std::string(500'000, ' ') + "x";
  RegexRun run(text.size());
  std::vector<TextSpan> matches;
  const Status status = run.find_all(*regex, text, matches);
  ASSERT_TRUE(status) << status.error().message;
  ASSERT_EQ(matches.size(), 2u);
  EXPECT_EQ(matches[0].end, 499'999u);
}

}  // namespace
}  // namespace ll
