// Assignment targets, macros and call blocks.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "runtime/text/jinja/parser.h"

namespace ll::jinja {
namespace {

constexpr std::string_view kSpecialNames[] = {"caller", "kwargs", "varargs"};
constexpr uint8_t kSpecialFlags[] = {MacroShape::kCaller, MacroShape::kKwargs, MacroShape::kVarargs};

}  // namespace

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

}  // namespace ll::jinja
