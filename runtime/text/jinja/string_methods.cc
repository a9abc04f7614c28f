#include "runtime/text/jinja/string_methods.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "runtime/text/jinja/print.h"
#include "runtime/text/jinja/unicode.h"

namespace ll::jinja {
namespace {

constexpr size_t kNowhere = std::string_view::npos;
constexpr int64_t kAll = std::numeric_limits<int64_t>::max();

// Linear in the sizes, unlike string_view::find.
size_t find_in(std::string_view text, std::string_view wanted, size_t from = 0) {
  if (from > text.size()) return kNowhere;
  const void* at = memmem(text.data() + from, text.size() - from, wanted.data(), wanted.size());
  return at == nullptr ? kNowhere : static_cast<size_t>(static_cast<const char*>(at) - text.data());
}

size_t find_last_in(std::string_view text, std::string_view wanted) {
  const std::string reversed(text.rbegin(), text.rend()), key(wanted.rbegin(), wanted.rend());
  const size_t at = find_in(reversed, key);
  return at == kNowhere ? kNowhere : text.size() - at - wanted.size();
}

Result<const std::string*> need_string(const V& v, const char* what = "") {
  if (v.is(Kind::kString)) return &v.bytes();
  return bad_data("{}must be str, not {}", what, type_name(v));
}

// An optional integer argument.
Result<int64_t> count_or(const V& v, int64_t fallback) {
  if (v.missing()) return fallback;
  if (v.is_integral()) return v.as_integer();
  if (v.is(Kind::kFloat)) return bad_data("'float' object cannot be interpreted as an integer");
  return bad_data("'{}' object cannot be interpreted as an integer", type_name(v));
}

struct Span {
  size_t begin = 0, end = 0;
  int64_t first = 0;   // in characters
  bool empty = false;  // start lies behind the end
};

// [start, end) of a string as slices count, for find and its like.
Result<Span> span_of(Machine& m, const V& self, const V& start, const V& end) {
  const auto& s = *self.as<String>();
  const int64_t size = m.char_length(s);
  const auto clamp = [&](const V& v, int64_t fallback) -> Result<int64_t> {
    if (v.missing() || v.is(Kind::kNone)) return fallback;
    if (!v.is_integral()) return bad_data("slice indices must be integers or None or have an __index__ method");
    const int64_t at = v.as_integer();
    return at < 0 ? std::max<int64_t>(0, at < -size ? 0 : at + size) : at;
  };
  Span span;
  int64_t last = 0;
  TRY_ASSIGN(span.first, clamp(start, 0));
  TRY_ASSIGN(last, clamp(end, size));
  last = std::min(last, size);
  span.empty = span.first > last;
  if (!span.empty) {
    span.begin = m.char_offset(s, span.first);
    span.end = m.char_offset(s, last);
  }
  return span;
}

template <bool kLast>
Result<V> find(Machine& m, const V& self, const Bound& a) {
  TRY(need_string(a[0]));
  TRY_ASSIGN(const Span span, span_of(m, self, a[1], a[2]));
  if (span.empty) return integer(-1, false);
  const std::string_view text = std::string_view(self.bytes()).substr(span.begin, span.end - span.begin);
  m.read(text.size());
  const size_t at = kLast ? find_last_in(text, a[0].bytes()) : find_in(text, a[0].bytes());
  if (at == kNowhere) return integer(-1, false);
  return integer(span.first + static_cast<int64_t>(char_count(text.substr(0, at))), false);
}

template <bool kLast>
Result<V> index(Machine& m, const V& self, const Bound& a) {
  TRY_ASSIGN(const V at, find<kLast>(m, self, a));
  if (at.integer < 0) return bad_data("substring not found");
  return at;
}

Result<V> count(Machine& m, const V& self, const Bound& a) {
  TRY(need_string(a[0]));
  TRY_ASSIGN(const Span span, span_of(m, self, a[1], a[2]));
  if (span.empty) return integer(0, false);
  const std::string_view text = std::string_view(self.bytes()).substr(span.begin, span.end - span.begin);
  const std::string& wanted = a[0].bytes();
  m.read(text.size());
  int64_t n = 0;
  if (wanted.empty()) return integer(static_cast<int64_t>(char_count(text)) + 1, false);
  for (size_t at = find_in(text, wanted); at != kNowhere; at = find_in(text, wanted, at + wanted.size())) ++n;
  return integer(n, false);
}

template <bool kEnd>
Result<V> starts_with(Machine& m, const V& self, const Bound& a) {
  TRY_ASSIGN(const Span span, span_of(m, self, a[1], a[2]));
  const std::string_view text = std::string_view(self.bytes()).substr(span.begin, span.end - span.begin);
  const auto matches = [&](const V& v) {
    return !span.empty && (kEnd ? text.ends_with(v.bytes()) : text.starts_with(v.bytes()));
  };
  const char* name = kEnd ? "endswith" : "startswith";
  if (a[0].is(Kind::kString)) return boolean(matches(a[0]));
  if (!a[0].is(Kind::kTuple)) {
    if (a[0].is(Kind::kUndefined)) return bad_data("{} first arg must be str or a tuple of str, not Undefined", name);
    return bad_data("{} first arg must be str or a tuple of str, not {}", name, type_name(a[0]));
  }
  for (const V& v : a[0].items()) {
    if (!v.is(Kind::kString)) return bad_data("tuple for {} must only contain str, not {}", name, type_name(v));
    if (matches(v)) return boolean(true);
  }
  return boolean(false);
}

// Pieces between whitespace, at most `limit` cuts, from the left or the right.
std::vector<V> split_space(Machine& m, const V& self, int64_t limit, bool from_right) {
  const std::string& text = self.bytes();
  std::vector<V> out;
  if (!from_right) {
    for (size_t at = lstrip_begin(text); at < text.size() && !m.over();) {
      size_t end = text.size();  // the last piece keeps the space behind it
      if (static_cast<int64_t>(out.size()) < limit) {
        for (end = at; end < text.size() && !is_space(char_at(text, end).code);) end += char_at(text, end).size;
      }
      out.push_back(m.substring(self, at, end));
      at = end + lstrip_begin(std::string_view(text).substr(end));
    }
    return out;
  }
  for (size_t end = rstrip_end(text); end > 0 && !m.over();) {
    size_t at = 0;
    if (static_cast<int64_t>(out.size()) < limit) {
      for (at = end; at > 0 && !is_space(char_before(text, at).code);) at -= char_before(text, at).size;
    }
    out.push_back(m.substring(self, at, end));
    end = rstrip_end(std::string_view(text).substr(0, at));
  }
  std::reverse(out.begin(), out.end());
  return out;
}

template <bool kRight>
Result<V> split(Machine& m, const V& self, const Bound& a) {
  TRY_ASSIGN(int64_t limit, count_or(a[1], -1));
  if (limit < 0) limit = kAll;
  if (a[0].missing() || a[0].is(Kind::kNone)) return m.list(split_space(m, self, limit, kRight));
  if (!a[0].is(Kind::kString)) return bad_data("must be str or None, not {}", type_name(a[0]));
  const std::string& separator = a[0].bytes();
  if (separator.empty()) return bad_data("empty separator");
  const std::string_view text = self.bytes();
  m.read(text.size());
  std::vector<size_t> cuts;
  if (!kRight) {
    for (size_t at = 0; static_cast<int64_t>(cuts.size()) < limit; at = cuts.back() + separator.size()) {
      const size_t found = find_in(text, separator, at);
      if (found == kNowhere) break;
      cuts.push_back(found);
    }
  } else {
    const std::string reversed(text.rbegin(), text.rend()), key(separator.rbegin(), separator.rend());
    for (size_t at = 0; static_cast<int64_t>(cuts.size()) < limit;) {
      const size_t found = find_in(reversed, key, at);
      if (found == kNowhere) break;
      cuts.push_back(text.size() - found - separator.size());
      at = found + separator.size();
    }
    std::reverse(cuts.begin(), cuts.end());
  }
  TRY(m.check_items(5 * cuts.size()));
  std::vector<V> out;
  size_t begin = 0;
  for (const size_t cut : cuts) {
    out.push_back(m.substring(self, begin, cut));
    begin = cut + separator.size();
  }
  out.push_back(m.substring(self, begin, text.size()));
  return m.list(std::move(out));
}

template <bool kRight>
Result<V> partition(Machine& m, const V& self, const Bound& a) {
  TRY(need_string(a[0]));
  const std::string& separator = a[0].bytes();
  if (separator.empty()) return bad_data("empty separator");
  m.read(self.bytes().size());
  const size_t at = kRight ? find_last_in(self.bytes(), separator) : find_in(self.bytes(), separator);
  const size_t size = self.bytes().size();
  if (at == kNowhere) {
    const V empty = m.substring(self, 0, 0);
    return kRight ? m.tuple({empty, empty, self}) : m.tuple({self, empty, empty});
  }
  return m.tuple({m.substring(self, 0, at), m.substring(self, at, at + separator.size()),
                  m.substring(self, at + separator.size(), size)});
}

template <std::string (*kMap)(std::string_view)>
Result<V> mapped(Machine& m, const V& self, const Bound&) {
  return map_text(m, self, kMap);
}

template <int kSides>
Result<V> strip_method(Machine& m, const V& self, const Bound& a) {
  return strip(m, self, a[0], kSides);
}

template <char kAlign>
Result<V> justify(Machine& m, const V& self, const Bound& a) {
  TRY_ASSIGN(const int64_t width, count_or(a[0], 0));
  return center(m, self, width, a[1], kAlign);
}

Result<V> zero_fill(Machine& m, const V& self, const Bound& a) {
  TRY_ASSIGN(const int64_t width, count_or(a[0], 0));
  const int64_t size = m.char_length(*self.as<String>());
  if (width <= size) return self;
  TRY(m.check_string(self.bytes().size() + static_cast<uint64_t>(width - size)));
  const size_t sign = !self.bytes().empty() && (self.bytes()[0] == '-' || self.bytes()[0] == '+') ? 1 : 0;
  Text text = self.text().sub(0, sign);
  text.append(std::string(static_cast<size_t>(width - size), '0'), false);
  text.append(self.text(), sign, self.bytes().size());
  return m.string(std::move(text), self.as<String>()->markup);
}

Result<V> expand_tabs(Machine& m, const V& self, const Bound& a) {
  TRY_ASSIGN(const int64_t size, count_or(a[0], 8));
  const std::string& source = self.bytes();
  Text text;
  int64_t column = 0;
  size_t begin = 0;
  for (size_t at = 0; at < source.size();) {
    const Char c = char_at(source, at);
    if (c.code == '\t') {
      text.append(self.text(), begin, at);
      begin = at + 1;
      const int64_t spaces = size > 0 ? size - column % size : 0;
      TRY(m.check_string(text.size() + static_cast<uint64_t>(spaces)));
      text.append(std::string(static_cast<size_t>(spaces), ' '), false);
      column += spaces;
    } else {
      column = c.code == '\n' || c.code == '\r' ? 0 : column + 1;
    }
    at += c.size;
  }
  text.append(self.text(), begin, source.size());
  return m.string(std::move(text), self.as<String>()->markup);
}

Result<V> remove_prefix(Machine& m, const V& self, const Bound& a) {
  TRY(need_string(a[0], "removeprefix() argument "));
  return self.bytes().starts_with(a[0].bytes()) ? m.substring(self, a[0].bytes().size(), self.bytes().size()) : self;
}

Result<V> remove_suffix(Machine& m, const V& self, const Bound& a) {
  TRY(need_string(a[0], "removesuffix() argument "));
  return self.bytes().ends_with(a[0].bytes()) ? m.substring(self, 0, self.bytes().size() - a[0].bytes().size()) : self;
}

Result<V> replace_method(Machine& m, const V& self, const Bound& a) {
  for (size_t i = 0; i < 2; ++i) {
    if (!a[i].is(Kind::kString)) return bad_data("replace() argument {} must be str, not {}", i + 1, type_name(a[i]));
  }
  TRY_ASSIGN(const int64_t count, count_or(a[2], -1));
  return replace(m, self, a[0], a[1], count);
}

Result<V> join_method(Machine& m, const V& self, const Bound& a) {
  const auto items = m.items_of(a[0]);
  if (!items) {
    if (m.over() || a[0].is(Kind::kIterator)) return items.error();
    return bad_data("can only join an iterable");
  }
  const std::vector<V>& list = **items;
  for (size_t i = 0; i < list.size(); ++i) {
    if (!list[i].is(Kind::kString)) {
      return bad_data("sequence item {}: expected str instance, {} found", i, type_name(list[i]));
    }
  }
  return join(m, self, list);
}

Result<V> split_lines_method(Machine& m, const V& self, const Bound& a) {
  return m.list(split_lines(m, self, !a[0].missing() && m.truth(a[0])));
}

// Every character satisfies `test`, and there is one.
template <bool (*kTest)(uint32_t)>
Result<V> all_chars(Machine& m, const V& self, const Bound&) {
  const std::string& text = self.bytes();
  m.read(text.size());
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text, at);
    if (!kTest(c.code)) return boolean(false);
    at += c.size;
  }
  return boolean(!text.empty());
}

// All cased characters have the case, and there is one.
template <bool kUpper>
Result<V> cased(Machine& m, const V& self, const Bound&) {
  const std::string& text = self.bytes();
  m.read(text.size());
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text, at);
    if (is_title(c.code) || (kUpper ? is_lower(c.code) : is_upper(c.code))) return boolean(false);
    any |= kUpper ? is_upper(c.code) : is_lower(c.code);
    at += c.size;
  }
  return boolean(any);
}

Result<V> titled(Machine& m, const V& self, const Bound&) {
  const std::string& text = self.bytes();
  m.read(text.size());
  bool any = false, inside = false;
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text, at);
    at += c.size;
    if (is_upper(c.code) || is_title(c.code)) {
      if (inside) return boolean(false);
      any = inside = true;
    } else if (is_lower(c.code)) {
      if (!inside) return boolean(false);
      any = true;
    } else {
      inside = false;
    }
  }
  return boolean(any);
}

Result<V> ascii(Machine&, const V& self, const Bound&) { return boolean(self.as<String>()->ascii); }

Result<V> printable(Machine& m, const V& self, const Bound& a) {
  return self.bytes().empty() ? Result<V>(boolean(true)) : all_chars<is_printable>(m, self, a);
}

Result<V> identifier(Machine& m, const V& self, const Bound& a) {
  if (self.bytes().empty() || !is_name_start(char_at(self.bytes(), 0).code)) return boolean(false);
  return all_chars<is_name_part>(m, self, a);
}

constexpr StringMethod kMethods[] = {
    {"capitalize", "", 0, false, mapped<capitalize>},
    {"casefold", "", 0, false, mapped<case_fold>},
    {"center", "width,fillchar", 1, false, justify<'^'>},
    {"count", "sub,start,end", 1, false, count},
    {"endswith", "suffix,start,end", 1, false, starts_with<true>},
    {"expandtabs", "tabsize", 0, true, expand_tabs},
    {"find", "sub,start,end", 1, false, find<false>},
    {"format", "", 0, true, nullptr},
    {"format_map", "mapping", 1, false, nullptr},
    {"index", "sub,start,end", 1, false, index<false>},
    {"isalnum", "", 0, false, all_chars<is_alnum>},
    {"isalpha", "", 0, false, all_chars<is_alpha>},
    {"isascii", "", 0, false, ascii},
    {"isdecimal", "", 0, false, all_chars<is_decimal>},
    {"isdigit", "", 0, false, all_chars<is_digit>},
    {"isidentifier", "", 0, false, identifier},
    {"islower", "", 0, false, cased<false>},
    {"isnumeric", "", 0, false, all_chars<is_numeric>},
    {"isprintable", "", 0, false, printable},
    {"isspace", "", 0, false, all_chars<is_space>},
    {"istitle", "", 0, false, titled},
    {"isupper", "", 0, false, cased<true>},
    {"join", "iterable", 1, false, join_method},
    {"ljust", "width,fillchar", 1, false, justify<'<'>},
    {"lower", "", 0, false, mapped<to_lower>},
    {"lstrip", "chars", 0, false, strip_method<1>},
    {"partition", "sep", 1, false, partition<false>},
    {"removeprefix", "prefix", 1, false, remove_prefix},
    {"removesuffix", "suffix", 1, false, remove_suffix},
    {"replace", "old,new,count", 2, false, replace_method},
    {"rfind", "sub,start,end", 1, false, find<true>},
    {"rindex", "sub,start,end", 1, false, index<true>},
    {"rjust", "width,fillchar", 1, false, justify<'>'>},
    {"rpartition", "sep", 1, false, partition<true>},
    {"rsplit", "sep,maxsplit", 0, true, split<true>},
    {"rstrip", "chars", 0, false, strip_method<2>},
    {"split", "sep,maxsplit", 0, true, split<false>},
    {"splitlines", "keepends", 0, true, split_lines_method},
    {"startswith", "prefix,start,end", 1, false, starts_with<false>},
    {"strip", "chars", 0, false, strip_method<3>},
    {"swapcase", "", 0, false, mapped<swap_case>},
    {"title", "", 0, false, mapped<to_title>},
    {"upper", "", 0, false, mapped<to_upper>},
    {"zfill", "width", 1, false, zero_fill},
};

}  // namespace

std::span<const StringMethod> string_methods() { return kMethods; }

V map_text(Machine& m, const V& v, std::string (*map)(std::string_view)) {
  const Text& text = v.text();
  std::string mapped = map(text.bytes);
  Text out;
  if (v.as<String>()->ascii && mapped.size() == text.size()) {
    out.bytes = std::move(mapped);
    out.marks = text.marks;
  } else {
    out = Text(mapped, text.all_trusted());
  }
  return m.string(std::move(out), v.as<String>()->markup);
}

Result<V> strip(Machine& m, const V& v, const V& chars, int sides) {
  const std::string_view text = v.bytes();
  size_t begin = 0, end = text.size();
  if (chars.missing() || chars.is(Kind::kNone)) {
    if (sides & 1) begin = lstrip_begin(text);
    if (sides & 2) end = std::max(begin, rstrip_end(text));
    return m.substring(v, begin, end);
  }
  if (!chars.is(Kind::kString))
    return bad_data("{} arg must be None or str", sides == 3 ? "strip" : sides == 1 ? "lstrip" : "rstrip");
  std::vector<uint32_t> set;
  for (size_t at = 0; at < chars.bytes().size();) {
    const Char c = char_at(chars.bytes(), at);
    set.push_back(c.code);
    at += c.size;
  }
  std::sort(set.begin(), set.end());
  m.read(16 * set.size());
  const auto in_set = [&](uint32_t code) { return std::binary_search(set.begin(), set.end(), code); };
  while ((sides & 1) && begin < end && in_set(char_at(text, begin).code)) begin += char_at(text, begin).size;
  while ((sides & 2) && end > begin && in_set(char_before(text, end).code)) end -= char_before(text, end).size;
  return m.substring(v, begin, end);
}

Result<V> replace(Machine& m, const V& v, const V& from, const V& to, int64_t count) {
  const Text& text = v.text();
  const std::string& wanted = from.bytes();
  const bool markup = v.as<String>()->markup;
  const Text with = markup ? escape_markup(to) : to.text();
  if (count < 0) count = kAll;
  m.read(text.size());
  Text out;
  size_t begin = 0;
  if (wanted.empty()) {  // between all characters
    for (size_t at = 0; count > 0; --count) {
      TRY(m.check_string(out.size() + with.size()));
      out.append(with);
      if (at >= text.size()) break;
      const size_t size = char_at(text.bytes, at).size;
      out.append(text, at, at + size);
      begin = at += size;
    }
  } else {
    for (; count > 0; --count) {
      const size_t at = find_in(text.bytes, wanted, begin);
      if (at == kNowhere) break;
      TRY(m.check_string(out.size() + (at - begin) + with.size()));
      out.append(text, begin, at);
      out.append(with);
      begin = at + wanted.size();
    }
    if (begin == 0) return v;
  }
  TRY(m.check_string(out.size() + (text.size() - begin)));
  out.append(text, begin, text.size());
  return m.string(std::move(out), markup);
}

Result<V> center(Machine& m, const V& v, int64_t width, const V& fill, char align) {
  const int64_t size = m.char_length(*v.as<String>());
  std::string_view with = " ";
  if (!fill.missing()) {
    if (!fill.is(Kind::kString))
      return bad_data("The fill character must be a unicode character, not {}", type_name(fill));
    if (char_count(fill.bytes()) != 1) return bad_data("The fill character must be exactly one character long");
    with = fill.bytes();
  }
  if (width <= size) return v;
  const auto missing = static_cast<uint64_t>(width - size);
  TRY(m.check_string(missing));
  TRY(m.check_string(v.bytes().size() + missing * with.size()));
  // CPython puts the odd one left when the width is odd.
  const uint64_t left = align == '<'   ? 0
                        : align == '>' ? missing
                                       : missing / 2 + (missing & static_cast<uint64_t>(width) & 1);
  Text out;
  for (uint64_t i = 0; i < left; ++i) out.append(with, false);
  out.append(v.text());
  for (uint64_t i = left; i < missing; ++i) out.append(with, false);
  return m.string(std::move(out), v.as<String>()->markup);
}

std::vector<V> split_lines(Machine& m, const V& v, bool keep_ends) {
  const std::string& text = v.bytes();
  std::vector<V> out;
  size_t begin = 0;
  for (size_t at = 0; at < text.size() && !m.over();) {
    const Char c = char_at(text, at);
    const size_t end = at;
    at += c.size;
    if (!is_line_break(c.code)) continue;
    if (c.code == '\r' && at < text.size() && text[at] == '\n') ++at;
    out.push_back(m.substring(v, begin, keep_ends ? at : end));
    begin = at;
  }
  if (begin < text.size()) out.push_back(m.substring(v, begin, text.size()));
  return out;
}

Result<V> join(Machine& m, const V& separator, const std::vector<V>& items) {
  const bool markup = separator.as<String>()->markup;
  Text out;
  for (size_t i = 0; i < items.size(); ++i) {
    TRY(m.check_string(out.size() + separator.bytes().size() + items[i].bytes().size()));
    if (i > 0) out.append(separator.text());
    out.append(markup ? escape_markup(items[i]) : items[i].text());
  }
  return m.string(std::move(out), markup);
}

}  // namespace ll::jinja
