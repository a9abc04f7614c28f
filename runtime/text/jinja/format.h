// Python's format mini-language, and what its two formatting operations share.
#pragma once

#include "runtime/text/jinja/machine.h"

namespace ll::jinja {

// A field's layout, of both of Python's formatting languages.
struct Layout {
  std::string fill = " ";
  char align = 0;  // < > ^ =
  char sign = 0;   // + - space
  bool alternate = false;
  char grouping = 0;  // , _
  uint64_t width = 0;
  int64_t precision = -1;
  char type = 0;
};

inline bool is_digit_char(char c) { return c >= '0' && c <= '9'; }

// Reads digits at text[at], none being 0; false when they exceed any sensible width.
bool read_count(std::string_view text, size_t& at, uint64_t& value);
// Pads to the layout's width; `prefix` characters at the front (sign, 0x) stay there under '='.
Result<Text> pad(Machine& m, Text text, const Layout& layout, char default_align, size_t prefix);
Result<Text> format_number(Machine& m, const V& v, Layout layout);
Text first_chars(const Text& text, int64_t count);

// format(v, spec)
Result<Text> format_value(Machine& m, const V& v, std::string_view spec);

}  // namespace ll::jinja
