#include "runtime/serve/stop_matcher.h"

#include <gtest/gtest.h>

namespace ll::serve {
namespace {

struct Outcome {
  std::string text;
  std::optional<size_t> found;
  bool operator==(const Outcome&) const = default;
};

Outcome run(const std::vector<std::string>& stops, std::string_view text, size_t piece) {
  StopMatcher matcher(stops);
  Outcome outcome;
  for (size_t at = 0; at < text.size(); at += piece) matcher.push(text.substr(at, piece), outcome.text);
  matcher.finish(outcome.text);
  outcome.found = matcher.found();
  return outcome;
}

TEST(StopMatcher, TextIsTheSameHoweverItIsCut) {
  struct Case {
    std::vector<std::string> stops;
    std::string text, out;
    std::optional<size_t> found;
  };
  const Case cases[] = {
      {{}, "abc", "abc", {}},
      {{""}, "abc", "abc", {}},
      {{"END"}, "go on EN END of it", "go on EN ", 0},
      {{"END"}, "go on EN", "go on EN", {}},
      {{"aab"}, "aaaaab", "aaa", 0},
      {{"abcd", "bc"}, "xabcd", "xa", 1},
      {{"bc", "abc"}, "xabcd", "x", 1},
      {{"\n\n", "User:"}, "hi\nUser: you", "hi\n", 1},
      {{"ananas"}, "bananananas!", "banan", 0},
      {{"ü"}, "grün", "gr", 0},
  };
  for (const Case& c : cases) {
    for (size_t piece = 1; piece <= c.text.size(); ++piece) {
      EXPECT_EQ(run(c.stops, c.text, piece), (Outcome{c.out, c.found})) << c.text << " by " << piece;
    }
  }
}

TEST(StopMatcher, HoldsBackOnlyWhatMayBeAStop) {
  StopMatcher matcher({"STOP"});
  std::string out;
  EXPECT_FALSE(matcher.push("abcST", out));
  EXPECT_EQ(out, "abc");
  EXPECT_FALSE(matcher.push("A", out));
  EXPECT_EQ(out, "abcSTA");
  EXPECT_FALSE(matcher.push("STO", out));
  EXPECT_EQ(out, "abcSTA");
  EXPECT_TRUE(matcher.push("P and on", out));
  EXPECT_EQ(out, "abcSTA");
  EXPECT_TRUE(matcher.push("more", out));
  matcher.finish(out);
  EXPECT_EQ(out, "abcSTA");
}

}  // namespace
}  // namespace ll::serve
