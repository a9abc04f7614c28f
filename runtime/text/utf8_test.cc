#include "runtime/text/utf8.h"

#include <gtest/gtest.h>

namespace ll {
namespace {

TEST(Utf8, EveryCodePointReadsAsItWasWritten) {
  for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, c);
    const CodePoint read = decode_utf8(text + "x");
    ASSERT_TRUE(read.valid && read.value == c && read.size == text.size()) << c;
    for (size_t n = 1; n < text.size(); ++n) {
      const CodePoint part = decode_utf8(std::string_view(text).substr(0, n));
      ASSERT_TRUE(!part.valid && part.truncated && part.size == n) << c;
    }
  }
}

TEST(Utf8, RefusesWhatIsMalformed) {
  struct Case {
    std::string_view text;
    uint32_t size;  // of the first maximal subpart
  };
  for (const Case& c : {Case{"\x80", 1},
                        {"\xBF", 1},
                        {"\xC0\x80", 1},
                        {"\xC1\xBF", 1},
                        {"\xE0\x80\x80", 1},
                        {"\xED\xA0\x80", 1},
                        {"\xF0\x80\x80\x80", 1},
                        {"\xF4\x90\x80\x80", 1},
                        {"\xF5\x80", 1},
                        {"\xFF", 1},
                        {"\xE2\x82x", 2},
                        {"\xF0\x9F\x8Ex", 3},
                        {"\xC3x", 1}}) {
    const CodePoint read = decode_utf8(c.text);
    EXPECT_FALSE(read.valid);
    EXPECT_FALSE(read.truncated);
    EXPECT_EQ(read.size, c.size);
    EXPECT_FALSE(is_utf8(c.text));
  }
  EXPECT_EQ(decode_utf8("").size, 0u);
}

TEST(Utf8, BytesHaveLettersOfTheirOwn) {
  for (int b = 0; b < 256; ++b) EXPECT_EQ(letter_byte(byte_letter(static_cast<uint8_t>(b))), b);
  EXPECT_EQ(byte_letter(' '), 0x120u);
  EXPECT_EQ(byte_letter('\n'), 0x10Au);
  EXPECT_EQ(byte_letter('a'), 'a');
  EXPECT_EQ(byte_letter(0xAD), 0x143u);
  EXPECT_EQ(letter_byte(' '), -1);
  EXPECT_EQ(letter_byte(0x144), -1);
  EXPECT_EQ(letter_byte(0x10FFFF), -1);
}

}  // namespace
}  // namespace ll
