// Statements: one function per tag.
#include "runtime/text/jinja/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "runtime/text/jinja/template.h"
#include "runtime/text/jinja/unicode.h"

namespace ll::jinja {
namespace {

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
