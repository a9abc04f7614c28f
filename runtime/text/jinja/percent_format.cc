// Python's "..." % arguments.
#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/text/jinja/format.h"
#include "runtime/text/jinja/print.h"
#include "runtime/text/jinja/unicode.h"

namespace ll::jinja {
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

}  // namespace ll::jinja
