#include "runtime/text/jinja/format.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "runtime/text/jinja/print.h"
#include "runtime/text/jinja/unicode.h"

namespace ll::jinja {
namespace {

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

bool is_digit_char(char c) { return c >= '0' && c <= '9'; }

// Digits at text[at]; false when they exceed any sensible width.
bool read_count(std::string_view text, size_t& at, uint64_t& value) {
  value = 0;
  for (; at < text.size() && is_digit_char(text[at]); ++at) {
    value = value * 10 + static_cast<uint64_t>(text[at] - '0');
    if (value > (1 << 24)) return false;
  }
  return true;
}

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

// Pads to the width; `prefix` characters at the front (sign, 0x) stay there under '='.
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

}  // namespace

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

namespace {

// One %-conversion of a value.
Result<Text> percent_field(Machine& m, const V& v, Layout layout, bool zero, bool markup) {
  const char type = layout.type;
  if (type == 's' || type == 'r' || type == 'a') {
    Text text;
    if (type == 's' && markup && v.is(Kind::kString)) {
      text = escape_markup(v);
    } else {
      TRY_ASSIGN(text, type == 's' ? m.str(v) : m.repr(v));
    }
    if (layout.precision >= 0) text = first_chars(text, layout.precision);
    return pad(m, std::move(text), layout, '>', 0);
  }
  if (type == 'c') {
    if (v.is(Kind::kString)) {
      if (char_count(v.bytes()) != 1) return bad_data("%c requires int or char");
      return pad(m, v.text(), layout, '>', 0);
    }
    if (!v.is_integral()) return bad_data("%c requires int or char");
    if (layout.align == 0) layout.align = '>';
    return format_number(m, v, layout);
  }
  const bool integers = std::string_view("diuoxX").find(type) != std::string_view::npos;
  if (v.is(Kind::kUndefined)) return m.undefined_error(v);
  if (!v.is_number()) {
    if (!integers) return bad_data("must be real number, not {}", type_name(v));
    return bad_data("%{} format: {} is required, not {}", type,
                    type == 'd' || type == 'i' || type == 'u' ? "a real number" : "an integer", type_name(v));
  }
  if (zero && layout.align == 0) {
    layout.fill = "0";
    layout.align = '=';
  }
  if (!integers) return format_number(m, v, layout);
  if (v.is(Kind::kFloat) && (type == 'x' || type == 'X' || type == 'o')) {
    return bad_data("%{} format: an integer is required, not float", type);
  }
  V whole = v;
  if (v.is(Kind::kFloat)) {
    if (std::isnan(v.number)) return bad_data("cannot convert float NaN to integer");
    if (!(std::fabs(v.number) < 9.2e18)) return bad_data("integer does not fit 64 bits");
    whole = integer(static_cast<int64_t>(v.number), v.trusted);
  }
  const int64_t digits = layout.precision;
  layout.precision = -1;
  if (type == 'i' || type == 'u') layout.type = 'd';
  if (digits < 0) return format_number(m, whole, layout);
  Layout bare = layout;  // precision is the least number of digits
  bare.width = 0;
  TRY_ASSIGN(Text text, format_number(m, whole, bare));
  const size_t prefix = text.bytes.find_first_of("0123456789abcdefABCDEF");
  Layout zeros;
  zeros.fill = "0";
  zeros.align = '=';
  zeros.width = static_cast<uint64_t>(digits) + prefix;
  TRY_ASSIGN(text, pad(m, std::move(text), zeros, '=', prefix));
  return pad(m, std::move(text), layout, '>', prefix);
}

}  // namespace

Result<V> Machine::percent_format(const V& format, const V& arguments) {
  const Text& source = format.text();
  const std::string_view text = source.bytes;
  const bool markup = format.as<String>()->markup, mapping = arguments.is(Kind::kDict);
  size_t used = 0;
  const auto next = [&]() -> Result<V> {
    if (arguments.is(Kind::kTuple)) {
      if (used < arguments.items().size()) return arguments.items()[used++];
    } else if (used == 0) {
      ++used;
      return arguments;
    }
    return bad_data("not enough arguments for format string");
  };
  Text out;
  for (size_t at = 0; at < text.size();) {
    const size_t percent = std::min(text.find('%', at), text.size());
    out.append(source, at, percent);
    at = percent;
    if (at == text.size()) break;
    if (++at >= text.size()) return bad_data("incomplete format");
    Layout layout;
    bool zero = false, keyed = false;
    V v;
    if (text[at] == '(') {
      if (!mapping) return bad_data("format requires a mapping");
      size_t depth = 1, end = at + 1;
      for (; end < text.size(); ++end) {
        depth += text[end] == '(';
        depth -= text[end] == ')';
        if (depth == 0) break;
      }
      if (end >= text.size()) return bad_data("incomplete format key");
      const V key = string(source.sub(at + 1, end));
      const V* found = lookup(*arguments.as<Dict>(), key);
      if (found == nullptr) return bad_data("{}", quoted(key.bytes()));
      v = *found;
      keyed = true;
      at = end + 1;
    }
    for (; at < text.size(); ++at) {
      const char c = text[at];
      if (c == '-') {
        layout.align = '<';
      } else if (c == '+' || (c == ' ' && layout.sign != '+')) {
        layout.sign = c;
      } else if (c == '#') {
        layout.alternate = true;
      } else if (c == '0') {
        zero = true;
      } else if (c != ' ') {
        break;
      }
    }
    const auto count = [&](uint64_t& value) -> Status {
      if (at < text.size() && text[at] == '*') {
        ++at;
        TRY_ASSIGN(const V star, next());
        if (!star.is_integral()) return bad_data("* wants int");
        int64_t n = star.as_integer();
        if (n < 0) {
          layout.align = '<';
          n = n == std::numeric_limits<int64_t>::min() ? 0 : -n;
        }
        value = static_cast<uint64_t>(n);
        return check_string(value);
      }
      if (!read_count(text, at, value)) return bad_data("width too big");
      return {};
    };
    TRY(count(layout.width));
    if (at < text.size() && text[at] == '.') {
      ++at;
      uint64_t precision = 0;
      TRY(count(precision));
      layout.precision = static_cast<int64_t>(precision);
    }
    while (at < text.size() && (text[at] == 'h' || text[at] == 'l' || text[at] == 'L')) ++at;
    if (at >= text.size()) return bad_data("incomplete format");
    layout.type = text[at++];
    if (layout.type == '%') {
      out.append(source, at - 1, at);
      continue;
    }
    if (std::string_view("diouxXeEfFgGcrsa").find(layout.type) == std::string_view::npos) {
      const Char c = char_at(text, at - 1);
      return bad_data("unsupported format character '{}' ({:#x}) at index {}", text.substr(at - 1, c.size), c.code,
                      char_count(text.substr(0, at - 1)));
    }
    if (!keyed) {
      TRY_ASSIGN(v, next());
    }
    TRY_ASSIGN(const Text part, percent_field(*this, v, layout, zero, markup));
    TRY(check_string(out.size() + part.size()));
    out.append(part);
    work(1);
    if (over()) return check().error();
  }
  const size_t given = arguments.is(Kind::kTuple) ? arguments.items().size() : 1;
  const bool may_stay =
      mapping || arguments.is(Kind::kList) || arguments.is(Kind::kRange) || arguments.is(Kind::kUndefined);
  if (used < given && !(may_stay && used == 0)) return bad_data("not all arguments converted during string formatting");
  return string(std::move(out), markup);
}

namespace {

// str.format: parses one string; fields' specs may hold fields themselves, one level deep.
class BraceFormatter {
 public:
  BraceFormatter(Machine& m, const Args& args, bool markup) : m_(m), args_(args), markup_(markup) {}

  Result<Text> format(const Text& source, int depth) {
    if (depth > 2) return bad_data("Max string recursion exceeded");
    const std::string_view text = source.bytes;
    Text out;
    for (size_t at = 0; at < text.size();) {
      const size_t brace = std::min(text.find_first_of("{}", at), text.size());
      out.append(source, at, brace);
      at = brace;
      if (at == text.size()) break;
      if (at + 1 < text.size() && text[at + 1] == text[at]) {
        out.append(source, at, at + 1);
        at += 2;
        continue;
      }
      if (text[at] == '}') return bad_data("Single '}}' encountered in format string");
      size_t level = 1, end = at + 1;
      for (; end < text.size(); ++end) {
        level += text[end] == '{';
        level -= text[end] == '}';
        if (level == 0) break;
      }
      if (end >= text.size()) {
        if (at + 1 == text.size()) return bad_data("Single '{{' encountered in format string");
        return bad_data("expected '}}' before end of string");
      }
      TRY_ASSIGN(const Text part, field(source.sub(at + 1, end), depth));
      TRY(m_.check_string(out.size() + part.size()));
      out.append(part);
      at = end + 1;
      m_.work(1);
      TRY(m_.check());
    }
    return out;
  }

 private:
  Result<Text> field(const Text& field, int depth) {
    const std::string_view text = field.bytes;
    size_t end = 0;
    for (bool bracket = false; end < text.size(); ++end) {  // the name ends at ! or : outside of brackets
      if (text[end] == '[') bracket = true;
      if (text[end] == ']') bracket = false;
      if (!bracket && (text[end] == '!' || text[end] == ':')) break;
    }
    TRY_ASSIGN(V v, lookup(text.substr(0, end)));
    if (end < text.size() && text[end] == '!') {
      if (end + 1 >= text.size()) return bad_data("end of string while looking for conversion specifier");
      const char conversion = text[end + 1];
      if (conversion != 's' && conversion != 'r' && conversion != 'a') {
        return bad_data("Unknown conversion specifier {}", conversion);
      }
      TRY_ASSIGN(Text shown, conversion == 's' ? m_.str(v) : m_.repr(v));
      v = m_.string(std::move(shown));
      end += 2;
      if (end < text.size() && text[end] != ':') return bad_data("expected ':' after conversion specifier");
    }
    Text spec;
    if (end < text.size()) {
      TRY_ASSIGN(spec, format(field.sub(end + 1, text.size()), depth + 1));
    }
    TRY_ASSIGN(Text out, format_value(m_, v, spec.bytes));
    return markup_ ? escape_markup(m_.string(std::move(out), v.is(Kind::kString) && v.as<String>()->markup)) : out;
  }

  Result<V> lookup(std::string_view name) {
    const size_t end = std::min(name.find_first_of(".["), name.size());
    const std::string_view first = name.substr(0, end);
    const bool index = !first.empty() && std::all_of(first.begin(), first.end(), is_digit_char);
    V v;
    if (first.empty() || index) {
      if (numbering_ != Numbering::kNone && (numbering_ == Numbering::kManual) == first.empty()) {
        return bad_data("cannot switch from manual field specification to automatic field numbering");
      }
      numbering_ = first.empty() ? Numbering::kAutomatic : Numbering::kManual;
      uint64_t position = next_;
      size_t at = 0;
      if (first.empty()) {
        ++next_;
      } else if (!read_count(first, at, position)) {
        return bad_data("Too many decimal digits in format string");
      }
      if (position >= args_.positional.size()) return bad_data("tuple index out of range");
      v = args_.positional[position];
    } else {
      for (const auto& [key, held] : args_.named) {
        if (key.bytes() == first) v = held;
      }
      if (v.missing()) return bad_data("{}", quoted(first));
    }
    for (size_t at = end; at < name.size();) {
      if (name[at] == '.') {
        const size_t stop = std::min(name.find_first_of(".[", at + 1), name.size());
        if (stop == at + 1) return bad_data("Empty attribute in format string");
        TRY_ASSIGN(v, m_.attribute(v, m_.string(name.substr(at + 1, stop - at - 1), false)));
        at = stop;
      } else if (name[at] == '[') {
        const size_t stop = name.find(']', at);
        if (stop == std::string_view::npos) return bad_data("Missing ']' in format string");
        const std::string_view key = name.substr(at + 1, stop - at - 1);
        if (key.empty()) return bad_data("Empty attribute in format string");
        uint64_t position = 0;
        size_t digits = 0;
        const bool numeric = std::all_of(key.begin(), key.end(), is_digit_char);
        if (numeric && !read_count(key, digits, position)) return bad_data("Too many decimal digits in format string");
        TRY_ASSIGN(v, m_.item(v, numeric ? integer(static_cast<int64_t>(position), false) : m_.string(key, false)));
        at = stop + 1;
      } else {
        return bad_data("Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return v;
  }

  enum class Numbering : uint8_t { kNone, kAutomatic, kManual };
  Machine& m_;
  const Args& args_;
  bool markup_;
  Numbering numbering_ = Numbering::kNone;
  uint64_t next_ = 0;
};

}  // namespace

Result<V> Machine::brace_format(const V& format, const Args& args) {
  const bool markup = format.as<String>()->markup;
  BraceFormatter formatter(*this, args, markup);
  TRY_ASSIGN(Text out, formatter.format(format.text(), 0));
  return string(std::move(out), markup);
}

}  // namespace ll::jinja
