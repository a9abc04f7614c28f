// Jinja2's filters. Those that Python evaluates lazily are evaluated at once here; their errors wait behind the last
// item.
#include <algorithm>
#include <iterator>

#include "runtime/text/jinja/filter_arguments.h"
#include "runtime/text/jinja/machine.h"
#include "runtime/text/jinja/number_filters.h"
#include "runtime/text/jinja/print.h"
#include "runtime/text/jinja/sequence_filters.h"
#include "runtime/text/jinja/string_methods.h"
#include "runtime/text/jinja/unicode.h"

namespace ll::jinja {

Result<V> soft_string(Machine& m, const V& v) {
  if (v.is(Kind::kString)) return v;
  TRY_ASSIGN(Text text, m.str(v));
  return m.string(std::move(text));
}

Result<int64_t> integer_argument(const V& v, int64_t fallback) {
  if (v.missing()) return fallback;
  if (v.is_integral()) return v.as_integer();
  return bad_data("'{}' object cannot be interpreted as an integer", type_name(v));
}

namespace {

Result<V> attr(Machine& m, const V& v, const Bound& a) {
  if (!a[0].is(Kind::kString)) return bad_data("attribute name must be string, not '{}'", type_name(a[0]));
  if (v.is(Kind::kUndefined)) return m.undefined_error(v);
  const V found = m.native_attribute(v, a[0].bytes());
  return found.missing() ? m.undefined_attribute(v, a[0]) : found;
}

template <std::string (*kMap)(std::string_view)>
Result<V> mapped(Machine& m, const V& v, const Bound&) {
  TRY_ASSIGN(const V text, soft_string(m, v));
  return map_text(m, text, kMap);
}

// Words begin behind - whitespace ( { [ <, unlike in str.title.
std::string title_words(std::string_view text) {
  std::string out;
  const auto separates = [](uint32_t c) {
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || is_space(c);
  };
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    const bool separator = separates(char_at(text, at).code);
    while (end < text.size() && separates(char_at(text, end).code) == separator) end += char_at(text, end).size;
    const size_t first = at + char_at(text, at).size;
    out += to_upper(text.substr(at, first - at)) + to_lower(text.substr(first, end - first));
    at = end;
  }
  return out;
}

Result<V> center_filter(Machine& m, const V& v, const Bound& a) {
  TRY_ASSIGN(const V text, soft_string(m, v));
  TRY_ASSIGN(const int64_t width, integer_argument(a[0], 80));
  return center(m, text, width, {}, '^');
}

Result<V> default_filter(Machine& m, const V& v, const Bound& a) {
  const bool boolean_test = !a[1].missing() && m.truth(a[1]);
  if (v.is(Kind::kUndefined) || (boolean_test && !m.truth(v))) return a[0].missing() ? m.string("", true) : a[0];
  return v;
}

Result<V> escape_filter(Machine& m, const V& v, const Bound&) {
  TRY_ASSIGN(const V text, soft_string(m, v));
  return m.string(escape_markup(text), true);
}

Result<V> force_escape(Machine& m, const V& v, const Bound&) {
  TRY_ASSIGN(const V text, soft_string(m, v));
  return m.string(escape_markup(m.string(text.text())), true);
}

Result<V> safe(Machine& m, const V& v, const Bound&) {
  TRY_ASSIGN(const V text, soft_string(m, v));
  return m.string(text.text(), true);
}

Result<V> string_filter(Machine& m, const V& v, const Bound&) { return soft_string(m, v); }

Result<V> trim(Machine& m, const V& v, const Bound& a) {
  TRY_ASSIGN(const V text, soft_string(m, v));
  return strip(m, text, a[0], 3);
}

Result<V> replace_filter(Machine& m, const V& v, const Bound& a) {
  TRY_ASSIGN(Text text, m.str(v));
  TRY_ASSIGN(Text from, m.str(a[0]));
  TRY_ASSIGN(Text to, m.str(a[1]));
  TRY_ASSIGN(const int64_t count, integer_argument(a[2].is(Kind::kNone) ? V{} : a[2], -1));
  return replace(m, m.string(std::move(text)), m.string(std::move(from)), m.string(std::move(to)), count);
}

Result<V> indent(Machine& m, const V& v, const Bound& a) {
  Text step;
  if (!a[0].missing() && a[0].is(Kind::kString)) {
    step = a[0].text();
  } else {
    TRY_ASSIGN(const int64_t width, integer_argument(a[0], 4));
    TRY(m.check_string(static_cast<uint64_t>(std::max<int64_t>(width, 0))));
    step = Text(std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' '), false);
  }
  const bool first = !a[1].missing() && m.truth(a[1]), blank = !a[2].missing() && m.truth(a[2]);
  if (v.is(Kind::kUndefined)) return m.undefined_error(v);
  if (v.is(Kind::kList)) return bad_data("'list' object has no attribute 'splitlines'");
  if (!v.is(Kind::kString)) return bad_data("unsupported operand type(s) for +=: '{}' and 'str'", type_name(v));
  Text source = v.text();
  source.append("\n", source.all_trusted());
  const std::vector<V> lines = split_lines(m, m.string(std::move(source)), false);
  Text out;
  if (first) out.append(step);
  for (size_t i = 0; i < lines.size(); ++i) {
    const Text& line = lines[i].text();
    TRY(m.check_string(out.size() + 1 + step.size() + line.size()));
    if (i > 0) out.append("\n", line.all_trusted());
    if (i > 0 && (blank || line.size() > 0)) out.append(step);
    out.append(line);
  }
  return m.string(std::move(out), v.as<String>()->markup);
}

Result<V> truncate(Machine& m, const V& v, const Bound& a) {
  TRY_ASSIGN(const int64_t length, integer_argument(a[0], 255));
  const bool kill_words = !a[1].missing() && m.truth(a[1]);
  const V end = a[2].missing() ? m.string("...", true) : a[2];
  TRY_ASSIGN(const int64_t leeway, integer_argument(a[3].is(Kind::kNone) ? V{} : a[3], 5));
  TRY_ASSIGN(const int64_t end_size, m.length(end));
  if (length < end_size) return bad_data("expected length >= {}, got {}", end_size, length);
  if (leeway < 0) return bad_data("expected leeway >= 0, got {}", leeway);
  TRY_ASSIGN(const int64_t size, m.length(v));
  if (size - leeway <= length) return v;
  TRY_ASSIGN(V cut, m.slice(v, none(), integer(length - end_size, true), none()));
  if (!kill_words) {
    if (!cut.is(Kind::kString)) return bad_data("'{}' object has no attribute 'rsplit'", type_name(cut));
    const size_t space = cut.bytes().rfind(' ');
    if (space != std::string::npos) cut = m.substring(cut, 0, space);
  }
  return m.binary(Op::kAdd, cut, end);
}

Result<V> word_count(Machine& m, const V& v, const Bound&) {
  TRY_ASSIGN(const V text, soft_string(m, v));
  int64_t words = 0;
  bool inside = false;
  for (size_t at = 0; at < text.bytes().size();) {
    const Char c = char_at(text.bytes(), at);
    const bool word = c.code == '_' || is_alnum(c.code);
    words += word && !inside;
    inside = word;
    at += c.size;
  }
  return integer(words, false);
}

Result<Text> url_quote(Machine& m, const V& v, bool query) {
  TRY_ASSIGN(const Text text, m.str(v));
  TRY(m.check_string(3 * text.size()));
  std::string out;
  for (const char c : text.bytes) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
                       c == '.' || c == '-' || c == '~' || (!query && c == '/');
    if (plain) {
      out.push_back(c);
    } else if (query && c == ' ') {
      out.push_back('+');
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return Text(out, text.all_trusted());
}

Result<V> url_encode(Machine& m, const V& v, const Bound&) {
  TRY_ASSIGN(const bool iterable, call_test(m, find_test("iterable"), v, {}));
  if (v.is(Kind::kString) || !iterable) {
    TRY_ASSIGN(Text text, url_quote(m, v, false));
    return m.string(std::move(text));
  }
  Text out;
  const auto add = [&](const V& key, const V& value) -> Status {
    TRY_ASSIGN(const Text k, url_quote(m, key, true));
    TRY_ASSIGN(const Text t, url_quote(m, value, true));
    TRY(m.check_string(out.size() + k.size() + t.size() + 2));
    if (out.size() > 0) out.append("&", false);
    out.append(k);
    out.append("=", false);
    out.append(t);
    return {};
  };
  if (v.is(Kind::kDict)) {
    for (const auto& [key, value] : v.as<Dict>()->items) TRY(add(key, value));
  } else {
    TRY_ASSIGN(const std::vector<V>* items, m.items_of(v));
    for (const V& pair : *items) {
      TRY_ASSIGN(const std::vector<V>* two, m.unpack(pair, 2));
      TRY(add((*two)[0], (*two)[1]));
    }
  }
  return m.string(std::move(out));
}

Result<V> xml_attributes(Machine& m, const V& v, const Bound& a) {
  if (!v.is(Kind::kDict)) return bad_data("'{}' object has no attribute 'items'", type_name(v));
  Text out;
  for (const auto& [key, value] : v.as<Dict>()->items) {
    if (value.is(Kind::kNone) || value.is(Kind::kUndefined)) continue;
    TRY_ASSIGN(const V name, soft_string(m, key));
    if (name.bytes().find_first_of(" \t\n\r\f\v/>=") != std::string::npos) {
      return bad_data("Invalid character in attribute name: {}", quoted(name.bytes()));
    }
    TRY_ASSIGN(const V text, soft_string(m, value));
    if (out.size() > 0 || a[0].missing() || m.truth(a[0])) out.append(" ", false);
    out.append(escape_markup(name));
    out.append("=\"", false);
    out.append(escape_markup(text));
    out.append("\"", false);
    TRY(m.check_string(out.size()));
  }
  return m.string(std::move(out));
}

Result<V> to_json(Machine& m, const V& v, const Bound& a) {
  Machine::JsonStyle style;
  style.ensure_ascii = !a[0].missing() && m.truth(a[0]);
  style.sort_keys = !a[3].missing() && m.truth(a[3]);
  if (!a[1].missing() && !a[1].is(Kind::kNone)) {
    if (a[1].is(Kind::kString)) {
      style.indent = a[1].bytes();
    } else {
      if (!a[1].is_integral()) return bad_data("can't multiply sequence by non-int of type '{}'", type_name(a[1]));
      const auto width = static_cast<uint64_t>(std::max<int64_t>(0, a[1].as_integer()));
      TRY(m.check_string(width));
      style.indent = std::string(width, ' ');
    }
    style.item_separator = ",";
  }
  if (!a[2].missing() && !a[2].is(Kind::kNone)) {
    TRY_ASSIGN(const std::vector<V>* two, m.unpack(a[2], 2));
    for (const V& separator : *two) {
      if (!separator.is(Kind::kString)) return bad_data("separators must be strings, not {}", type_name(separator));
    }
    style.item_separator = (*two)[0].bytes();
    style.key_separator = (*two)[1].bytes();
  }
  TRY_ASSIGN(Text text, m.json(v, style));
  return m.string(std::move(text));
}

Result<V> format_filter(Machine& m, const V& v, const Args& args) {
  if (!args.positional.empty() && !args.named.empty()) {
    return bad_data("can't handle positional and keyword arguments at the same time");
  }
  TRY_ASSIGN(const V text, soft_string(m, v));
  if (args.named.empty()) return m.percent_format(text, m.tuple({args.positional.begin(), args.positional.end()}));
  TRY_ASSIGN(const V named, m.dict({args.named.begin(), args.named.end()}));
  return m.percent_format(text, named);
}

constexpr int kMaxFilterDepth = 8;

// A filter has a function of its bound arguments or of all of them.
struct Row {
  const char* name;
  Signature signature;  // without the value
  Result<V> (*bound)(Machine&, const V&, const Bound&);
  Result<V> (*free)(Machine&, const V&, const Args&) = nullptr;
};
constexpr Row kFilters[] = {
    {"abs", {"abs", "", 0, 1}, filters::absolute},
    {"attr", {"do_attr", "name", 1, 2}, attr},
    {"batch", {"do_batch", "linecount,fill_with", 1, 1}, filters::batch},
    {"capitalize", {"do_capitalize", "", 0, 1}, mapped<capitalize>},
    {"center", {"do_center", "width", 0, 1}, center_filter},
    {"count", {"len", "", 0, 1}, filters::length},
    {"d", {"do_default", "default_value,boolean", 0, 1}, default_filter},
    {"default", {"do_default", "default_value,boolean", 0, 1}, default_filter},
    {"dictsort", {"do_dictsort", "case_sensitive,by,reverse", 0, 1}, filters::dict_sort},
    {"e", {"escape", "", 0, 1}, escape_filter},
    {"escape", {"escape", "", 0, 1}, escape_filter},
    {"filesizeformat", {"do_filesizeformat", "binary", 0, 1}, filters::file_size},
    {"first", {"sync_do_first", "", 0, 2}, filters::first},
    {"float", {"do_float", "default", 0, 1}, filters::to_float},
    {"forceescape", {"do_forceescape", "", 0, 1}, force_escape},
    {"format", {}, nullptr, format_filter},
    {"groupby", {"sync_do_groupby", "attribute,default,case_sensitive", 1, 2}, filters::group_by},
    {"indent", {"do_indent", "width,first,blank", 0, 1}, indent},
    {"int", {"do_int", "default,base", 0, 1}, filters::to_integer},
    {"items", {"do_items", "", 0, 1}, filters::items},
    {"join", {"sync_do_join", "d,attribute", 0, 2}, filters::join},
    {"last", {"do_last", "", 0, 2}, filters::last},
    {"length", {"len", "", 0, 1}, filters::length},
    {"list", {"sync_do_list", "", 0, 1}, filters::list},
    {"lower", {"do_lower", "", 0, 1}, mapped<to_lower>},
    {"map", {}, nullptr, filters::map},
    {"max", {"do_max", "case_sensitive,attribute", 0, 2}, filters::maximum},
    {"min", {"do_min", "case_sensitive,attribute", 0, 2}, filters::minimum},
    {"reject", {}, nullptr, filters::reject},
    {"rejectattr", {}, nullptr, filters::reject_attribute},
    {"replace", {"do_replace", "old,new,count", 2, 2}, replace_filter},
    {"reverse", {"do_reverse", "", 0, 1}, filters::reverse},
    {"round", {"do_round", "precision,method", 0, 1}, filters::round},
    {"safe", {"do_mark_safe", "", 0, 1}, safe},
    {"select", {}, nullptr, filters::select},
    {"selectattr", {}, nullptr, filters::select_attribute},
    {"slice", {"sync_do_slice", "slices,fill_with", 1, 1}, filters::slice},
    {"sort", {"do_sort", "reverse,case_sensitive,attribute", 0, 2}, filters::sort},
    {"string", {"soft_str", "", 0, 1}, string_filter},
    {"sum", {"sync_do_sum", "attribute,start", 0, 2}, filters::sum},
    {"title", {"do_title", "", 0, 1}, mapped<title_words>},
    {"tojson", {"tojson", "ensure_ascii,indent,separators,sort_keys", 0, 1}, to_json},
    {"trim", {"do_trim", "chars", 0, 1}, trim},
    {"truncate", {"do_truncate", "length,killwords,end,leeway", 0, 2}, truncate},
    {"unique", {"sync_do_unique", "case_sensitive,attribute", 0, 2}, filters::unique},
    {"upper", {"do_upper", "", 0, 1}, mapped<to_upper>},
    {"urlencode", {"do_urlencode", "", 0, 1}, url_encode},
    {"wordcount", {"do_wordcount", "", 0, 1}, word_count},
    {"xmlattr", {"do_xmlattr", "autospace", 0, 2}, xml_attributes},
    // Jinja has these; no chat template uses them.
    {"pprint", {}, nullptr},
    {"random", {}, nullptr},
    {"striptags", {}, nullptr},
    {"urlize", {}, nullptr},
    {"wordwrap", {}, nullptr},
};

}  // namespace

int find_filter(std::string_view name) {
  for (size_t i = 0; i < std::size(kFilters); ++i) {
    if (kFilters[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

Result<V> call_filter(Machine& m, int index, const V& value, const Args& args) {
  const Row& row = kFilters[static_cast<size_t>(index)];
  if (row.free != nullptr) {
    if (m.filter_depth >= kMaxFilterDepth)
      return bad_data("filters call one another deeper than {} levels", kMaxFilterDepth);
    ++m.filter_depth;
    Result<V> result = row.free(m, value, args);
    --m.filter_depth;
    return result;
  }
  if (row.bound == nullptr) return bad_data("the filter '{}' is not supported", row.name);
  TRY_ASSIGN(const Bound bound, bind(row.signature, args));
  return row.bound(m, value, bound);
}

}  // namespace ll::jinja
