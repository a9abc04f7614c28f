// Statements: one function per tag.
#include "runtime/text/jinja/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "runtime/text/jinja/template.h"
#include "runtime/text/jinja/unicode.h"

namespace ll::jinja {
namespace {

constexpr std::string_view kSpecialNames[] = {"caller", "kwargs", "varargs"};
constexpr uint8_t kSpecialFlags[] = {MacroShape::kCaller, MacroShape::kKwargs, MacroShape::kVarargs};

std::string quoted_list(const std::vector<std::string_view>& names) {
  std::string out;
  for (const std::string_view name : names) out += fmt::format("{}'{}'", out.empty() ? "" : " or ", name);
  return out;
}

}  // namespace

Result<Program> compile(std::string_view source) {
  Parser parser(source);
  if (!parser.parse()) return parser.error();
  return std::move(parser).take();
}

Error Parser::error() const { return bad_data("line {}: {}", error_line_, error_); }

bool Parser::parse() {
  if (!advance()) return false;
  if (!body({})) return false;
  if (emitter_.full()) return fail(fmt::format("template has more than {} instructions", kMaxInstructions));
  if (unknown_.empty()) return true;
  return fail(unknown_.front().message, unknown_.front().line);
}

bool Parser::fail(std::string message, int line) {
  if (error_.empty()) {
    error_ = std::move(message);
    error_line_ = line != 0 ? line : current_.line;
  }
  return false;
}

bool Parser::advance() {
  if (ahead_) {
    current_ = std::move(*ahead_);
    ahead_.reset();
    return true;
  }
  return lexer_.next(current_) || fail(lexer_.error(), lexer_.line());
}

bool Parser::look(Token& token) {
  if (!ahead_) {
    ahead_.emplace();
    if (!lexer_.next(*ahead_)) return fail(lexer_.error(), lexer_.line());
  }
  token = *ahead_;
  return true;
}

bool Parser::skip_if(Tok type, bool& skipped) {
  skipped = current_.type == type;
  return !skipped || advance();
}

bool Parser::skip_name(std::string_view name, bool& skipped) {
  skipped = current_.is_name(name);
  return !skipped || advance();
}

bool Parser::expect(Tok type) {
  if (current_.type == type) return advance();
  if (current_.type == Tok::kEof)
    return fail(fmt::format("unexpected end of template, expected '{}'.", describe(type)));
  return fail(fmt::format("expected token '{}', got '{}'", describe(type), describe(current_)));
}

bool Parser::expect_name(std::string_view name) {
  if (current_.is_name(name)) return advance();
  if (current_.type == Tok::kEof) return fail(fmt::format("unexpected end of template, expected '{}'.", name));
  return fail(fmt::format("expected token '{}', got '{}'", name, describe(current_)));
}

bool Parser::expect_identifier(std::string& name) {
  if (current_.type == Tok::kName) name = current_.text;
  return expect(Tok::kName);
}

bool Parser::enter() {
  return ++nesting_ <= kMaxNesting || fail(fmt::format("nested deeper than {} levels", kMaxNesting));
}

bool Parser::fail_end() {
  std::string message = "Unexpected end of template.";
  if (!ends_.empty())
    message += fmt::format(" Jinja was looking for the following tags: {}.", quoted_list(ends_.back()));
  if (!tags_.empty()) message += fmt::format(" The innermost block that needs to be closed is '{}'.", tags_.back());
  return fail(std::move(message));
}

bool Parser::fail_unknown_tag(const Token& tag) {
  std::string message = fmt::format("Encountered unknown tag '{}'.", tag.text);
  if (!ends_.empty()) {
    const std::string looking = quoted_list(ends_.back());
    const bool misplaced = std::any_of(ends_.begin(), ends_.end(), [&](const auto& ends) {
      return std::find(ends.begin(), ends.end(), tag.text) != ends.end();
    });
    message += misplaced ? fmt::format(
                               " You probably made a nesting mistake. Jinja is expecting this tag, but currently "
                               "looking for {}.",
                               looking)
                         : fmt::format(" Jinja was looking for the following tags: {}.", looking);
  }
  if (!tags_.empty()) message += fmt::format(" The innermost block that needs to be closed is '{}'.", tags_.back());
  return fail(std::move(message), tag.line);
}

// Data, output and statements up to one of the end tags, whose name is then current; to the end of the template without
// any.
bool Parser::body(Ends ends) {
  if (!ends.empty()) ends_.emplace_back(ends.begin(), ends.end());
  while (current_.type != Tok::kEof) {
    if (emitter_.full()) return fail(fmt::format("template has more than {} instructions", kMaxInstructions));
    if (current_.type == Tok::kData) {
      emitter_.emit(Op::kText, emitter_.text(current_.text));
      if (!advance()) return false;
    } else if (current_.type == Tok::kVariableBegin) {
      if (!advance() || !tuple(true, false)) return false;
      emitter_.emit(Op::kEmit);
      if (!expect(Tok::kVariableEnd)) return false;
    } else {
      if (!advance()) return false;
      if (current_.type == Tok::kName && std::find(ends.begin(), ends.end(), current_.text) != ends.end()) break;
      if (!statement() || !expect(Tok::kBlockEnd)) return false;
    }
  }
  if (!ends.empty()) {
    if (current_.type == Tok::kEof) return fail_end();
    ends_.pop_back();
  }
  return true;
}

// The end of a block's opening tag and its body.
bool Parser::block_body(Ends ends, bool drop_end) {
  bool colon = false;
  if (!skip_if(Tok::kColon, colon) || !expect(Tok::kBlockEnd)) return false;
  return body(ends) && (!drop_end || advance());
}

// Where a tag opens a frame of its own, it forgets that a condition surrounds it (soft_), as Jinja's compiler does.
bool Parser::statement() {
  const Token tag = current_;
  if (tag.type != Tok::kName) return fail("tag name expected");
  static constexpr struct {
    std::string_view tag;
    bool (Parser::*parse)();
  } kStatements[] = {
      {"for", &Parser::loop},
      {"if", &Parser::condition},
      {"set", &Parser::set},
      {"macro", &Parser::macro},
      {"call", &Parser::call_block},
      {"filter", &Parser::filter_block},
      {"with", &Parser::with},
      {"block", &Parser::block},
      {"print", &Parser::print},
      {"generation", &Parser::generation},
      {"autoescape", &Parser::autoescape},
  };
  if (!enter()) return false;
  tags_.push_back(tag.text);
  const bool outer_soft = soft_;
  bool known = false, ok = true;
  for (const auto& row : kStatements) {
    if (row.tag != tag.text) continue;
    known = true;
    ok = (this->*row.parse)();
  }
  if (!known && (tag.text == "break" || tag.text == "continue")) {
    known = true;
    ok = leave_loop(tag.text == "break");
  }
  if (!known && (tag.text == "extends" || tag.text == "include" || tag.text == "import" || tag.text == "from")) {
    known = true;
    ok = other_template(tag.text);
  }
  soft_ = outer_soft;
  tags_.pop_back();
  if (!known) return fail_unknown_tag(tag);
  leave();
  return ok;
}

bool Parser::store_name(std::string_view name) {
  if (loops_ > 0 && name == "loop") return fail("Can't assign to special loop variable in for-loop target");
  for (Specials& specials : specials_) {
    if (!specials.in_body) continue;
    for (size_t i = 0; i < 3; ++i) specials.shadowed[i] |= name == kSpecialNames[i];
  }
  emitter_.emit(Op::kStore, emitter_.text(name));
  return true;
}

bool Parser::target_item(Target& target, bool with_namespace) {
  const Token token = current_;
  if (token.type == Tok::kLParen) {
    if (!enter() || !advance()) return false;
    target.kind = Target::Kind::kTuple;
    while (current_.type != Tok::kRParen) {
      if (!target.items.empty() && !expect(Tok::kComma)) return false;
      if (current_.type == Tok::kRParen) break;
      if (!target_item(target.items.emplace_back(), false)) return false;
    }
    leave();
    if (!advance()) return false;
    if (target.items.size() == 1) {
      Target only = std::move(target.items[0]);
      target = std::move(only);
    }
    return true;
  }
  if (token.type == Tok::kString || token.type == Tok::kInteger || token.type == Tok::kFloat) {
    return fail("can't assign to 'const'");
  }
  if (token.type == Tok::kLBracket) return fail("can't assign to 'list'");
  if (token.type == Tok::kLBrace) return fail("can't assign to 'dict'");
  if (token.type != Tok::kName) return fail(fmt::format("unexpected '{}'", describe(token)));
  for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
    if (token.text == constant) return fail("can't assign to 'const'");
  }
  target.name = token.text;
  if (!advance()) return false;
  if (!with_namespace || current_.type != Tok::kDot) return true;
  target.kind = Target::Kind::kAttribute;
  return advance() && expect_identifier(target.attribute);
}

// name, ns.attribute, or several of them separated by commas.
bool Parser::assignment_target(Target& target, bool with_namespace) {
  Target tuple;
  tuple.kind = Target::Kind::kTuple;
  bool is_tuple = false;
  for (;;) {
    if (!tuple.items.empty() && !expect(Tok::kComma)) return false;
    const bool ended =
        current_.type == Tok::kVariableEnd || current_.type == Tok::kBlockEnd || current_.type == Tok::kRParen;
    if (ended) break;
    if (!target_item(tuple.items.emplace_back(), with_namespace)) return false;
    if (current_.type != Tok::kComma) break;
    is_tuple = true;
  }
  if (tuple.items.empty()) return fail(fmt::format("Expected an expression, got '{}'", describe(current_)));
  if (!is_tuple) {
    Target only = std::move(tuple.items[0]);
    target = std::move(only);
  } else {
    target = std::move(tuple);
  }
  return true;
}

bool Parser::check_namespaces(const Target& target) {
  if (target.kind == Target::Kind::kAttribute) {
    load(target.name);  // for its effect on special variables
    emitter_.drop_last();
    emitter_.emit(Op::kCheckNamespace, emitter_.text(target.name));
  }
  for (const Target& item : target.items) {
    if (!check_namespaces(item)) return false;
  }
  return true;
}

bool Parser::store(const Target& target) {
  if (target.kind == Target::Kind::kName) return store_name(target.name);
  if (target.kind == Target::Kind::kAttribute) {
    emitter_.emit(Op::kStoreAttr, emitter_.text(target.name), static_cast<int32_t>(emitter_.text(target.attribute)));
    return true;
  }
  emitter_.emit(Op::kUnpack, static_cast<uint32_t>(target.items.size()));
  for (const Target& item : target.items) {
    if (!store(item)) return false;
  }
  return true;
}

bool Parser::set() {
  Target target;
  if (!advance() || !assignment_target(target, true)) return false;
  bool assign = false;
  if (!skip_if(Tok::kAssign, assign)) return false;
  if (!assign) return set_block(target);
  return check_namespaces(target) && tuple(true, false) && store(target);
}

bool Parser::set_block(const Target& target) {
  const bool outer_soft = std::exchange(soft_, false);
  static constexpr std::string_view kEnds[] = {"endset"};
  if (!captured_block(current_.type == Tok::kPipe, false, kEnds)) return false;
  emitter_.emit(Op::kPopScope);
  soft_ = outer_soft;
  return check_namespaces(target) && store(target);
}

bool Parser::filter_block() {
  soft_ = false;
  static constexpr std::string_view kEnds[] = {"endfilter"};
  if (!advance() || !captured_block(true, true, kEnds)) return false;
  emitter_.emit(Op::kEmit, 1);
  emitter_.emit(Op::kPopScope);
  return true;
}

// A scope whose text is captured and filtered. The filters stand before the body and run after it.
bool Parser::captured_block(bool filtered, bool inline_filter, Ends ends) {
  const size_t to_body = filtered ? emitter_.jump(Op::kJump) : 0;
  const size_t filters = emitter_.here();
  if (filtered && !filter(inline_filter)) return false;
  const size_t to_end = filtered ? emitter_.jump(Op::kJump) : 0;
  if (filtered) emitter_.land(to_body);
  emitter_.emit(Op::kPushScope);
  emitter_.emit(Op::kBeginCapture);
  enclosures_.push_back({Enclosure::Kind::kScope, 0, {}});
  enclosures_.push_back({Enclosure::Kind::kCapture, 0, {}});
  if (!block_body(ends, true)) return false;
  enclosures_.resize(enclosures_.size() - 2);
  emitter_.emit(Op::kEndCapture);
  if (!filtered) return true;
  emitter_.jump_back(Op::kJump, filters);
  emitter_.land(to_end);
  return true;
}

// {% for target in items if test recursive %}: the items that pass the test are collected first, so that loop.length
// and loop.last speak of them alone.
bool Parser::loop() {
  Target target;
  if (!advance() || !assignment_target(target, false) || !expect_name("in")) return false;
  if (!tuple(false, false)) return false;
  soft_ = false;
  const size_t entry = emitter_.here();
  bool filtered = false, recursive = false;
  if (!skip_name("if", filtered)) return false;
  ++loops_;
  if (filtered && !loop_filter(target)) return false;
  if (!skip_name("recursive", recursive)) return false;
  emitter_.jump_back(Op::kForBegin, entry, recursive ? 1 : 0);
  const size_t next = emitter_.jump(Op::kForNext);
  if (!store(target)) return false;
  enclosures_.push_back({Enclosure::Kind::kLoop, next, {}});
  static constexpr std::string_view kEnds[] = {"endfor", "else"};
  if (!block_body(kEnds, false)) return false;
  const std::vector<size_t> breaks = std::move(enclosures_.back().breaks);
  enclosures_.pop_back();
  emitter_.emit(Op::kForDone);
  emitter_.jump_back(Op::kJump, next);
  emitter_.land(next);
  for (const size_t jump : breaks) emitter_.land(jump);
  const bool otherwise = current_.text == "else";
  if (!advance()) return false;
  if (otherwise) {
    const size_t done = emitter_.jump(Op::kForElse);
    emitter_.emit(Op::kPushScope);
    // The else branch is no part of the loop: break and continue speak of the loop around it.
    enclosures_.push_back({recursive ? Enclosure::Kind::kFunction : Enclosure::Kind::kElse, 0, {}});
    static constexpr std::string_view kElseEnds[] = {"endfor"};
    if (!block_body(kElseEnds, true)) return false;
    enclosures_.pop_back();
    emitter_.emit(Op::kPopScope);
    emitter_.land(done);
  }
  emitter_.emit(Op::kForEnd);
  --loops_;
  return true;
}

bool Parser::loop_filter(const Target& target) {
  emitter_.emit(Op::kFilterBegin);
  const size_t next = emitter_.jump(Op::kFilterNext);
  if (!store(target) || !expression()) return false;
  emitter_.emit(Op::kFilterKeep);
  emitter_.jump_back(Op::kJump, next);
  emitter_.land(next);
  emitter_.emit(Op::kFilterEnd);
  return true;
}

bool Parser::condition() {
  std::vector<size_t> exits;
  if (!advance()) return false;
  soft_ = true;
  for (;;) {
    if (!tuple(false, false)) return false;
    const size_t next = emitter_.jump(Op::kJumpIfFalse);
    static constexpr std::string_view kEnds[] = {"elif", "else", "endif"};
    if (!block_body(kEnds, false)) return false;
    const std::string end = current_.text;
    if (!advance()) return false;
    if (end == "endif") {
      emitter_.land(next);
      break;
    }
    exits.push_back(emitter_.jump(Op::kJump));
    emitter_.land(next);
    if (end == "elif") continue;
    static constexpr std::string_view kElseEnds[] = {"endif"};
    if (!block_body(kElseEnds, true)) return false;
    break;
  }
  for (const size_t jump : exits) emitter_.land(jump);
  return true;
}

bool Parser::with() {
  if (!advance()) return false;
  std::vector<Target> targets;
  while (current_.type != Tok::kBlockEnd) {
    if (!targets.empty() && !expect(Tok::kComma)) return false;
    if (!assignment_target(targets.emplace_back(), false) || !expect(Tok::kAssign) || !expression()) return false;
  }
  soft_ = false;
  emitter_.emit(Op::kPushScope);
  for (auto target = targets.rbegin(); target != targets.rend(); ++target) {
    if (!store(*target)) return false;
  }
  enclosures_.push_back({Enclosure::Kind::kScope, 0, {}});
  static constexpr std::string_view kEnds[] = {"endwith"};
  if (!block_body(kEnds, true)) return false;
  enclosures_.pop_back();
  emitter_.emit(Op::kPopScope);
  return true;
}

// Nothing can extend a template, so a block is its default body.
bool Parser::block() {
  soft_ = false;
  std::string name;
  if (!advance() || !expect_identifier(name)) return false;
  bool scoped = false, required = false;
  if (!skip_name("scoped", scoped) || !skip_name("required", required)) return false;
  if (current_.type == Tok::kSub) {
    return fail(
        "Block names in Jinja have to be valid Python identifiers and may not contain hyphens, use an underscore "
        "instead.");
  }
  if (std::find(blocks_.begin(), blocks_.end(), name) != blocks_.end()) {
    return fail(fmt::format("block '{}' defined twice", name));
  }
  if (blocks_.size() >= 256) return fail("template has more than 256 blocks");
  blocks_.push_back(name);
  if (required) emitter_.emit(Op::kFail, emitter_.text(fmt::format("Required block '{}' not found", name)));
  emitter_.emit(scoped ? Op::kPushScope : Op::kPushRootScope);
  enclosures_.push_back({Enclosure::Kind::kFunction, 0, {}});
  static constexpr std::string_view kEnds[] = {"endblock"};
  if (!block_body(kEnds, true)) return false;
  enclosures_.pop_back();
  emitter_.emit(Op::kPopScope);
  bool repeated = false;
  return skip_name(name, repeated);
}

// The parameters of a macro; emits the code that gives those without an argument their defaults.
bool Parser::signature(MacroShape& shape, std::optional<size_t>& caller_without_default) {
  if (!expect(Tok::kLParen)) return false;
  bool defaults = false;
  while (current_.type != Tok::kRParen) {
    if (!shape.parameters.empty() && !expect(Tok::kComma)) return false;
    std::string name;
    if (!expect_identifier(name)) return false;
    const uint32_t constant = emitter_.text(name);
    shape.parameters.push_back(constant);
    if (shape.parameters.size() > 255) return fail("macro has more than 255 parameters");
    bool assign = false;
    if (!skip_if(Tok::kAssign, assign)) return false;
    if (assign) {
      defaults = true;
      const size_t given = emitter_.jump(Op::kParameter, constant);
      if (!expression()) return false;
      emitter_.emit(Op::kStore, constant);
      emitter_.land(given);
    } else {
      if (defaults) return fail("non-default argument follows default argument");
      if (name == "caller") caller_without_default = shape.parameters.size() - 1;
      emitter_.emit(Op::kParameterAbsent, constant);
    }
    for (size_t i = 0; i < 3; ++i) {
      // An argument of that name takes the special variable's place, but `caller` keeps its effect on {% call %}.
      if (i > 0 && name == kSpecialNames[i]) specials_.back().shadowed[i] = true;
    }
  }
  return expect(Tok::kRParen);
}

bool Parser::macro_body(MacroShape& shape, std::string_view end, std::optional<size_t> caller_without_default,
                        int line) {
  specials_.back().in_body = true;
  enclosures_.push_back({Enclosure::Kind::kFunction, 0, {}});
  const std::string_view ends[] = {end};
  if (!block_body(ends, true)) return false;
  enclosures_.pop_back();
  emitter_.emit(Op::kReturn);
  for (size_t i = 0; i < 3; ++i) {
    if (specials_.back().read[i]) shape.flags = static_cast<uint8_t>(shape.flags | kSpecialFlags[i]);
  }
  specials_.pop_back();
  if (caller_without_default && (shape.flags & MacroShape::kCaller)) {
    return fail(
        "When defining macros or call blocks the special \"caller\" argument must be omitted or be given a default.",
        line);
  }
  return true;
}

bool Parser::macro() {
  soft_ = false;
  const int line = current_.line;
  std::string name;
  if (!advance() || !expect_identifier(name)) return false;
  MacroShape shape;
  shape.name = emitter_.text(name);
  const size_t over = emitter_.jump(Op::kJump);
  shape.entry = static_cast<uint32_t>(emitter_.here());
  specials_.emplace_back();
  std::optional<size_t> caller;
  if (!signature(shape, caller) || !macro_body(shape, "endmacro", caller, line)) return false;
  emitter_.land(over);
  emitter_.emit(Op::kMacro, emitter_.macro(std::move(shape)));
  return store_name(name);
}

// {% call(parameters) f(arguments) %}body{% endcall %}: the body becomes a macro that f receives as `caller`.
bool Parser::call_block() {
  const int line = current_.line;
  if (!advance()) return false;
  MacroShape shape;
  shape.name = emitter_.text("caller");
  specials_.emplace_back();
  std::optional<size_t> caller;
  const size_t to_call = emitter_.jump(Op::kJump);
  shape.entry = static_cast<uint32_t>(emitter_.here());
  if (current_.type == Tok::kLParen && !signature(shape, caller)) return false;
  const size_t to_body = emitter_.jump(Op::kJump);
  emitter_.land(to_call);
  if (!expression()) return false;
  if (!is_call_) return fail("expected call", line);
  CallShape call = emitter_.call_shape(static_cast<uint32_t>(emitter_.at(emitter_.here() - 1).b));
  call.flags |= CallShape::kCaller;
  emitter_.drop_last();
  const size_t macro = emitter_.emit(Op::kMacro);
  emitter_.emit(Op::kCall, 0, static_cast<int32_t>(emitter_.call(std::move(call))));
  emitter_.emit(Op::kEmit);
  const size_t over = emitter_.jump(Op::kJump);
  emitter_.land(to_body);
  const bool outer_soft = std::exchange(soft_, false);
  if (!macro_body(shape, "endcall", caller, line)) return false;
  soft_ = outer_soft;
  emitter_.land(over);
  emitter_.at(macro).a = emitter_.macro(std::move(shape));
  return true;
}

bool Parser::print() {
  if (!advance()) return false;
  bool first = true;
  while (current_.type != Tok::kBlockEnd) {
    if (!first && !expect(Tok::kComma)) return false;
    first = false;
    if (!expression()) return false;
    emitter_.emit(Op::kEmit);
  }
  return true;
}

// transformers marks the assistant's tokens with this tag; the text is the body's.
bool Parser::generation() {
  soft_ = false;
  if (!advance()) return false;
  emitter_.emit(Op::kPushScope);
  enclosures_.push_back({Enclosure::Kind::kFunction, 0, {}});
  static constexpr std::string_view kEnds[] = {"endgeneration"};
  if (!block_body(kEnds, true)) return false;
  enclosures_.pop_back();
  emitter_.emit(Op::kPopScope);
  return true;
}

bool Parser::autoescape() {
  soft_ = false;
  if (!advance()) return false;
  const bool off = current_.is_name("false") || current_.is_name("False");
  if (!expression()) return false;
  emitter_.emit(Op::kPop);
  if (!off) emitter_.emit(Op::kFail, emitter_.text("autoescape is not supported"));
  emitter_.emit(Op::kPushScope);
  enclosures_.push_back({Enclosure::Kind::kScope, 0, {}});
  static constexpr std::string_view kEnds[] = {"endautoescape"};
  if (!block_body(kEnds, true)) return false;
  enclosures_.pop_back();
  emitter_.emit(Op::kPopScope);
  return true;
}

// break (stop) or continue: leaves the scopes and captures between here and the loop.
bool Parser::leave_loop(bool stop) {
  if (!advance()) return false;
  size_t depth = enclosures_.size();
  while (depth > 0 && enclosures_[depth - 1].kind != Enclosure::Kind::kLoop) {
    const Enclosure::Kind kind = enclosures_[--depth].kind;
    if (kind == Enclosure::Kind::kFunction) {
      depth = 0;
    } else if (kind == Enclosure::Kind::kElse) {
      emitter_.emit(Op::kPopScope);
      emitter_.emit(Op::kForEnd);
    } else {
      emitter_.emit(kind == Enclosure::Kind::kScope ? Op::kPopScope : Op::kDropCapture);
    }
  }
  if (depth == 0) return fail(stop ? "'break' outside loop" : "'continue' not properly in loop");
  Enclosure& loop = enclosures_[depth - 1];
  if (!stop) {
    emitter_.jump_back(Op::kJump, loop.next);
  } else {
    emitter_.emit(Op::kPopScope);
    loop.breaks.push_back(emitter_.jump(Op::kJump));
  }
  return true;
}

// Tags that load another template: they parse, and fail when they are reached.
bool Parser::other_template(std::string_view tag) {
  if (!advance() || !expression()) return false;
  while (current_.type != Tok::kBlockEnd && current_.type != Tok::kEof) {
    if (current_.type != Tok::kName && current_.type != Tok::kComma) break;
    if (tag == "extends" || !advance()) break;
  }
  emitter_.emit(Op::kPop);
  emitter_.emit(Op::kFail, emitter_.text("no loader for this environment specified"));
  return error_.empty();
}

}  // namespace ll::jinja
