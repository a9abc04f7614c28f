#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "ir/lexer.h"
#include "ir/ops.h"
#include "ir/text.h"
#include "kernels/kv_layout.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/layouts.h"

namespace ll::ir {
namespace {

class Parser {
 public:
  Parser(std::string_view source, std::string_view file) : source_(source), file_(file), lex_(source) {}

  Result<Graph> run() {
    if (lex_.is("module")) {
      lex_.advance();
      TRY_ASSIGN(graph_.module, attributes());
    }
    TRY(expect("graph"));
    TRY(expect("{"));
    while (lex_.token() == Token::kValue) TRY(op());
    TRY(result());
    TRY(expect("}"));
    if (lex_.token() != Token::kEnd) return wrong("the end of the text");
    return std::move(graph_);
  }

 private:
  // "graph.llir:3:14: message", the line and a caret. Of very long lines only the surroundings are shown.
  Error at(size_t position, std::string_view message) const {
    position = std::min(position, source_.size());
    const size_t before = position == 0 ? std::string_view::npos : source_.rfind('\n', position - 1);
    const size_t begin = before == std::string_view::npos ? 0 : before + 1;
    const size_t end = std::min(source_.find('\n', begin), source_.size());
    const auto line = std::count(source_.begin(), source_.begin() + static_cast<std::ptrdiff_t>(begin), '\n') + 1;
    constexpr size_t kShown = 80;
    const size_t from = std::max(begin, position - std::min(position, kShown));
    std::string shown(source_.substr(from, std::min(end - from, 2 * kShown)));
    std::string caret(position - from, ' ');
    for (char& c : shown) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
    }
    return bad_data("{}:{}:{}: {}\n{}\n{}^", file_, line, position - begin + 1, message, shown, caret);
  }

  std::string found() const {
    if (lex_.token() == Token::kEnd) return "the end of the text";
    const std::string_view text = lex_.text().substr(0, 40);
    switch (lex_.token()) {
      case Token::kValue:
        return fmt::format("%{}", text);
      case Token::kText:
        return fmt::format("text \"{}\"", text);
      case Token::kBad:
        return lex_.position() > 0 && source_[lex_.position() - 1] == '"' ? "an unterminated text" : "a malformed word";
      default:
        break;
    }
    std::string printable;
    for (const char c : text) printable += static_cast<unsigned char>(c) < 0x20 || c >= 0x7f ? '?' : c;
    return fmt::format("'{}'", printable);
  }
  Error wrong(std::string_view expected) const {
    return at(lex_.position(), fmt::format("found {}, expected {}", found(), expected));
  }

  Status expect(std::string_view word) {
    if (!lex_.is(word)) return wrong(fmt::format("'{}'", word));
    lex_.advance();
    return {};
  }
  bool accept(std::string_view word) {
    if (!lex_.is(word)) return false;
    lex_.advance();
    return true;
  }

  Result<int64_t> integer(int64_t min, int64_t max) {
    int64_t value = 0;
    const std::string_view text = lex_.text();
    if (lex_.token() != Token::kInteger) return wrong("an integer");
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code != std::errc() || end != text.data() + text.size() || value < min || value > max) {
      return wrong(fmt::format("an integer from {} to {}", min, max));
    }
    lex_.advance();
    return value;
  }

  template <class T>
  Result<T> number() {
    T value = 0;
    const std::string_view text = lex_.text();
    if (lex_.token() != Token::kNumber) return wrong("a number with a point or an exponent");
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
      return wrong(sizeof(T) == 4 ? "a number that f32 can hold" : "a number that f64 can hold");
    }
    lex_.advance();
    return value;
  }

  Result<std::string> quoted() {
    const std::string_view raw = lex_.text();
    std::string s;
    s.reserve(raw.size());
    for (size_t i = 0; i < raw.size(); ++i) {
      const char c = raw[i];
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
        return at(lex_.position() + i, "a control character in a text, expected \\xHH");
      }
      if (c != '\\') {
        s += c;
        continue;
      }
      const char escape = i + 1 < raw.size() ? raw[++i] : '?';
      unsigned code = 0;
      switch (escape) {
        case '"':
          s += '"';
          break;
        case '\\':
          s += '\\';
          break;
        case 'n':
          s += '\n';
          break;
        case 'r':
          s += '\r';
          break;
        case 't':
          s += '\t';
          break;
        case 'x': {
          const std::string_view hex = raw.substr(i + 1, 2);
          const auto [end, error] = std::from_chars(hex.data(), hex.data() + hex.size(), code, 16);
          if (hex.size() == 2 && error == std::errc() && end == hex.data() + 2) {
            s += static_cast<char>(code);
            i += 2;
            break;
          }
          [[fallthrough]];
        }
        default:
          return at(lex_.position() + i - 1, "unknown escape in a text, expected \\\" \\\\ \\n \\r \\t or \\xHH");
      }
    }
    lex_.advance();
    return s;
  }

  template <class T>
  Result<Attribute> list() {
    std::vector<T> values;
    for (;;) {
      if (values.size() == static_cast<size_t>(kMaxListLength)) {
        return wrong(fmt::format("the end of the list: at most {} elements", kMaxListLength));
      }
      if constexpr (std::is_integral_v<T>) {
        TRY_ASSIGN(const int64_t v, integer(INT64_MIN, INT64_MAX));
        values.push_back(v);
      } else {
        TRY_ASSIGN(const T v, number<T>());
        values.push_back(v);
      }
      if (accept("]")) return Attribute(std::move(values));
      TRY(expect(","));
    }
  }

  Result<Attribute> attribute() {
    switch (lex_.token()) {
      case Token::kInteger: {
        TRY_ASSIGN(const int64_t v, integer(INT64_MIN, INT64_MAX));
        return Attribute(v);
      }
      case Token::kNumber: {
        TRY_ASSIGN(const double v, number<double>());
        return Attribute(v);
      }
      case Token::kText: {
        TRY_ASSIGN(std::string v, quoted());
        return Attribute(std::move(v));
      }
      default:
        break;
    }
    if (!accept("[")) return wrong("an integer, a number, a text or a list");
    if (lex_.token() == Token::kInteger) return list<int64_t>();
    return list<float>();
  }

  Result<Attributes> attributes() {
    TRY(expect("{"));
    Attributes attrs;
    if (accept("}")) return attrs;
    for (;;) {
      if (lex_.token() != Token::kName) return wrong("an attribute's name");
      const std::string key(lex_.text());
      if (key.size() > kMaxNameLength) return wrong(fmt::format("a name of at most {} characters", kMaxNameLength));
      if (attrs.has(key)) return at(lex_.position(), fmt::format("attribute {} is given twice", key));
      lex_.advance();
      TRY(expect("="));
      TRY_ASSIGN(Attribute value, attribute());
      attrs.set({key, std::move(value)});
      if (accept("}")) return attrs;
      TRY(expect(","));
    }
  }

  Result<Dim> dim() {
    constexpr std::pair<std::string_view, Symbol> kSymbols[] = {
        {"T", Symbol::kT}, {"R", Symbol::kR}, {"S", Symbol::kS}};
    if (accept("P")) return Dim(0);
    for (const auto& [name, symbol] : kSymbols) {
      if (!accept(name)) continue;
      if (!accept("<=")) return Dim(symbol, 0);
      TRY_ASSIGN(const int64_t bound, integer(1, kMaxDim));
      return Dim(symbol, bound);
    }
    if (lex_.token() != Token::kInteger) return wrong("a size, T, R, S or P");
    TRY_ASSIGN(const int64_t size, integer(1, kMaxDim));
    return Dim(size);
  }

  Result<DType> dtype() {
    const std::string_view name = lex_.token() == Token::kName ? lex_.text() : "";
    const Format* format = find_format(name);
    if (format == nullptr) return wrong("an element type such as f32 or q4_K");
    lex_.advance();
    return format->dtype;
  }

  Result<TensorType> type() {
    if (accept("kv")) {
      TRY(expect("<"));
      DType element = DType::kI8;
      if (!accept("q8")) {
        if (!lex_.is("f32") && !lex_.is("f16")) return wrong("f32, f16 or q8");
        TRY_ASSIGN(element, dtype());
      }
      TRY(expect(">"));
      TRY(expect("["));
      TRY_ASSIGN(const int64_t heads, integer(1, kMaxDim / 2));
      TRY(expect(","));
      TRY_ASSIGN(const int64_t head_dim, integer(1, kMaxDim));
      TensorType t = kv_type(element, heads, head_dim);
      if (accept(",")) {
        TRY_ASSIGN(t.dims[0].value, integer(1, kMaxDim));
      }
      TRY(expect("]"));
      return t;
    }
    TensorType t;
    TRY_ASSIGN(t.dtype, dtype());
    if (accept(":")) {
      const auto layout = lex_.token() == Token::kName ? find_layout(lex_.text()) : std::nullopt;
      if (!layout) return wrong("a layout such as x16");
      t.layout = *layout;
      lex_.advance();
    }
    TRY(expect("["));
    for (t.rank = 0;;) {
      if (t.rank == 2) return wrong("']' after at most two sizes");
      TRY_ASSIGN(t.dims[static_cast<size_t>(t.rank)], dim());
      ++t.rank;
      if (accept("]")) return t;
      TRY(expect(","));
    }
  }

  Result<Value> use() {
    if (lex_.token() != Token::kValue) return wrong("a value such as %x");
    const Value v = graph_.find(lex_.text());
    if (!v) return at(lex_.position() - 1, fmt::format("%{} is not defined before its use", lex_.text().substr(0, 80)));
    lex_.advance();
    return v;
  }

  Status op() {
    std::vector<std::string> names;
    do {
      if (lex_.token() != Token::kValue) return wrong("a value such as %x");
      const std::string_view name = lex_.text();
      if (name.size() > kMaxNameLength) return wrong(fmt::format("a name of at most {} characters", kMaxNameLength));
      if (graph_.find(name) || std::find(names.begin(), names.end(), name) != names.end()) {
        return at(lex_.position() - 1, fmt::format("%{} is defined twice", name));
      }
      if (names.size() == 4) return wrong("'=' after at most 4 values");
      names.emplace_back(name);
      lex_.advance();
    } while (accept(","));
    TRY(expect("="));
    const size_t position = lex_.position();
    if (lex_.token() != Token::kName) return wrong("an op's name");
    const OpDef* def = find_op(lex_.text());
    if (def == nullptr) return wrong("the name of an op");
    lex_.advance();
    if (static_cast<size_t>(def->results) != names.size()) {
      return at(position, fmt::format("{} gives {} values, found {} names", def->name, def->results, names.size()));
    }
    std::vector<Value> operands;
    if (lex_.token() == Token::kValue) {
      do {
        TRY_ASSIGN(const Value v, use());
        if (operands.size() == static_cast<size_t>(kMaxOperands)) {
          return at(position, fmt::format("{}: more than {} operands", def->name, kMaxOperands));
        }
        operands.push_back(v);
      } while (accept(","));
    }
    Attributes attrs;
    if (lex_.is("{")) {
      TRY_ASSIGN(attrs, attributes());
    }
    TRY(expect(":"));
    std::vector<TensorType> types;
    do {
      if (types.size() == names.size()) return wrong(fmt::format("{} types", names.size()));
      TRY_ASSIGN(const TensorType t, type());
      types.push_back(t);
    } while (accept(","));
    const auto created = graph_.create(kNoOp, def->name, std::move(operands), std::move(attrs), names, types);
    if (!created) return at(position, created.error().message);
    return {};
  }

  Status result() {
    if (!lex_.is("return")) return wrong("an op or 'return'");
    lex_.advance();
    TRY_ASSIGN(const Value v, use());
    TRY(expect(":"));
    const size_t position = lex_.position();
    TRY_ASSIGN(const TensorType t, type());
    if (!identical(t, graph_.type(v))) {
      return at(position, fmt::format("the type of %{} is {}, found {}", graph_.name(v), type_text(graph_.type(v)),
                                      type_text(t)));
    }
    graph_.set_result(v);
    return {};
  }

  std::string_view source_, file_;
  Lexer lex_;
  Graph graph_;
};

}  // namespace

Result<Graph> parse(std::string_view text, std::string_view file_name) {
  if (text.size() > kMaxTextBytes) {
    return bad_data("{}: {} bytes of text, expected at most {}", file_name, text.size(), kMaxTextBytes);
  }
  return Parser(text, file_name).run();
}

}  // namespace ll::ir
