#include "compiler/frontend/tokenizer_regex.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "runtime/text/regex.h"
#include "runtime/text/utf8.h"

namespace ll {
namespace {

constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";  // inside a class
constexpr std::string_view kBoundary =
    R"((?:(?<=[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])(?![\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])|(?<![\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])(?=[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])))";
constexpr std::string_view kNoBoundary =
    R"((?:(?<=[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])(?=[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])|(?<![\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])(?![\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])))";

// Names both engines give to general categories and to the properties that occur; any other name is a script.
constexpr std::string_view kCategories[] = {
    "C",  "Cc", "Cf", "Cn", "Co", "Cs", "L",  "Ll", "Lm", "Lo", "Lt", "Lu", "M",  "Mc", "Me", "Mn", "N",  "Nd", "Nl",
    "No", "P",  "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs"};
struct LongName {
  std::string_view name, category;
};
constexpr LongName kLongNames[] = {
    {"Letter", "L"}, {"Uppercase_Letter", "Lu"}, {"Lowercase_Letter", "Ll"}, {"Mark", "M"},   {"Nonspacing_Mark", "Mn"},
    {"Number", "N"}, {"Decimal_Number", "Nd"},   {"Punctuation", "P"},       {"Symbol", "S"}, {"Separator", "Z"},
    {"Other", "C"}};
constexpr std::string_view kProperties[] = {"Alphabetic",  "White_Space", "Emoji",
                                            "Ideographic", "Uppercase",   "Lowercase"};

bool is_hex(char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Translator {
 public:
  explicit Translator(std::string_view in) : in_(in) {}

  Result<std::string> run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        TRY(escape(false));
      } else if (c == '[') {
        TRY(bracket());
      } else if (c == '(') {
        TRY(group());
      } else if (c == '{') {
        TRY(repeat());
      } else {
        out_ += c;
        ++at_;
      }
    }
    if (auto compiled = Regex::compile(out_); !compiled) {
      return unsupported("regex '{}': {}", in_, compiled.error().message);
    }
    return std::move(out_);
  }

 private:
  Error refuse(std::string_view what) const {
    return unsupported("regex '{}' has {} at {}, which is not supported", in_, what, at_);
  }
  char peek(size_t ahead) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }

  Status escape(bool in_class) {
    if (at_ + 1 >= in_.size()) return refuse("a backslash at its end");
    const char c = in_[at_ + 1];
    const auto emit = [&](std::string_view text, size_t consumed) {
      out_ += text;
      at_ += consumed;
      return Status{};
    };
    switch (c) {
      case 'd':
        return emit("\\p{Nd}", 2);
      case 'D':
        return emit("\\P{Nd}", 2);
      case 's':
        return emit("\\p{White_Space}", 2);
      case 'S':
        return emit("\\P{White_Space}", 2);
      case 'w':
        return in_class ? emit(kWord, 2) : emit("[" + std::string(kWord) + "]", 2);
      case 'W':
        return in_class ? Status(refuse("\\W in a class")) : emit("[^" + std::string(kWord) + "]", 2);
      case 'h':
        return in_class ? emit("0-9A-Fa-f", 2) : emit("[0-9A-Fa-f]", 2);
      case 'H':
        return in_class ? Status(refuse("\\H in a class")) : emit("[^0-9A-Fa-f]", 2);
      case 'b':
        return in_class ? emit("\\x08", 2) : emit(kBoundary, 2);
      case 'B':
        return in_class ? Status(refuse("\\B in a class")) : emit(kNoBoundary, 2);
      case 'A':
      case 'z':
      case 'Z':
      case 'R':
        if (in_class) return refuse("an anchor in a class");
        return emit(in_.substr(at_, 2), 2);
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'a':
      case 'e':
        return emit(in_.substr(at_, 2), 2);
      case 'v':
        return emit("\\x0b", 2);
      case 'p':
      case 'P':
        return property(c == 'P');
      case 'x':
        return code_point();
      case 'u': {
        for (size_t i = 2; i < 6; ++i) {
          if (!is_hex(peek(i))) return refuse("\\u without four hexadecimal digits");
        }
        return emit("\\x{" + std::string(in_.substr(at_ + 2, 4)) + "}", 6);
      }
      default:
        break;
    }
    if (std::isalnum(static_cast<unsigned char>(c))) return refuse(std::string("\\") + c);
    if (static_cast<uint8_t>(c) >= 0x80) {  // a letter that needs no escape
      ++at_;
      return {};
    }
    return emit(in_.substr(at_, 2), 2);
  }

  Status code_point() {
    if (peek(2) == '{') {
      const size_t close = in_.find('}', at_);
      if (close == std::string_view::npos || close == at_ + 3 || close > at_ + 11)
        return refuse("\\x{ without a code point");
      for (size_t i = at_ + 3; i < close; ++i) {
        if (!is_hex(in_[i])) return refuse("\\x{ without a code point");
      }
      out_ += in_.substr(at_, close + 1 - at_);
      at_ = close + 1;
      return {};
    }
    if (!is_hex(peek(2)) || !is_hex(peek(3))) return refuse("\\x without two hexadecimal digits");
    if (peek(2) >= '8') return refuse("a byte beyond ASCII");
    out_ += in_.substr(at_, 4);
    at_ += 4;
    return {};
  }

  Status property(bool negated) {
    const size_t close = in_.find('}', at_);
    if (peek(2) != '{' || close == std::string_view::npos) return refuse("\\p without a name in braces");
    std::string_view name = in_.substr(at_ + 3, close - at_ - 3);
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    const bool plain = std::all_of(name.begin(), name.end(),
                                   [](char c) { return c == '_' || std::isalpha(static_cast<unsigned char>(c)); });
    if (name.empty() || !plain) return refuse("a property of another kind");
    std::string meaning;
    const auto same = [&](std::string_view known) { return known == name; };
    if (std::any_of(std::begin(kCategories), std::end(kCategories), same) ||
        std::any_of(std::begin(kProperties), std::end(kProperties), same)) {
      meaning = name;
    } else if (const auto* row = std::find_if(std::begin(kLongNames), std::end(kLongNames),
                                              [&](const LongName& n) { return n.name == name; });
               row != std::end(kLongNames)) {
      meaning = row->category;
    } else {
      meaning = "sc:" + std::string(name);
    }
    out_ += negated ? "\\P{" : "\\p{";
    out_ += meaning + "}";
    at_ = close + 1;
    return {};
  }

  Status bracket() {
    out_ += '[';
    ++at_;
    if (peek(0) == '^') {
      out_ += '^';
      ++at_;
    }
    if (peek(0) == ']') return refuse("an empty class");
    while (at_ < in_.size() && in_[at_] != ']') {
      const char c = in_[at_];
      if (c == '\\') {
        TRY(escape(true));
      } else if (c == '[') {
        return refuse("a class in a class");
      } else if (c == '&' && peek(1) == '&') {
        return refuse("an intersection of classes");
      } else {
        out_ += c;
        ++at_;
      }
    }
    if (at_ == in_.size()) return refuse("a class without an end");
    out_ += ']';
    ++at_;
    return {};
  }

  Status group() {
    if (peek(1) == '*') return refuse("a verb");
    if (peek(1) != '?') {
      out_ += "(?:";  // nothing refers to groups
      ++at_;
      return {};
    }
    for (const std::string_view same : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (in_.substr(at_).starts_with(same)) {
        out_ += same;
        at_ += same.size();
        return {};
      }
    }
    size_t end = at_ + 2;  // options, of which i and m occur; Ruby's m lets the dot match newlines
    std::string options;
    while (end < in_.size() && (in_[end] == 'i' || in_[end] == 'm' || in_[end] == '-'))
      options += in_[end++] == 'm' ? 's' : in_[end - 1];
    if (options.empty() || end == in_.size() || (in_[end] != ':' && in_[end] != ')'))
      return refuse("a group of another kind");
    out_ += "(?" + options + in_[end];
    at_ = end + 1;
    return {};
  }

  // {n}, {n,}, {,m}, {n,m}; any other brace is a letter.
  Status repeat() {
    size_t end = at_ + 1;
    const size_t low = end;
    while (end < in_.size() && is_digit(in_[end])) ++end;
    const std::string least(in_.substr(low, end - low));
    const bool range = end < in_.size() && in_[end] == ',';
    std::string most;
    if (range) {
      const size_t high = ++end;
      while (end < in_.size() && is_digit(in_[end])) ++end;
      most = in_.substr(high, end - high);
    }
    const bool closed = end < in_.size() && in_[end] == '}';
    if (!closed || (least.empty() && most.empty())) {
      out_ += "\\{";
      ++at_;
      return {};
    }
    const char next = end + 1 < in_.size() ? in_[end + 1] : '\0';
    if (next == '+' || (next == '?' && !range)) return refuse("a repetition of a repetition");
    out_ += "{" + (least.empty() ? std::string("0") : least) + (range ? "," : "") + most + "}";
    at_ = end + 1;
    return {};
  }

  std::string_view in_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

Result<std::string> regex_to_pcre2(std::string_view oniguruma) { return Translator(oniguruma).run(); }

}  // namespace ll
