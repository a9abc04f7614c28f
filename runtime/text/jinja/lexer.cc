#include "runtime/text/jinja/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "runtime/text/jinja/unicode.h"
#include "runtime/text/utf8.h"

namespace ll::jinja {
namespace {

constexpr std::string_view kDescriptions[] = {"end of template",
                                              "template data / text",
                                              "begin of statement block",
                                              "end of statement block",
                                              "begin of print statement",
                                              "end of print statement",
                                              "name",
                                              "string",
                                              "integer",
                                              "float",
                                              "+",
                                              "=",
                                              ":",
                                              ",",
                                              "/",
                                              ".",
                                              "==",
                                              "//",
                                              ">",
                                              ">=",
                                              "{",
                                              "[",
                                              "(",
                                              "<",
                                              "<=",
                                              "%",
                                              "*",
                                              "!=",
                                              "|",
                                              "**",
                                              "}",
                                              "]",
                                              ")",
                                              ";",
                                              "-",
                                              "~"};
static_assert(std::size(kDescriptions) == static_cast<size_t>(Tok::kTilde) + 1);

constexpr struct {
  std::string_view text;
  Tok type;
} kOperators[] = {  // longer ones first
    {"**", Tok::kPow},     {"//", Tok::kFloorDiv}, {"==", Tok::kEq},      {"!=", Tok::kNe},      {">=", Tok::kGtEq},
    {"<=", Tok::kLtEq},    {"+", Tok::kAdd},       {"-", Tok::kSub},      {"/", Tok::kDiv},      {"*", Tok::kMul},
    {"%", Tok::kMod},      {"~", Tok::kTilde},     {"[", Tok::kLBracket}, {"]", Tok::kRBracket}, {"(", Tok::kLParen},
    {")", Tok::kRParen},   {"{", Tok::kLBrace},    {"}", Tok::kRBrace},   {">", Tok::kGt},       {"<", Tok::kLt},
    {"=", Tok::kAssign},   {".", Tok::kDot},       {":", Tok::kColon},    {"|", Tok::kPipe},     {",", Tok::kComma},
    {";", Tok::kSemicolon}};

// \r\n and \r become \n; one newline at the end goes.
std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out.push_back(source[i]);
    } else {
      out.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool digit_of(char c, int base) {
  if (c >= '0' && c <= '9') return c - '0' < base;
  return base == 16 && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'));
}

// End of digits in `base`, single underscores between them allowed; with `lead`, one may come first. `at` when there is
// none.
size_t digits_end(std::string_view text, size_t at, int base, bool lead) {
  size_t end = at;
  for (;;) {
    size_t next = end;
    if (next < text.size() && text[next] == '_' && (lead || end > at)) ++next;
    if (next >= text.size() || !digit_of(text[next], base)) return end;
    end = next + 1;
  }
}

std::string without_underscores(std::string_view text) {
  std::string out(text);
  std::erase(out, '_');
  return out;
}

}  // namespace

std::string_view describe(Tok type) { return kDescriptions[static_cast<size_t>(type)]; }

std::string describe(const Token& token) {
  return token.type == Tok::kName ? token.text : std::string(describe(token.type));
}

Lexer::Lexer(std::string_view source) : source_(normalize_newlines(source)) {}

bool Lexer::fail(std::string message) {
  error_ = std::move(message);
  return false;
}

void Lexer::advance(size_t end) {
  line_ += static_cast<int>(
      std::count(source_.begin() + static_cast<ptrdiff_t>(at_), source_.begin() + static_cast<ptrdiff_t>(end), '\n'));
  if (end > at_) line_starting_ = source_[end - 1] == '\n';
  at_ = end;
}

size_t Lexer::skip_space(size_t at) const {
  while (at < source_.size()) {
    const Char c = char_at(source_, at);
    if (!is_space(c.code)) break;
    at += c.size;
  }
  return at;
}

size_t Lexer::tag_end(size_t at, bool block, bool plus) const {
  const std::string_view close = block ? "%}" : "}}";
  const std::string_view rest = std::string_view(source_).substr(at);
  if (rest.starts_with('-') && rest.substr(1).starts_with(close)) return skip_space(at + 3);
  size_t end = at;
  if (plus && rest.starts_with('+') && rest.substr(1).starts_with(close)) return at + 3;
  if (!rest.starts_with(close)) return 0;
  end = at + 2;
  if (block && end < source_.size() && source_[end] == '\n') ++end;  // trim_blocks
  return end;
}

// The data from here up to a tag, after the tag's sign or lstrip_blocks took their share.
std::string_view Lexer::data_before(size_t tag, char sign, bool variable) {
  const std::string_view data = std::string_view(source_).substr(at_, tag - at_);
  if (sign == '-') return data.substr(0, rstrip_end(data));
  if (sign == '+' || variable) return data;
  const size_t newline = data.rfind('\n');
  const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
  if ((line > 0 || line_starting_) && line < data.size() && lstrip_begin(data.substr(line)) == data.size() - line) {
    return data.substr(0, line);
  }
  return data;
}

bool Lexer::next(Token& token) {
  for (;;) {
    token = {};
    token.line = line_;
    if (at_ >= source_.size()) return true;
    bool found = false;
    if (!(state_ == State::kRoot ? root(token, found) : expression(token, found))) return false;
    if (found) return true;
  }
}

bool Lexer::root(Token& token, bool& found) {
  size_t tag = at_;
  for (;; ++tag) {
    tag = source_.find('{', tag);
    if (tag == std::string::npos || tag + 1 >= source_.size()) {
      tag = source_.size();
      break;
    }
    if (std::strchr("%{#", source_[tag + 1]) && source_[tag + 1] != '\0') break;
  }
  if (tag == source_.size()) {  // no tag is left
    token.type = Tok::kData;
    token.text = source_.substr(at_);
    found = true;
    advance(tag);
    return true;
  }
  const char kind = source_[tag + 1];
  size_t body = tag + 2;
  char sign = 0;
  if (body < source_.size() && (source_[body] == '-' || source_[body] == '+')) sign = source_[body++];
  const std::string_view data = data_before(tag, sign, kind == '{');
  if (!data.empty()) {
    // The tag itself is met again by the next call, with nothing before it.
    token.type = Tok::kData;
    token.text = data;
    found = true;
  }
  if (tag > at_) {
    advance(tag);
    if (found) return true;
  }
  if (kind == '#') return comment(body);
  if (kind == '%') {
    size_t end = skip_space(body);
    if (std::string_view(source_).substr(end).starts_with("raw")) {
      end = skip_space(end + 3);
      const std::string_view rest = std::string_view(source_).substr(end);
      if (rest.starts_with("-%}")) return raw_block(skip_space(end + 3), token, found);
      if (rest.starts_with("%}")) return raw_block(end + 2, token, found);
    }
  }
  advance(body);
  token.type = kind == '%' ? Tok::kBlockBegin : Tok::kVariableBegin;
  token.line = line_;
  state_ = kind == '%' ? State::kBlock : State::kVariable;
  found = true;
  return true;
}

bool Lexer::comment(size_t begin) {
  if (begin == source_.size()) {  // nothing is left to be a comment: Jinja lets that pass
    advance(begin);
    return true;
  }
  const size_t close = source_.find("#}", begin);
  if (close == std::string::npos) return fail("Missing end of comment tag");
  size_t end = close + 2;
  const char sign = close > begin ? source_[close - 1] : '\0';
  if (sign == '-') {
    end = skip_space(end);
  } else if (sign != '+' && end < source_.size() && source_[end] == '\n') {
    ++end;
  }
  advance(end);
  return true;
}

// {% raw %} was read up to `begin`: its text until {% endraw %} is data.
bool Lexer::raw_block(size_t begin, Token& token, bool& found) {
  advance(begin);
  if (begin == source_.size()) return true;
  for (size_t tag = begin;; tag += 2) {
    tag = source_.find("{%", tag);
    if (tag == std::string::npos) return fail("Missing end of raw directive");
    size_t body = tag + 2;
    char sign = 0;
    if (body < source_.size() && (source_[body] == '-' || source_[body] == '+')) sign = source_[body++];
    size_t end = skip_space(body);
    if (!std::string_view(source_).substr(end).starts_with("endraw")) continue;
    end = tag_end(skip_space(end + 6), true, true);
    if (end == 0) continue;
    token.type = Tok::kData;
    token.text = data_before(tag, sign, false);
    token.line = line_;
    found = !token.text.empty();
    advance(end);
    return true;
  }
}

bool Lexer::expression(Token& token, bool& found) {
  if (open_.empty()) {
    if (const size_t end = tag_end(at_, state_ == State::kBlock, state_ == State::kBlock); end != 0) {
      token.type = state_ == State::kBlock ? Tok::kBlockEnd : Tok::kVariableEnd;
      state_ = State::kRoot;
      advance(end);
      found = true;
      return true;
    }
  }
  if (const size_t end = skip_space(at_); end > at_) {
    advance(end);
    return true;
  }
  if (!number(token, found) || found) return error_.empty();
  if (!name(token, found) || found) return error_.empty();
  if (!string(token, found) || found) return error_.empty();
  if (!operation(token, found) || found) return error_.empty();
  const Char c = char_at(source_, at_);
  const std::string shown = c.code == '\'' ? "\"'\"" : fmt::format("'{}'", source_.substr(at_, c.size));
  return fail(fmt::format("unexpected char {} at {}", c.code == '\\' ? "'\\\\'" : shown,
                          char_count(std::string_view(source_).substr(0, at_))));
}

bool Lexer::number(Token& token, bool& found) {
  const std::string_view text = source_;
  if (!digit_of(text[at_], 10)) return true;
  const size_t whole = digits_end(text, at_, 10, false);
  size_t end = whole;
  // A float, unless it directly follows a dot: `a.1.5` is two subscripts.
  if (at_ == 0 || text[at_ - 1] != '.') {
    if (end + 1 < text.size() && text[end] == '.' && digit_of(text[end + 1], 10))
      end = digits_end(text, end + 1, 10, false);
    if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
      size_t exponent = end + 1;
      if (exponent < text.size() && (text[exponent] == '+' || text[exponent] == '-')) ++exponent;
      if (const size_t stop = digits_end(text, exponent, 10, false); stop > exponent) end = stop;
    }
  }
  found = true;
  if (end > whole) {
    token.type = Tok::kFloat;
    token.number = std::strtod(without_underscores(text.substr(at_, end - at_)).c_str(), nullptr);
    advance(end);
    return true;
  }
  int base = 10;
  size_t begin = at_;
  end = whole;
  if (text[at_] == '0') {
    const char mark = at_ + 1 < text.size() ? static_cast<char>(text[at_ + 1] | 0x20) : '\0';
    base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
    if (base != 10) {
      begin = at_ + 2;
      end = digits_end(text, begin, base, true);
      if (end == begin) base = 10;
    }
    if (base == 10) {  // only zeros: 007 is 0 0 7 in Jinja's eyes, that is 00 and 7
      begin = at_;
      for (end = at_ + 1; end < text.size();) {
        const size_t next = text[end] == '_' ? end + 1 : end;
        if (next >= text.size() || text[next] != '0') break;
        end = next + 1;
      }
    }
  }
  const std::string digits = without_underscores(text.substr(begin, end - begin));
  const auto [stop, status] = std::from_chars(digits.data(), digits.data() + digits.size(), token.integer, base);
  if (status != std::errc()) return fail(fmt::format("integer {} does not fit 64 bits", digits.substr(0, 40)));
  token.type = Tok::kInteger;
  advance(end);
  return true;
}

bool Lexer::name(Token& token, bool& found) {
  size_t end = at_;
  while (end < source_.size()) {
    const Char c = char_at(source_, end);
    if (!is_name_part(c.code)) break;
    end += c.size;
  }
  if (end == at_) return true;
  if (!is_name_start(char_at(source_, at_).code)) return fail("Invalid character in identifier");
  token.type = Tok::kName;
  token.text = source_.substr(at_, end - at_);
  found = true;
  advance(end);
  return true;
}

bool Lexer::string(Token& token, bool& found) {
  const char quote = source_[at_];
  if (quote != '"' && quote != '\'') return true;
  size_t end = at_ + 1;
  while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
  if (end >= source_.size()) return true;  // no closing quote: no token begins here
  token.type = Tok::kString;
  if (!unescape(std::string_view(source_).substr(at_ + 1, end - at_ - 1), token.text)) return false;
  found = true;
  advance(end + 1);
  return true;
}

// Python's unicode_escape codec, applied as Jinja does: characters beyond ASCII were turned into escapes first.
bool Lexer::unescape(std::string_view body, std::string& out) {
  static constexpr std::string_view kFrom = "\\'\"abfnrtv", kTo = "\\'\"\a\b\f\n\r\t\v";
  out.reserve(body.size());
  for (size_t i = 0; i < body.size();) {
    if (body[i] != '\\') {
      out.push_back(body[i++]);
      continue;
    }
    ++i;  // the pattern of a string guarantees one more character
    const char c = body[i];
    if (const size_t simple = kFrom.find(c); simple != std::string_view::npos) {
      out.push_back(kTo[simple]);
      ++i;
    } else if (c == '\n') {
      ++i;
    } else if (c >= '0' && c <= '7') {
      uint32_t code = 0;
      for (const size_t stop = std::min(i + 3, body.size()); i < stop && body[i] >= '0' && body[i] <= '7'; ++i) {
        code = code * 8 + static_cast<uint32_t>(body[i] - '0');
      }
      append_char(out, code);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t width = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      uint32_t code = 0;
      size_t got = 0;
      for (++i; got < width && i < body.size() && digit_of(body[i], 16); ++i, ++got) {
        const char d = static_cast<char>(body[i] | 0x20);
        code = code * 16 + static_cast<uint32_t>(d >= 'a' ? d - 'a' + 10 : d - '0');
      }
      if (got < width) return fail(fmt::format("truncated \\{}{} escape", c, std::string(width, 'X')));
      if (code > 0x10FFFF) return fail("illegal Unicode character");
      if (code >= 0xD800 && code < 0xE000) return fail("a surrogate is no character");
      append_char(out, code);
    } else if (c == 'N') {
      return fail("\\N{...} escapes are not supported");
    } else if (static_cast<unsigned char>(c) >= 0x80) {
      const Char wide = char_at(body, i);
      out += wide.code < 0x100     ? fmt::format("\\x{:02x}", wide.code)
             : wide.code < 0x10000 ? fmt::format("\\u{:04x}", wide.code)
                                   : fmt::format("\\U{:08x}", wide.code);
      i += wide.size;
    } else {
      out.push_back('\\');
      out.push_back(c);
      ++i;
    }
  }
  return true;
}

bool Lexer::operation(Token& token, bool& found) {
  for (const auto& [text, type] : kOperators) {
    if (!std::string_view(source_).substr(at_).starts_with(text)) continue;
    const char c = text[0];
    if (c == '{' || c == '(' || c == '[') {
      open_.push_back(c == '{' ? '}' : c == '(' ? ')' : ']');
    } else if (c == '}' || c == ')' || c == ']') {
      if (open_.empty()) return fail(fmt::format("unexpected '{}'", c));
      const char expected = open_.back();
      open_.pop_back();
      if (expected != c) return fail(fmt::format("unexpected '{}', expected '{}'", c, expected));
    }
    token.type = type;
    found = true;
    advance(at_ + text.size());
    return true;
  }
  return true;
}

}  // namespace ll::jinja
