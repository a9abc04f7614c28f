// UTF-8 as the tokenizers see it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ll {

// One code point at the start of a text. size 0: the text is empty. valid false: the bytes there are no well-formed
// UTF-8 (overlong, surrogate, beyond U+10FFFF, stray or missing continuation); then size is the length of the longest
// beginning of a code point there, at least 1, which is what one U+FFFD stands for (Unicode 15, 3.9, "maximal
// subparts").
struct CodePoint {
  uint32_t value = 0;
  uint32_t size = 0;
  bool valid = false;
  bool truncated = false;  // not valid, but more bytes could make it so
};
CodePoint decode_utf8(std::string_view text);

void append_utf8(std::string& out, uint32_t code_point);

bool is_utf8(std::string_view text);

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// The letter that stands for a byte in byte-level vocabularies (GPT-2's bytes_to_unicode): printable Latin-1 stands for
// itself, the other 68 bytes for U+0100.. in order.
uint32_t byte_letter(uint8_t byte);
// The byte that a letter stands for; -1 when it stands for none.
int letter_byte(uint32_t code_point);

// Unicode's White_Space property.
bool is_white_space(uint32_t code_point);

// Rust's and Oniguruma's \w: letters, marks, numbers that are letters or digits, connectors and circled letters.
bool is_word_letter(uint32_t code_point);

// Rust's char::is_numeric: general category N.
bool is_numeric(uint32_t code_point);

// General category Nd.
bool is_digit(uint32_t code_point);

// General category P, and all of ASCII's punctuation and symbols.
bool is_punctuation(uint32_t code_point);

}  // namespace ll
