// Splits a template into tokens, with Jinja's whitespace control applied.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ll::jinja {

enum class Tok : uint8_t {
  kEof,
  kData,
  kBlockBegin,
  kBlockEnd,
  kVariableBegin,
  kVariableEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kAdd,
  kAssign,
  kColon,
  kComma,
  kDiv,
  kDot,
  kEq,
  kFloorDiv,
  kGt,
  kGtEq,
  kLBrace,
  kLBracket,
  kLParen,
  kLt,
  kLtEq,
  kMod,
  kMul,
  kNe,
  kPipe,
  kPow,
  kRBrace,
  kRBracket,
  kRParen,
  kSemicolon,
  kSub,
  kTilde,
};

struct Token {
  Tok type = Tok::kEof;
  int line = 1;
  std::string text;  // data, name, string (unescaped)
  int64_t integer = 0;
  double number = 0;

  bool is_name(std::string_view name) const { return type == Tok::kName && text == name; }
};

// How Jinja's messages call a kind of token, and a token.
std::string_view describe(Tok type);
std::string describe(const Token& token);

// Hands out one token at a time, so that an error in the text is only met where parsing reaches it.
class Lexer {
 public:
  // `source` is UTF-8 of at most kMaxSource bytes.
  explicit Lexer(std::string_view source);

  // The next token; false on an error. After the end: kEof for ever.
  bool next(Token& token);
  const std::string& error() const { return error_; }
  int line() const { return line_; }

 private:
  enum class State : uint8_t { kRoot, kBlock, kVariable };
  bool fail(std::string message);
  bool root(Token& token, bool& found);
  bool raw_block(size_t begin, Token& token, bool& found);
  bool comment(size_t begin);
  bool expression(Token& token, bool& found);
  bool number(Token& token, bool& found);
  bool name(Token& token, bool& found);
  bool string(Token& token, bool& found);
  bool operation(Token& token, bool& found);
  bool unescape(std::string_view body, std::string& out);
  void advance(size_t end);  // moves on and counts lines
  size_t skip_space(size_t at) const;
  size_t tag_end(size_t at, bool block,
                 bool plus) const;  // end of %} or }} with its sign and what it swallows; 0: none here
  std::string_view data_before(size_t tag, char sign, bool variable);

  std::string source_;
  std::string error_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  State state_ = State::kRoot;
  std::vector<char> open_;  // closing brackets awaited
};

}  // namespace ll::jinja
