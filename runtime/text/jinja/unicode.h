// Characters as Python's str sees them. Code points come from utf8proc; full upper- and title-case from a table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ll::jinja {

// The character at text[at] and its length in bytes. A byte that begins no character reads as itself, one byte long.
struct Char {
  uint32_t code;
  uint32_t size;
};
Char char_at(std::string_view text, size_t at);
// The character that ends before `end` (> 0).
Char char_before(std::string_view text, size_t end);
void append_char(std::string& out, uint32_t code);
size_t char_count(std::string_view text);
bool is_ascii(std::string_view text);

bool is_space(uint32_t code);       // str.isspace, str.strip, \s
bool is_line_break(uint32_t code);  // str.splitlines
bool is_printable(uint32_t code);   // str.isprintable
bool is_alpha(uint32_t code);
bool is_decimal(uint32_t code);
bool is_digit(uint32_t code);
bool is_numeric(uint32_t code);
bool is_alnum(uint32_t code);
bool is_upper(uint32_t code);
bool is_lower(uint32_t code);
bool is_title(uint32_t code);
bool is_name_start(uint32_t code);
bool is_name_part(uint32_t code);

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string to_title(std::string_view text);
std::string capitalize(std::string_view text);
std::string swap_case(std::string_view text);
std::string case_fold(std::string_view text);

// text without what str.strip() removes at its sides: [begin, end).
size_t lstrip_begin(std::string_view text);
size_t rstrip_end(std::string_view text);

}  // namespace ll::jinja
