#include "runtime/text/jinja/format.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "runtime/text/jinja/print.h"
#include "runtime/text/jinja/unicode.h"

namespace ll::jinja {
namespace {

Result<Layout> parse_layout(std::string_view spec) {
  Layout layout;
  size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  if (!spec.empty()) {
    const size_t size = char_at(spec, 0).size;
    if (spec.size() > size && is_align(spec[size])) {
      layout.fill = spec.substr(0, size);
      layout.align = spec[size];
      at = size + 1;
    } else if (is_align(spec[0])) {
      layout.align = spec[0];
      at = 1;
    }
  }
  const auto take = [&](std::string_view any) -> char {
    return at < spec.size() && any.find(spec[at]) != std::string_view::npos ? spec[at++] : '\0';
  };
  layout.sign = take("+- ");
  layout.alternate = take("#") != 0;
  if (take("0") != 0 && layout.align == 0) {
    layout.fill = "0";
    layout.align = '=';
  }
  uint64_t precision = 0;
  if (!read_count(spec, at, layout.width)) return bad_data("Too many decimal digits in format string");
  layout.grouping = take(",_");
  if (take(".") != 0) {
    if (at >= spec.size() || !is_digit_char(spec[at])) return bad_data("Format specifier missing precision");
    if (!read_count(spec, at, precision)) return bad_data("Too many decimal digits in format string");
    layout.precision = static_cast<int64_t>(precision);
  }
  if (at < spec.size()) layout.type = spec[at++];
  if (at < spec.size()) return bad_data("Invalid format specifier");
  return layout;
}

std::string group_digits(std::string digits, char separator, size_t every) {
  const size_t whole = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  for (size_t at = whole; at > every; at -= every) digits.insert(at - every, 1, separator);
  return digits;
}

std::string to_base(uint64_t value, unsigned base, bool upper) {
  std::string out;
  do {
    const auto digit = static_cast<char>(value % base);
    out.push_back(static_cast<char>(digit < 10 ? '0' + digit : (upper ? 'A' : 'a') + digit - 10));
    value /= base;
  } while (value != 0);
  std::reverse(out.begin(), out.end());
  return out;
}

std::string print_double(char type, bool alternate, int precision, double value) {
  const std::string pattern = fmt::format("%{}.*{}", alternate ? "#" : "", type);
  char buffer[512];
  const int size = std::snprintf(buffer, sizeof(buffer), pattern.c_str(), precision, value);
  if (size < static_cast<int>(sizeof(buffer))) return {buffer, static_cast<size_t>(size)};
  std::string out(static_cast<size_t>(size) + 1, '\0');
  std::snprintf(out.data(), out.size(), pattern.c_str(), precision, value);
  out.pop_back();
  return out;
}

// The digits of |value|, without sign.
Result<std::string> float_digits(const Layout& layout, double value) {
  value = std::fabs(value);
  const bool upper = layout.type == 'E' || layout.type == 'F' || layout.type == 'G';
  if (std::isnan(value)) return std::string(upper ? "NAN" : "nan") + (layout.type == '%' ? "%" : "");
  if (std::isinf(value)) return std::string(upper ? "INF" : "inf") + (layout.type == '%' ? "%" : "");
  if (layout.precision > 100'000) return bad_data("precision too big");
  const int precision = static_cast<int>(layout.precision);
  const int given = precision < 0 ? 6 : precision;
  switch (layout.type) {
    case 0: {
      if (precision < 0) return float_repr(value);
      std::string digits = print_double('g', false, std::max(precision, 1), value);
      if (digits.find_first_of(".en") == std::string::npos) digits += ".0";
      return digits;
    }
    case '%':
      return print_double('f', layout.alternate, given, value * 100) + "%";
    case 'n':
      return print_double('g', layout.alternate, given, value);
    default:
      return print_double(layout.type, layout.alternate, given, value);
  }
}

}  // namespace

bool read_count(std::string_view text, size_t& at, uint64_t& value) {
  value = 0;
  for (; at < text.size() && is_digit_char(text[at]); ++at) {
    value = value * 10 + static_cast<uint64_t>(text[at] - '0');
    if (value > (1 << 24)) return false;
  }
  return true;
}

Result<Text> pad(Machine& m, Text text, const Layout& layout, char default_align, size_t prefix) {
  const size_t length = char_count(text.bytes);
  if (length >= layout.width) return text;
  const size_t missing = layout.width - length;
  TRY(m.check_string(text.size() + missing * layout.fill.size()));
  const char align = layout.align != 0 ? layout.align : default_align;
  const size_t before = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  Text out;
  if (align == '=') out.append(text, 0, prefix);
  for (size_t i = 0; i < before; ++i) out.append(layout.fill, false);
  out.append(text, align == '=' ? prefix : 0, text.size());
  for (size_t i = before; i < missing; ++i) out.append(layout.fill, false);
  return out;
}

Result<Text> format_number(Machine& m, const V& v, Layout layout) {
  const bool floats = layout.type != 0 && std::string_view("eEfFgG%").find(layout.type) != std::string_view::npos;
  if (!v.is(Kind::kFloat) && !floats) {
    const int64_t signed_value = v.as_integer();
    if (layout.precision >= 0) return bad_data("Precision not allowed in integer format specifier");
    if (layout.type == 'c') {
      if (signed_value < 0 || signed_value > 0x10FFFF || (signed_value >= 0xD800 && signed_value < 0xE000)) {
        return bad_data("%c arg not in range(0x110000)");
      }
      std::string one;
      append_char(one, static_cast<uint32_t>(signed_value));
      return pad(m, Text(one, false), layout, '<', 0);
    }
    const unsigned base = layout.type == 'b' ? 2 : layout.type == 'o' ? 8 : (layout.type | 0x20) == 'x' ? 16 : 10;
    if (base == 10 && layout.type != 0 && layout.type != 'd' && layout.type != 'n') {
      return bad_data("Unknown format code '{}' for object of type '{}'", layout.type, type_name(v));
    }
    const uint64_t magnitude =
        signed_value < 0 ? 0 - static_cast<uint64_t>(signed_value) : static_cast<uint64_t>(signed_value);
    std::string digits = to_base(magnitude, base, layout.type == 'X');
    if (layout.grouping != 0) digits = group_digits(std::move(digits), layout.grouping, base == 10 ? 3 : 4);
    std::string prefix = signed_value < 0 ? "-" : layout.sign == '+' ? "+" : layout.sign == ' ' ? " " : "";
    if (layout.alternate && base != 10) prefix += std::string("0") + layout.type;
    return pad(m, Text(prefix + digits, v.trusted), layout, '>', prefix.size());
  }
  if (layout.type != 0 && !floats && layout.type != 'n') {
    return bad_data("Unknown format code '{}' for object of type '{}'", layout.type, type_name(v));
  }
  TRY_ASSIGN(std::string digits, float_digits(layout, v.as_number()));
  if (layout.grouping != 0) digits = group_digits(std::move(digits), layout.grouping, 3);
  const std::string prefix = std::signbit(v.as_number()) && !std::isnan(v.as_number()) ? "-"
                             : layout.sign == '+'                                      ? "+"
                             : layout.sign == ' '                                      ? " "
                                                                                       : "";
  return pad(m, Text(prefix + digits, v.trusted), layout, '>', prefix.size());
}

Text first_chars(const Text& text, int64_t count) {
  size_t at = 0;
  for (; count > 0 && at < text.size(); --count) at += char_at(text.bytes, at).size;
  return text.sub(0, at);
}

Result<Text> format_value(Machine& m, const V& v, std::string_view spec) {
  if (spec.empty()) return m.str(v);
  if (!v.is(Kind::kString) && !v.is_number()) {
    return bad_data("unsupported format string passed to {}.__format__", type_name(v));
  }
  TRY_ASSIGN(const Layout layout, parse_layout(spec));
  if (v.is_number()) return format_number(m, v, layout);
  if (layout.type != 0 && layout.type != 's') {
    return bad_data("Unknown format code '{}' for object of type '{}'", layout.type, type_name(v));
  }
  if (layout.sign != 0) return bad_data("Sign not allowed in string format specifier");
  if (layout.align == '=' && layout.fill != "0")
    return bad_data("'=' alignment not allowed in string format specifier");
  Layout text_layout = layout;
  if (layout.align == '=') text_layout.align = '<';
  m.read(v.bytes().size());
  return pad(m, layout.precision >= 0 ? first_chars(v.text(), layout.precision) : v.text(), text_layout, '<', 0);
}

}  // namespace ll::jinja
