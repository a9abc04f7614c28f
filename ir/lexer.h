// Tokens of the text form (ir/text.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ll::ir {

enum class Token : uint8_t { kEnd, kName, kValue, kInteger, kNumber, kText, kSign, kBad };

// Splits the text into tokens, one ahead of the parser.
class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) { advance(); }

  Token token() const { return token_; }
  std::string_view text() const { return source_.substr(begin_, end_ - begin_); }  // without % of a value
  size_t position() const { return begin_; }
  bool is(std::string_view sign_or_name) const {
    return (token_ == Token::kSign || token_ == Token::kName) && text() == sign_or_name;
  }

  void advance();

 private:
  void number();

  std::string_view source_;
  size_t begin_ = 0, end_ = 0;
  Token token_ = Token::kEnd;
};

}  // namespace ll::ir
