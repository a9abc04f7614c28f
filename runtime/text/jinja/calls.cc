// Calls: arguments from the stack, frames, macros and recursive loops.
#include <algorithm>

#include "runtime/text/jinja/machine.h"

namespace ll::jinja {

// Takes a call's arguments from the stack; what is called, or filtered, stays on top.
Result<std::pair<std::vector<V>, std::vector<std::pair<V, V>>>> Machine::arguments(const CallShape& shape) {
  const size_t fixed = shape.positional + shape.keywords.size();
  const size_t count = fixed + static_cast<size_t>(__builtin_popcount(shape.flags));
  if (!has(count + 1)) return corrupt();
  const V* at = stack_.data() + stack_.size() - count;
  std::vector<V> positional(at, at + shape.positional);
  std::vector<std::pair<V, V>> named;
  for (size_t i = 0; i < shape.keywords.size(); ++i) {
    TRY_ASSIGN(const V key, constant(shape.keywords[i]));
    named.emplace_back(key, at[shape.positional + i]);
  }
  const V* extra = at + fixed;
  if (shape.flags & CallShape::kStar) {
    const V source = *extra++;
    if (source.is(Kind::kUndefined)) {
      // An undefined value iterates over nothing.
    } else {
      auto iterated = items_of(source);
      if (!iterated && !source.is(Kind::kIterator) && !over()) {
        return bad_data("Value after * must be an iterable, not {}", type_name(source));
      }
      TRY_ASSIGN(const std::vector<V>* items, std::move(iterated));
      TRY(check_items(items->size()));
      positional.insert(positional.end(), items->begin(), items->end());
    }
  }
  if (shape.flags & CallShape::kStarStar) {
    const V source = *extra++;
    if (!source.is(Kind::kDict)) {
      return bad_data("jinja2.sandbox.SandboxedEnvironment.call() argument after ** must be a mapping, not {}",
                      type_name(source));
    }
    for (const auto& [key, v] : source.as<Dict>()->items) {
      if (!key.is(Kind::kString)) return bad_data("keywords must be strings");
      for (const auto& [known, unused] : named) {
        if (known.bytes() == key.bytes()) return bad_data("got multiple values for keyword argument '{}'", key.bytes());
      }
      if (named.size() >= 255) return bad_data("call has more than 255 keywords");
      named.emplace_back(key, v);
    }
  }
  if (shape.flags & CallShape::kCaller) named.emplace_back(string("caller", true), *extra);
  work(positional.size() / kItemsPerStep);
  stack_.resize(stack_.size() - count);
  return std::pair{std::move(positional), std::move(named)};
}

Status Machine::call(const CallShape& shape) {
  TRY_ASSIGN(const auto args, arguments(shape));
  const V callee = pop();
  const Args view{args.first, args.second};
  switch (callee.kind) {
    case Kind::kMacro:
      return call_macro(*callee.as<Macro>(), view);
    case Kind::kLoop:
      return call_loop(*callee.as<Loop>(), view);
    case Kind::kFunction: {
      TRY_ASSIGN(const V result, call_function(*this, callee.as<Function>()->id, view));
      push(result);
      return {};
    }
    case Kind::kMethod: {
      TRY_ASSIGN(const V result, call_method(*this, *callee.as<Method>(), view));
      push(result);
      return {};
    }
    case Kind::kJoiner: {
      auto* joiner = callee.as<Joiner>();
      push(joiner->used ? joiner->separator : string("", true));
      joiner->used = true;
      return {};
    }
    case Kind::kUndefined:
      return undefined_error(callee);
    default:
      return bad_data("'{}' object is not callable", type_name(callee));
  }
}

Status Machine::push_frame(Frame frame) {
  if (frames_.size() > size_t{kMaxNesting}) return bad_data("maximum recursion depth exceeded");  // as Python says
  frame.return_to = pc_;
  frame.stack = stack_.size();
  frame.loops = loops_.size();
  frame.scope = scope_;
  captures_.emplace_back();
  frame.captures = captures_.size();
  scope_ = frame.base;
  frames_.push_back(frame);
  return {};
}

// Ends the innermost call with the text it wrote.
Status Machine::return_text() {
  const Frame frame = frames_.back();
  if (captures_.size() < frame.captures) return corrupt();
  captures_.resize(frame.captures);
  V result = string(std::move(captures_.back()));
  captures_.pop_back();
  frames_.pop_back();
  stack_.resize(frame.stack);
  loops_.resize(frame.loops);
  scope_ = frame.scope;
  if (!frame.base->captured) {
    frame.base->variables.clear();
    free_scopes_.push_back(frame.base);
  }
  pc_ = frame.return_to;
  push(result);
  return {};
}

Status Machine::call_macro(const Macro& macro, const Args& args) {
  const MacroShape& shape = program_.macros[macro.shape];
  const std::string& name = program_.constants[shape.name].text;
  Scope* scope = new_scope(macro.scope);
  std::vector<std::pair<V, V>> named(args.named.begin(), args.named.end());
  const auto take = [&](std::string_view key) {
    const auto found =
        std::find_if(named.begin(), named.end(), [&](const auto& kv) { return kv.first.bytes() == key; });
    if (found == named.end()) return V{};
    const V v = found->second;
    named.erase(found);
    return v;
  };
  bool found_caller = false;
  for (size_t i = 0; i < shape.parameters.size(); ++i) {
    const std::string& parameter = program_.constants[shape.parameters[i]].text;
    V v;
    if (i < args.positional.size()) {
      v = args.positional[i];
    } else {
      v = take(parameter);
    }
    found_caller |= parameter == "caller";
    scope->variables.emplace_back(shape.parameters[i], v);
  }
  const auto special = [&](std::string_view variable, const V& v) {
    const auto constant_name = program_.strings.find(variable);
    if (constant_name != program_.strings.end()) scope->variables.emplace_back(constant_name->second, v);
  };
  if ((shape.flags & MacroShape::kCaller) && !found_caller) {
    const V caller = take("caller");
    special("caller", caller.missing() || caller.is(Kind::kNone) ? undefined("No caller defined") : caller);
  }
  if (shape.flags & MacroShape::kKwargs) {
    TRY_ASSIGN(const V rest, dict(std::move(named)));
    special("kwargs", rest);
  } else if (!named.empty()) {
    for (const auto& [key, v] : named) {
      if (key.bytes() == "caller") {
        return bad_data(
            "macro '{}' was invoked with two values for the special caller argument. This is most likely a bug.", name);
      }
    }
    return bad_data("macro '{}' takes no keyword argument '{}'", name, named.front().first.bytes());
  }
  const size_t taken = std::min(args.positional.size(), shape.parameters.size());
  if (shape.flags & MacroShape::kVarargs) {
    special("varargs", tuple({args.positional.begin() + static_cast<ptrdiff_t>(taken), args.positional.end()}));
  } else if (args.positional.size() > shape.parameters.size()) {
    return bad_data("macro '{}' takes not more than {} argument(s)", name, shape.parameters.size());
  }
  TRY(push_frame({.kind = Frame::Kind::kMacro, .base = scope}));
  pc_ = shape.entry;
  return {};
}

Status Machine::call_loop(Loop& target, const Args& args) {
  static constexpr Signature kSignature{"LoopContext.__call__", "iterable", 1, 1};
  TRY_ASSIGN(const Bound bound, bind(kSignature, args));
  if (!target.recursive) return bad_data("The loop must have the 'recursive' marker to be called recursively.");
  TRY(push_frame({.kind = Frame::Kind::kLoop, .base = new_scope(target.outer), .depth0 = target.depth0 + 1}));
  push(bound[0]);
  pc_ = target.entry;
  return {};
}

}  // namespace ll::jinja
