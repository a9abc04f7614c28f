// Expressions, after Jinja's grammar: unlike Python's, `-` binds tighter than `**`, `~` sits between `+` and `*`, and
// filters apply to what a sign made.
#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "runtime/text/jinja/builtins.h"
#include "runtime/text/jinja/parser.h"

namespace ll::jinja {
namespace {

struct Binary {
  Tok type;
  Op op;
};
constexpr Binary kAddition[] = {{Tok::kAdd, Op::kAdd}, {Tok::kSub, Op::kSub}};
constexpr Binary kMultiplication[] = {
    {Tok::kMul, Op::kMul}, {Tok::kDiv, Op::kDiv}, {Tok::kFloorDiv, Op::kFloorDiv}, {Tok::kMod, Op::kMod}};
constexpr Binary kPower[] = {{Tok::kPow, Op::kPow}};

const Binary* find(std::span<const Binary> operators, Tok type) {
  for (const Binary& row : operators) {
    if (row.type == type) return &row;
  }
  return nullptr;
}

}  // namespace

void Parser::load(std::string_view name) {
  static constexpr std::string_view kNames[] = {"caller", "kwargs", "varargs"};
  for (Specials& specials : specials_) {
    for (size_t i = 0; i < 3 && specials.in_body; ++i) {
      if (name == kNames[i] && !specials.shadowed[i]) specials.read[i] = true;
    }
  }
  emitter_.emit(Op::kLoad, emitter_.text(name));
}

void Parser::require_builtin(bool is_filter, std::string_view name, int line) {
  if (soft_ || (is_filter ? find_filter(name) : find_test(name)) >= 0) return;
  unknown_.push_back({emitter_.here(), line, fmt::format("No {} named '{}'.", is_filter ? "filter" : "test", name)});
}

// Expressions separated by commas: a tuple when there is a comma.
bool Parser::tuple(bool with_conditional, bool parentheses) {
  uint32_t count = 0;
  bool is_tuple = false;
  for (;;) {
    if (count > 0 && !expect(Tok::kComma)) return false;
    if (current_.type == Tok::kVariableEnd || current_.type == Tok::kBlockEnd || current_.type == Tok::kRParen) break;
    if (!(with_conditional ? expression() : expression(Level::kOr))) return false;
    ++count;
    if (current_.type != Tok::kComma) break;
    is_tuple = true;
  }
  if (count == 1 && !is_tuple) return true;
  if (count == 0 && !parentheses) return fail(fmt::format("Expected an expression, got '{}'", describe(current_)));
  emitter_.emit(Op::kTuple, count);
  is_call_ = false;
  return true;
}

bool Parser::expression() {
  if (!enter()) return false;
  const size_t begin = emitter_.here();
  const int line = current_.line;
  if (!expression(Level::kOr)) return false;
  if (current_.is_name("if") && !conditional_tail(begin, line)) return false;
  leave();
  return true;
}

// `value if test else other`, once or chained: the value's code was emitted at `begin`, the test has to run before it.
bool Parser::conditional_tail(size_t begin, int line) {
  bool conditional = false;
  for (;;) {
    if (!skip_name("if", conditional)) return false;
    if (!conditional) break;
    const size_t middle = emitter_.here();
    if (!expression(Level::kOr)) return false;
    const size_t value = begin + (emitter_.here() - middle);
    if (!emitter_.swap(begin, middle) || !emitter_.insert(value, {Op::kJumpIfFalse}))
      return fail("template is too complex");
    const size_t over = emitter_.jump(Op::kJump);
    emitter_.land(value);
    bool otherwise = false;
    if (!skip_name("else", otherwise)) return false;
    if (otherwise) {
      if (!expression()) return false;
    } else {
      emitter_.emit(Op::kUndefined, emitter_.text(fmt::format(
                                        "the inline if-expression on line {} evaluated to false and no else section "
                                        "was defined.",
                                        line)));
    }
    emitter_.land(over);
    line = current_.line;
  }
  // What a conditional names need not exist until it is used.
  std::erase_if(unknown_, [&](const Unknown& unknown) { return unknown.place >= begin; });
  is_call_ = false;
  return true;
}

// Operators of `level` and tighter ones. Each recursion is for the right side of an operator, a level tighter.
bool Parser::expression(Level level) {
  if (!operand(level)) return false;
  const auto allowed = [&](Level at) { return level <= at; };
  // From tight to loose: once a looser operator was read, a tighter one cannot follow, since its right side took it.
  if (allowed(Level::kPow)) {
    while (const Binary* row = find(kPower, current_.type)) {
      if (!advance() || !unary(true)) return false;
      emitter_.emit(row->op);
      is_call_ = false;
    }
  }
  if (allowed(Level::kMul)) {
    while (const Binary* row = find(kMultiplication, current_.type)) {
      if (!advance() || !expression(Level::kPow)) return false;
      emitter_.emit(row->op);
      is_call_ = false;
    }
  }
  if (allowed(Level::kConcat) && current_.type == Tok::kTilde) {
    uint32_t count = 1;
    for (; current_.type == Tok::kTilde; ++count) {
      if (!advance() || !expression(Level::kMul)) return false;
    }
    emitter_.emit(Op::kConcat, count);
    is_call_ = false;
  }
  if (allowed(Level::kAdd)) {
    while (const Binary* row = find(kAddition, current_.type)) {
      if (!advance() || !expression(Level::kConcat)) return false;
      emitter_.emit(row->op);
      is_call_ = false;
    }
  }
  if (allowed(Level::kCompare) && !comparisons()) return false;
  for (const auto& [at, name, op] : {std::tuple{Level::kAnd, "and", Op::kAnd}, std::tuple{Level::kOr, "or", Op::kOr}}) {
    while (allowed(at) && current_.is_name(name)) {
      const size_t jump = emitter_.jump(op);
      if (!advance() || !expression(at == Level::kAnd ? Level::kNot : Level::kAnd)) return false;
      emitter_.land(jump);
      is_call_ = false;
    }
  }
  return true;
}

// The first operand: `not`s, where the level allows them, then a unary expression.
bool Parser::operand(Level level) {
  if (level > Level::kNot || !current_.is_name("not")) return unary(true);
  size_t count = 0;
  for (; current_.is_name("not"); ++count) {
    if (!advance()) return false;
  }
  if (!expression(Level::kCompare)) return false;
  // An even number still makes a bool.
  for (size_t i = count > 2 ? 2 - count % 2 : count; i > 0; --i) emitter_.emit(Op::kNot);
  is_call_ = false;
  return true;
}

bool Parser::comparisons() {
  std::vector<size_t> exits;
  std::optional<Comparison> pending;
  for (;;) {
    std::optional<Comparison> next;
    switch (current_.type) {
      case Tok::kEq:
        next = Comparison::kEq;
        break;
      case Tok::kNe:
        next = Comparison::kNe;
        break;
      case Tok::kLt:
        next = Comparison::kLt;
        break;
      case Tok::kLtEq:
        next = Comparison::kLe;
        break;
      case Tok::kGt:
        next = Comparison::kGt;
        break;
      case Tok::kGtEq:
        next = Comparison::kGe;
        break;
      default:
        break;
    }
    if (current_.is_name("in")) next = Comparison::kIn;
    if (current_.is_name("not")) {
      Token token;
      if (!look(token)) return false;
      if (token.is_name("in")) {
        if (!advance()) return false;
        next = Comparison::kNotIn;
      }
    }
    if (pending && next) exits.push_back(emitter_.jump(Op::kChain, static_cast<uint32_t>(*pending)));
    if (pending && !next) emitter_.emit(Op::kCompare, static_cast<uint32_t>(*pending));
    if (!next) break;
    if (!advance() || !expression(Level::kAdd)) return false;
    is_call_ = false;
    pending = next;
  }
  for (const size_t jump : exits) emitter_.land(jump);
  return true;
}

bool Parser::unary(bool with_filter) {
  std::vector<Op> signs;
  while (current_.type == Tok::kSub || current_.type == Tok::kAdd) {
    signs.push_back(current_.type == Tok::kSub ? Op::kNegative : Op::kPositive);
    if (!advance()) return false;
  }
  if (!primary() || !postfix()) return false;
  for (auto sign = signs.rbegin(); sign != signs.rend(); ++sign) {
    emitter_.emit(*sign);
    is_call_ = false;
  }
  return !with_filter || filters_and_tests();
}

bool Parser::primary() {
  const Token token = current_;
  is_call_ = false;
  switch (token.type) {
    case Tok::kName:
      if (!advance()) return false;
      if (token.text == "true" || token.text == "True") {
        emitter_.emit(Op::kTrue);
      } else if (token.text == "false" || token.text == "False") {
        emitter_.emit(Op::kFalse);
      } else if (token.text == "none" || token.text == "None") {
        emitter_.emit(Op::kNone);
      } else {
        load(token.text);
      }
      return true;
    case Tok::kString: {
      std::string text = token.text;
      if (!advance()) return false;
      while (current_.type == Tok::kString) {
        text += current_.text;
        if (!advance()) return false;
      }
      emitter_.emit(Op::kConst, emitter_.text(text));
      return true;
    }
    case Tok::kInteger:
      emitter_.emit(Op::kConst, emitter_.integer(token.integer));
      return advance();
    case Tok::kFloat:
      emitter_.emit(Op::kConst, emitter_.number(token.number));
      return advance();
    case Tok::kLParen:
      return advance() && tuple(true, true) && expect(Tok::kRParen);
    case Tok::kLBracket:
      return list();
    case Tok::kLBrace:
      return dict();
    default:
      return fail(fmt::format("unexpected '{}'", describe(token)), token.line);
  }
}

bool Parser::list() {
  if (!advance()) return false;
  uint32_t count = 0;
  while (current_.type != Tok::kRBracket) {
    if (count > 0 && !expect(Tok::kComma)) return false;
    if (current_.type == Tok::kRBracket) break;
    if (!expression()) return false;
    ++count;
  }
  emitter_.emit(Op::kList, count);
  is_call_ = false;
  return advance();
}

bool Parser::dict() {
  if (!advance()) return false;
  uint32_t count = 0;
  while (current_.type != Tok::kRBrace) {
    if (count > 0 && !expect(Tok::kComma)) return false;
    if (current_.type == Tok::kRBrace) break;
    if (!expression() || !expect(Tok::kColon) || !expression()) return false;
    ++count;
  }
  emitter_.emit(Op::kDict, count);
  is_call_ = false;
  return advance();
}

bool Parser::postfix() {
  for (;;) {
    if (current_.type == Tok::kDot || current_.type == Tok::kLBracket) {
      if (!subscript()) return false;
    } else if (current_.type == Tok::kLParen) {
      if (!call()) return false;
    } else {
      return true;
    }
  }
}

bool Parser::filters_and_tests() {
  for (;;) {
    if (current_.type == Tok::kPipe) {
      if (!filter(false)) return false;
    } else if (current_.is_name("is")) {
      if (!test()) return false;
    } else if (current_.type == Tok::kLParen) {
      if (!call()) return false;
    } else {
      return true;
    }
  }
}

bool Parser::subscript() {
  const bool dot = current_.type == Tok::kDot;
  if (!advance()) return false;
  if (dot) {
    const Token token = current_;
    if (!advance()) return false;
    if (token.type == Tok::kName) {
      emitter_.emit(Op::kGetAttr, emitter_.text(token.text));
    } else if (token.type == Tok::kInteger) {
      emitter_.emit(Op::kConst, emitter_.integer(token.integer));
      emitter_.emit(Op::kGetItem);
    } else {
      return fail("expected name or number", token.line);
    }
    is_call_ = false;
    return true;
  }
  uint32_t count = 0;
  bool sliced = false;
  while (current_.type != Tok::kRBracket) {
    if (count > 0 && !expect(Tok::kComma)) return false;
    if (count > 0 && sliced) return fail("a slice among several subscripts is not supported");
    if (!slice_or_item(sliced)) return false;
    ++count;
  }
  if (count > 1 && sliced) return fail("a slice among several subscripts is not supported");
  if (!advance()) return false;
  if (count != 1) emitter_.emit(Op::kTuple, count);
  emitter_.emit(sliced ? Op::kSlice : Op::kGetItem);
  is_call_ = false;
  return true;
}

// An item's key, or start:stop:step as three values with None for what is left out.
bool Parser::slice_or_item(bool& sliced) {
  if (current_.type == Tok::kColon) {
    emitter_.emit(Op::kNone);
  } else {
    if (!expression()) return false;
    if (current_.type != Tok::kColon) return true;
  }
  sliced = true;
  if (!advance()) return false;
  const auto at_end = [&] { return current_.type == Tok::kRBracket || current_.type == Tok::kComma; };
  if (current_.type == Tok::kColon || at_end()) {
    emitter_.emit(Op::kNone);
  } else if (!expression()) {
    return false;
  }
  if (current_.type != Tok::kColon) {
    emitter_.emit(Op::kNone);
    return true;
  }
  if (!advance()) return false;
  if (at_end()) {
    emitter_.emit(Op::kNone);
    return true;
  }
  return expression();
}

bool Parser::arguments(CallShape& shape) {
  const int line = current_.line;
  if (!expect(Tok::kLParen)) return false;
  const auto invalid = [&] { return fail("invalid syntax for function call expression", line); };
  bool comma = false;
  while (current_.type != Tok::kRParen) {
    if (comma) {
      if (!expect(Tok::kComma)) return false;
      if (current_.type == Tok::kRParen) break;
    }
    comma = true;
    if (current_.type == Tok::kMul) {
      if (shape.flags != 0) return invalid();
      shape.flags |= CallShape::kStar;
      if (!advance() || !expression()) return false;
      continue;
    }
    if (current_.type == Tok::kPow) {
      if (shape.flags & CallShape::kStarStar) return invalid();
      shape.flags |= CallShape::kStarStar;
      if (!advance() || !expression()) return false;
      continue;
    }
    Token ahead;
    if (current_.type == Tok::kName && !look(ahead)) return false;
    if (current_.type == Tok::kName && ahead.type == Tok::kAssign) {
      // After *iterable a keyword's value would lie above it on the stack.
      if (shape.flags & CallShape::kStarStar) return invalid();
      if (shape.flags & CallShape::kStar) return fail("a keyword after *arguments is not supported", line);
      shape.keywords.push_back(emitter_.text(current_.text));
      if (shape.keywords.size() > 255) return fail("call has more than 255 keywords");
      if (!advance() || !advance() || !expression()) return false;
    } else {
      if (shape.flags != 0 || !shape.keywords.empty()) return invalid();
      if (!expression()) return false;
      ++shape.positional;
    }
  }
  return advance();
}

bool Parser::call() {
  CallShape shape;
  if (!arguments(shape)) return false;
  emitter_.emit(Op::kCall, 0, static_cast<int32_t>(emitter_.call(std::move(shape))));
  is_call_ = true;
  return true;
}

bool Parser::dotted_name(std::string& name) {
  if (!expect_identifier(name)) return false;
  while (current_.type == Tok::kDot) {
    std::string part;
    if (!advance() || !expect_identifier(part)) return false;
    name += "." + part;
    if (name.size() > 1000) return fail("name is too long");
  }
  return true;
}

// `|name(arguments)`, once or more; the first without its bar in {% filter %}.
bool Parser::filter(bool first_inline) {
  while (current_.type == Tok::kPipe || first_inline) {
    if (!first_inline && !advance()) return false;
    first_inline = false;
    const int line = current_.line;
    std::string name;
    if (!dotted_name(name)) return false;
    CallShape shape;
    if (current_.type == Tok::kLParen && !arguments(shape)) return false;
    require_builtin(true, name, line);
    emitter_.emit(Op::kFilter, emitter_.text(name), static_cast<int32_t>(emitter_.call(std::move(shape))));
    is_call_ = false;
  }
  return true;
}

bool Parser::test() {
  const int line = current_.line;
  if (!advance()) return false;
  bool negated = false;
  if (!skip_name("not", negated)) return false;
  std::string name;
  if (!dotted_name(name)) return false;
  CallShape shape;
  const Tok type = current_.type;
  const bool keyword = current_.is_name("else") || current_.is_name("or") || current_.is_name("and");
  if (type == Tok::kLParen) {
    if (!arguments(shape)) return false;
  } else if ((type == Tok::kName || type == Tok::kString || type == Tok::kInteger || type == Tok::kFloat ||
              type == Tok::kLBracket || type == Tok::kLBrace) &&
             !keyword) {
    if (current_.is_name("is")) return fail("You cannot chain multiple tests with is");
    if (!primary() || !postfix()) return false;
    shape.positional = 1;
  }
  require_builtin(false, name, line);
  emitter_.emit(Op::kTest, emitter_.text(name), static_cast<int32_t>(emitter_.call(std::move(shape))));
  if (negated) emitter_.emit(Op::kNot);
  is_call_ = false;
  return true;
}

}  // namespace ll::jinja
