#include "runtime/text/jinja/print.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "runtime/text/jinja/machine.h"
#include "runtime/text/jinja/stable_sort.h"
#include "runtime/text/jinja/unicode.h"

namespace ll::jinja {
namespace {

// Appends repr(text). Trust of the characters stays; quotes and escapes have `frame`.
void append_quoted(Text& out, const Text& text, bool frame) {
  const bool single = text.bytes.find('\'') != std::string::npos, twice = text.bytes.find('"') != std::string::npos;
  const char quote = single && !twice ? '"' : '\'';
  const std::string_view mark(&quote, 1);
  out.append(mark, frame);
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text.bytes, at);
    std::string escape;
    if (c.code == static_cast<unsigned char>(quote) || c.code == '\\') {
      escape = std::string("\\") + static_cast<char>(c.code);
    } else if (c.code == '\n') {
      escape = "\\n";
    } else if (c.code == '\r') {
      escape = "\\r";
    } else if (c.code == '\t') {
      escape = "\\t";
    } else if (!is_printable(c.code)) {
      escape = c.code < 0x100     ? fmt::format("\\x{:02x}", c.code)
               : c.code < 0x10000 ? fmt::format("\\u{:04x}", c.code)
                                  : fmt::format("\\U{:08x}", c.code);
    }
    if (!escape.empty()) {
      out.append(text, begin, at);
      out.append(escape, frame);
      begin = at + c.size;
    }
    at += c.size;
  }
  out.append(text, begin, text.size());
  out.append(mark, frame);
}

void append_json_string(Text& out, const Text& text, bool ensure_ascii) {
  out.append("\"", false);
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text.bytes, at);
    std::string escape;
    switch (c.code) {
      case '"':
        escape = "\\\"";
        break;
      case '\\':
        escape = "\\\\";
        break;
      case '\n':
        escape = "\\n";
        break;
      case '\r':
        escape = "\\r";
        break;
      case '\t':
        escape = "\\t";
        break;
      case '\b':
        escape = "\\b";
        break;
      case '\f':
        escape = "\\f";
        break;
      default:
        if (c.code < 0x20 || (ensure_ascii && c.code >= 0x7F && c.code < 0x10000)) {
          escape = fmt::format("\\u{:04x}", c.code);
        } else if (ensure_ascii && c.code >= 0x10000) {
          escape = fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((c.code - 0x10000) >> 10),
                               0xDC00 + ((c.code - 0x10000) & 0x3FF));
        }
    }
    if (!escape.empty()) {
      out.append(text, begin, at);
      out.append(escape, false);
      begin = at + c.size;
    }
    at += c.size;
  }
  out.append(text, begin, text.size());
  out.append("\"", false);
}

std::string scalar(const V& v) {
  switch (v.kind) {
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return v.boolean ? "True" : "False";
    case Kind::kInt:
      return std::to_string(v.integer);
    default:
      return float_repr(v.number);
  }
}

std::string json_float(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return float_repr(value);
}

// Writes nested values; recursion ends at kMaxNesting, size at the machine's budget.
class Printer {
 public:
  explicit Printer(Machine& machine) : m_(machine) {}

  Status repr(const V& v, int depth);
  Status json(const V& v, const Machine::JsonStyle& style, int depth);
  Text take() { return std::move(out_); }

 private:
  void put(std::string_view text) { out_.append(text, false); }
  Status enter(int depth) {
    m_.work(1);
    if (depth > kMaxNesting) return bad_data("value is nested deeper than {} levels", kMaxNesting);
    TRY(m_.check());
    return m_.check_string(out_.size());
  }
  Status repr_items(const char* open, const char* close, const std::vector<V>& items, int depth);
  Status repr_pairs(const std::vector<std::pair<V, V>>& items, int depth);
  void line_break(const Machine::JsonStyle& style, int depth);
  Status json_key(const V& key, const Machine::JsonStyle& style);

  Machine& m_;
  Text out_;
};

Status Printer::repr_items(const char* open, const char* close, const std::vector<V>& items, int depth) {
  put(open);
  bool first = true;
  for (const V& item : items) {
    if (!first) put(", ");
    first = false;
    TRY(repr(item, depth + 1));
  }
  put(close);
  return {};
}

Status Printer::repr_pairs(const std::vector<std::pair<V, V>>& items, int depth) {
  put("{");
  bool first = true;
  for (const auto& [key, v] : items) {
    if (!first) put(", ");
    first = false;
    TRY(repr(key, depth + 1));
    put(": ");
    TRY(repr(v, depth + 1));
  }
  put("}");
  return {};
}

Status Printer::repr(const V& v, int depth) {
  TRY(enter(depth));
  switch (v.kind) {
    case Kind::kMissing:
    case Kind::kUndefined:
      put("Undefined");
      return {};
    case Kind::kNone:
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
      out_.append(scalar(v), v.trusted);
      return {};
    case Kind::kString: {
      const bool markup = v.as<String>()->markup;
      if (markup) put("Markup(");
      append_quoted(out_, v.text(), v.text().all_trusted());
      if (markup) put(")");
      return {};
    }
    case Kind::kList:
      return repr_items("[", "]", v.items(), depth);
    case Kind::kTuple:
      return repr_items("(", v.items().size() == 1 ? ",)" : ")", v.items(), depth);
    case Kind::kDict:
      return repr_pairs(v.as<Dict>()->items, depth);
    case Kind::kDictView: {
      TRY_ASSIGN(const std::vector<V>* items, m_.items_of(v));
      put(type_name(v));
      return repr_items("([", "])", *items, depth);
    }
    case Kind::kRange: {
      const auto* range = v.as<Range>();
      put(range->step == 1 ? fmt::format("range({}, {})", range->start, range->stop)
                           : fmt::format("range({}, {}, {})", range->start, range->stop, range->step));
      return {};
    }
    case Kind::kNamespace: {
      put("<Namespace {");
      bool first = true;
      for (const auto& [key, held] : v.as<Namespace>()->attributes) {
        if (!first) put(", ");
        first = false;
        put(quoted(key));
        put(": ");
        TRY(repr(held, depth + 1));
      }
      put("}>");
      return {};
    }
    case Kind::kMacro:
      put(fmt::format("<Macro {}>",
                      quoted(m_.program().constants[m_.program().macros[v.as<Macro>()->shape].name].text)));
      return {};
    case Kind::kLoop: {
      const auto* loop = v.as<Loop>();
      put(fmt::format("<LoopContext {}/{}>", std::min(loop->next, loop->items->size()), loop->items->size()));
      return {};
    }
    default:
      put(fmt::format("<{} object>", type_name(v)));
      return {};
  }
}

void Printer::line_break(const Machine::JsonStyle& style, int depth) {
  if (!style.indent) return;
  put("\n");
  for (int i = 0; i < depth; ++i) put(*style.indent);
}

Status Printer::json_key(const V& key, const Machine::JsonStyle& style) {
  switch (key.kind) {
    case Kind::kString:
      append_json_string(out_, key.text(), style.ensure_ascii);
      return {};
    case Kind::kNone:
      put("\"null\"");
      return {};
    case Kind::kBool:
      put(key.boolean ? "\"true\"" : "\"false\"");
      return {};
    case Kind::kInt:
      put(fmt::format("\"{}\"", key.integer));
      return {};
    case Kind::kFloat:
      put(fmt::format("\"{}\"", json_float(key.number)));
      return {};
    default:
      return bad_data("keys must be str, int, float, bool or None, not {}", type_name(key));
  }
}

Status Printer::json(const V& v, const Machine::JsonStyle& style, int depth) {
  TRY(enter(depth));
  switch (v.kind) {
    case Kind::kNone:
      put("null");
      return {};
    case Kind::kBool:
      put(v.boolean ? "true" : "false");
      return {};
    case Kind::kInt:
      out_.append(std::to_string(v.integer), v.trusted);
      return {};
    case Kind::kFloat:
      out_.append(json_float(v.number), v.trusted);
      return {};
    case Kind::kString:
      append_json_string(out_, v.text(), style.ensure_ascii);
      return {};
    case Kind::kList:
    case Kind::kTuple: {
      put("[");
      bool first = true;
      for (const V& item : v.items()) {
        if (!first) put(style.item_separator);
        first = false;
        line_break(style, depth + 1);
        TRY(json(item, style, depth + 1));
      }
      if (!first) line_break(style, depth);
      put("]");
      return {};
    }
    case Kind::kDict: {
      std::vector<std::pair<V, V>> items = v.as<Dict>()->items;
      if (style.sort_keys) {
        TRY(stable_sort(items, [&](const auto& a, const auto& b) -> Result<bool> {
          TRY_ASSIGN(const Machine::Order order, m_.order(a.first, b.first));
          return order == Machine::Order::kLess;
        }));
      }
      put("{");
      bool first = true;
      for (const auto& [key, held] : items) {
        if (!first) put(style.item_separator);
        first = false;
        line_break(style, depth + 1);
        TRY(json_key(key, style));
        put(style.key_separator);
        TRY(json(held, style, depth + 1));
      }
      if (!first) line_break(style, depth);
      put("}");
      return {};
    }
    default:
      return bad_data("Object of type {} is not JSON serializable", type_name(v));
  }
}

}  // namespace

std::string quoted(std::string_view text) {
  Text out;
  append_quoted(out, Text(text, false), false);
  return std::move(out.bytes);
}

// The shortest digits that read back as the same number, as Python lays them out.
std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[40];
  const auto [end, status] = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
  const std::string_view all(buffer, static_cast<size_t>(end - buffer));
  const size_t e = all.find('e');
  int exponent = 0;
  std::from_chars(all.data() + e + (all[e + 1] == '+' ? 2 : 1), all.data() + all.size(), exponent);
  std::string digits(all.substr(0, e));
  std::string sign;
  if (digits[0] == '-') {
    sign = "-";
    digits.erase(0, 1);
  }
  std::erase(digits, '.');
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    std::string out = sign + digits[0];
    if (count > 1) out += "." + digits.substr(1);
    return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  if (count <= exponent + 1) return sign + digits + std::string(static_cast<size_t>(exponent + 1 - count), '0') + ".0";
  return sign + digits.substr(0, static_cast<size_t>(exponent) + 1) + "." +
         digits.substr(static_cast<size_t>(exponent) + 1);
}

Text escape_markup(const V& v) {
  Text out;
  const Text& text = v.text();
  if (v.as<String>()->markup) return text;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char* entity = nullptr;
    switch (text.bytes[i]) {
      case '&':
        entity = "&amp;";
        break;
      case '<':
        entity = "&lt;";
        break;
      case '>':
        entity = "&gt;";
        break;
      case '"':
        entity = "&#34;";
        break;
      case '\'':
        entity = "&#39;";
        break;
      default:
        continue;
    }
    out.append(text, begin, i);
    const Text one = text.sub(i, i + 1);
    out.append(entity, one.all_trusted());
    begin = i + 1;
  }
  out.append(text, begin, text.size());
  return out;
}

Result<Text> Machine::str(const V& v) {
  if (v.is(Kind::kString)) return v.text();
  if (v.is(Kind::kUndefined) || v.missing()) return Text();
  return repr(v);
}

Result<Text> Machine::repr(const V& v) {
  Printer printer(*this);
  TRY(printer.repr(v, 0));
  return printer.take();
}

Result<Text> Machine::json(const V& v, const JsonStyle& style) {
  Printer printer(*this);
  TRY(printer.json(v, style, 0));
  return printer.take();
}

}  // namespace ll::jinja
