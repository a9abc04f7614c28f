#include "ir/lexer.h"

#include <algorithm>

namespace ll::ir {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_value_char(char c) { return is_letter(c) || is_digit(c) || c == '.' || c == '-'; }

}  // namespace

void Lexer::advance() {
  size_t p = end_ + (token_ == Token::kText ? 1 : 0);  // past the closing quote
  for (; p < source_.size(); ++p) {
    const char c = source_[p];
    if (c == '/' && source_.substr(p, 2) == "//") {
      p = std::min(source_.find('\n', p), source_.size());
      if (p == source_.size()) break;
    } else if (c != ' ' && c != '\t' && c != '\n' && c != '\r') {
      break;
    }
  }
  begin_ = end_ = p;
  if (p == source_.size()) {
    token_ = Token::kEnd;
    return;
  }
  const char c = source_[p];
  const auto run = [&](auto accept) {
    while (end_ < source_.size() && accept(source_[end_])) ++end_;
  };
  if (is_letter(c)) {
    token_ = Token::kName;
    run([](char d) { return is_letter(d) || is_digit(d); });
  } else if (c == '%') {
    begin_ = ++end_;
    run(is_value_char);
    token_ = begin_ == end_ ? Token::kBad : Token::kValue;
  } else if (is_digit(c) || c == '-') {
    number();
  } else if (c == '"') {
    begin_ = ++end_;
    while (end_ < source_.size() && source_[end_] != '"' && source_[end_] != '\n') {
      end_ += source_[end_] == '\\' && end_ + 1 < source_.size() ? 2 : 1;
    }
    token_ = end_ < source_.size() && source_[end_] == '"' ? Token::kText : Token::kBad;
  } else {
    end_ += source_.substr(p, 2) == "<=" ? 2 : 1;
    token_ = Token::kSign;
  }
}

void Lexer::number() {
  token_ = Token::kInteger;
  if (source_[end_] == '-') ++end_;
  const size_t digits = end_;
  for (; end_ < source_.size(); ++end_) {
    const char c = source_[end_];
    if (c == '.' || c == 'e' || c == 'E') {
      token_ = Token::kNumber;
    } else if ((c == '+' || c == '-') && (source_[end_ - 1] == 'e' || source_[end_ - 1] == 'E')) {
      continue;
    } else if (!is_digit(c)) {
      break;
    }
  }
  if (digits == end_) token_ = Token::kBad;
}

}  // namespace ll::ir
