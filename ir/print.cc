#include <fmt/format.h>

#include <charconv>

#include "ir/ops.h"
#include "ir/text.h"

namespace ll::ir {
namespace {

// Shortest digits that read back as the same value, with a point or exponent so that it reads back as a number.
template <class T>
void append_number(std::string& s, T value) {
  char digits[64];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  const std::string_view text(digits, static_cast<size_t>(end - digits));
  s += text;
  if (text.find_first_of(".en") == std::string_view::npos) s += ".0";
}

void append_text(std::string& s, std::string_view text) {
  s += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        s += "\\\"";
        break;
      case '\\':
        s += "\\\\";
        break;
      case '\n':
        s += "\\n";
        break;
      case '\r':
        s += "\\r";
        break;
      case '\t':
        s += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          s += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        } else {
          s += c;
        }
    }
  }
  s += '"';
}

template <class T>
void append_list(std::string& s, const std::vector<T>& list) {
  s += '[';
  for (size_t i = 0; i < list.size(); ++i) {
    if (i > 0) s += ", ";
    if constexpr (std::is_integral_v<T>) {
      s += fmt::format("{}", list[i]);
    } else {
      append_number(s, list[i]);
    }
  }
  s += ']';
}

void append(std::string& s, int64_t v) { s += fmt::format("{}", v); }
void append(std::string& s, double v) { append_number(s, v); }
void append(std::string& s, const std::string& v) { append_text(s, v); }
void append(std::string& s, const std::vector<float>& v) { append_list(s, v); }
void append(std::string& s, const std::vector<int64_t>& v) { append_list(s, v); }

void append_attrs(std::string& s, const Attributes& attrs) {
  s += '{';
  bool first = true;
  for (const auto& [key, value] : attrs.all()) {
    if (!first) s += ", ";
    first = false;
    s += key;
    s += " = ";
    std::visit([&](const auto& v) { append(s, v); }, value);
  }
  s += '}';
}

}  // namespace

std::string attribute_text(const Attribute& a) {
  std::string s;
  std::visit([&](const auto& v) { append(s, v); }, a);
  return s;
}

std::string print_op(const Graph& g, OpId id) {
  const Op& op = g.op(id);
  std::string s;
  for (const OpResult& r : op.results) s += fmt::format("{}%{}", s.empty() ? "" : ", ", r.name);
  s += " = ";
  s += op.kind();
  for (size_t i = 0; i < op.operands.size(); ++i)
    s += fmt::format("{}%{}", i == 0 ? " " : ", ", g.name(op.operands[i]));
  if (!op.attrs.all().empty()) {
    s += ' ';
    append_attrs(s, op.attrs);
  }
  for (size_t i = 0; i < op.results.size(); ++i) s += (i == 0 ? " : " : ", ") + type_text(op.results[i].type);
  return s;
}

std::string print(const Graph& g) {
  std::string s = "module ";
  append_attrs(s, g.module);
  s += "\ngraph {\n";
  for (OpId id = g.first(); id != kNoOp; id = g.next(id)) {
    s += "  ";
    s += print_op(g, id);
    s += '\n';
  }
  if (g.result()) s += fmt::format("  return %{} : {}\n", g.name(g.result()), type_text(g.type(g.result())));
  s += "}\n";
  return s;
}

}  // namespace ll::ir
