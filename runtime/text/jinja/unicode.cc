#include "runtime/text/jinja/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>

#include "runtime/text/jinja/unicode_tables.h"
#include "runtime/text/utf8.h"

namespace ll::jinja {
namespace {

utf8proc_category_t category(uint32_t code) { return utf8proc_category(static_cast<utf8proc_int32_t>(code)); }

template <size_t N>
bool in_ranges(const uint32_t (&ranges)[N][2], uint32_t code) {
  return std::any_of(std::begin(ranges), std::end(ranges), [&](const auto& r) { return code >= r[0] && code <= r[1]; });
}

const LongCase* long_case(uint32_t code) {
  const auto* row = std::lower_bound(std::begin(kLongCases), std::end(kLongCases), code,
                                     [](const LongCase& r, uint32_t c) { return r.code < c; });
  return row != std::end(kLongCases) && row->code == code ? row : nullptr;
}

void append_upper(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out.push_back(static_cast<char>(code >= 'a' && code <= 'z' ? code - 32 : code));
  } else if (const LongCase* row = long_case(code)) {
    out += row->upper;
  } else {
    append_char(out, static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(code))));
  }
}

void append_title(std::string& out, uint32_t code) {
  if (const LongCase* row = long_case(code)) {
    out += row->title;
  } else {
    append_char(out, static_cast<uint32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(code))));
  }
}

bool is_cased(uint32_t code) { return is_upper(code) || is_lower(code) || is_title(code); }

// Unicode's Case_Ignorable, nearly: marks, format characters, modifiers and the word-internal punctuation.
bool is_case_ignorable(uint32_t code) {
  static constexpr uint32_t kPunctuation[] = {0x27, 0x2E, 0x3A, 0xB7, 0x387, 0x5F4, 0x2018, 0x2019, 0x2024, 0x2027};
  if (std::find(std::begin(kPunctuation), std::end(kPunctuation), code) != std::end(kPunctuation)) return true;
  const auto c = category(code);
  return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_ME || c == UTF8PROC_CATEGORY_CF ||
         c == UTF8PROC_CATEGORY_LM || c == UTF8PROC_CATEGORY_SK;
}

// The letter sigma at the end of a word has a lower case of its own.
bool ends_word(std::string_view text, size_t sigma) {
  bool before = false;
  for (size_t at = sigma; at > 0 && !before;) {
    const Char c = char_before(text, at);
    at -= c.size;
    if (is_case_ignorable(c.code)) continue;
    before = is_cased(c.code);
    break;
  }
  if (!before) return false;
  for (size_t at = sigma + 2; at < text.size();) {
    const Char c = char_at(text, at);
    at += c.size;
    if (!is_case_ignorable(c.code)) return !is_cased(c.code);
  }
  return true;
}

void append_lower(std::string& out, std::string_view text, size_t at, uint32_t code) {
  if (code < 0x80) {
    out.push_back(static_cast<char>(code >= 'A' && code <= 'Z' ? code + 32 : code));
  } else if (code == 0x130) {
    out += "i\xCC\x87";
  } else if (code == 0x3A3) {
    append_char(out, ends_word(text, at) ? 0x3C2 : 0x3C3);
  } else {
    append_char(out, static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
  }
}

template <class F>
std::string map_chars(std::string_view text, F&& append) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text, at);
    append(out, at, c.code);
    at += c.size;
  }
  return out;
}

}  // namespace

Char char_at(std::string_view text, size_t at) {
  const auto first = static_cast<unsigned char>(text[at]);
  if (first < 0x80) return {first, 1};
  const CodePoint point = decode_utf8(text.substr(at, 4));
  return point.valid ? Char{point.value, point.size} : Char{first, 1};
}

Char char_before(std::string_view text, size_t end) {
  for (size_t size = 1; size <= 4 && size <= end; ++size) {
    if ((static_cast<unsigned char>(text[end - size]) & 0xC0) == 0x80) continue;
    const Char c = char_at(text, end - size);
    if (c.size == size) return c;
    break;
  }
  return {static_cast<unsigned char>(text[end - 1]), 1};
}

void append_char(std::string& out, uint32_t code) { append_utf8(out, code); }

size_t char_count(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

bool is_space(uint32_t code) {
  if (code < 0x80) return code == ' ' || (code >= 9 && code <= 13) || (code >= 0x1C && code <= 0x1F);
  return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
         code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool is_line_break(uint32_t code) {
  return (code >= 10 && code <= 13) || (code >= 0x1C && code <= 0x1E) || code == 0x85 || code == 0x2028 ||
         code == 0x2029;
}

bool is_printable(uint32_t code) {
  if (code < 0x7F) return code >= 0x20;
  switch (category(code)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

bool is_alpha(uint32_t code) {
  const auto c = category(code);
  return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}
bool is_decimal(uint32_t code) { return category(code) == UTF8PROC_CATEGORY_ND; }
bool is_digit(uint32_t code) { return is_decimal(code) || in_ranges(kDigits, code); }
bool is_numeric(uint32_t code) {
  const auto c = category(code);
  return (c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO) || in_ranges(kNumericLetters, code);
}
bool is_alnum(uint32_t code) { return is_alpha(code) || is_numeric(code); }
bool is_upper(uint32_t code) {
  if (code < 0x80) return code >= 'A' && code <= 'Z';
  return category(code) == UTF8PROC_CATEGORY_LU || (code >= 0x2160 && code <= 0x216F) ||
         (code >= 0x24B6 && code <= 0x24CF) || (code >= 0x1F130 && code <= 0x1F149) ||
         (code >= 0x1F150 && code <= 0x1F169) || (code >= 0x1F170 && code <= 0x1F189);
}
bool is_lower(uint32_t code) {
  if (code < 0x80) return code >= 'a' && code <= 'z';
  return utf8proc_islower(static_cast<utf8proc_int32_t>(code)) != 0;
}
bool is_title(uint32_t code) { return category(code) == UTF8PROC_CATEGORY_LT; }

bool is_name_start(uint32_t code) {
  if (code < 0x80) return code == '_' || is_upper(code) || is_lower(code);
  return is_alpha(code) || category(code) == UTF8PROC_CATEGORY_NL;
}
bool is_name_part(uint32_t code) {
  if (code < 0x80) return is_name_start(code) || (code >= '0' && code <= '9');
  const auto c = category(code);
  return is_alnum(code) || c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_PC ||
         code == 0xB7 || code == 0x387;
}

std::string to_upper(std::string_view text) {
  return map_chars(text, [](std::string& out, size_t, uint32_t code) { append_upper(out, code); });
}

std::string to_lower(std::string_view text) {
  return map_chars(text, [&](std::string& out, size_t at, uint32_t code) { append_lower(out, text, at, code); });
}

std::string to_title(std::string_view text) {
  bool inside = false;
  return map_chars(text, [&](std::string& out, size_t at, uint32_t code) {
    if (inside) {
      append_lower(out, text, at, code);
    } else {
      append_title(out, code);
    }
    inside = is_cased(code);
  });
}

std::string capitalize(std::string_view text) {
  return map_chars(text, [&](std::string& out, size_t at, uint32_t code) {
    if (at == 0) {
      append_title(out, code);
    } else {
      append_lower(out, text, at, code);
    }
  });
}

std::string swap_case(std::string_view text) {
  return map_chars(text, [&](std::string& out, size_t at, uint32_t code) {
    if (is_upper(code)) {
      append_lower(out, text, at, code);
    } else if (is_lower(code)) {
      append_upper(out, code);
    } else {
      append_char(out, code);
    }
  });
}

std::string case_fold(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text, at);
    at += c.size;
    utf8proc_int32_t folded[8];
    int boundary = 0;
    const auto n =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.code), folded, 8, UTF8PROC_CASEFOLD, &boundary);
    if (n <= 0 || n > 8) append_char(out, c.code);
    for (utf8proc_ssize_t i = 0; i < n && n <= 8; ++i) append_char(out, static_cast<uint32_t>(folded[i]));
  }
  return out;
}

size_t lstrip_begin(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Char c = char_at(text, at);
    if (!is_space(c.code)) break;
    at += c.size;
  }
  return at;
}

size_t rstrip_end(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const Char c = char_before(text, end);
    if (!is_space(c.code)) break;
    end -= c.size;
  }
  return end;
}

}  // namespace ll::jinja
