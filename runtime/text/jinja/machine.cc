#include "runtime/text/jinja/machine.h"

#include <algorithm>

#include "runtime/text/jinja/unicode.h"

namespace ll::jinja {
namespace {

struct GlobalRow {
  std::string_view name;
  FunctionId id;
};
constexpr GlobalRow kGlobals[] = {
    {"range", FunctionId::kRange},
    {"dict", FunctionId::kDict},
    {"namespace", FunctionId::kNamespace},
    {"cycler", FunctionId::kCycler},
    {"joiner", FunctionId::kJoiner},
    {"raise_exception", FunctionId::kRaiseException},
    {"strftime_now", FunctionId::kStrftimeNow},
    {"lipsum", FunctionId::kLipsum},
};

}  // namespace

Machine::Machine(const Program& program, const RenderOptions& options) : program_(program), options_(options) {}

Status Machine::check() const {
  if (ticks_ / kTicks > options_.max_steps) return bad_data("template takes more than {} steps", options_.max_steps);
  if (memory_ > options_.max_memory)
    return bad_data("template makes more than {} bytes of values", options_.max_memory);
  return {};
}

Status Machine::check_string(uint64_t bytes) const {
  if (bytes > options_.max_output)
    return bad_data("template makes a string of {} bytes, more than {}", bytes, options_.max_output);
  return {};
}

Status Machine::check_items(uint64_t items) const {
  if (items > options_.max_memory / sizeof(V) || items * sizeof(V) + memory_ > options_.max_memory) {
    return bad_data("template makes more than {} bytes of values", options_.max_memory);
  }
  return {};
}

V Machine::string(Text text, bool markup) {
  auto* s = make<String>();
  s->text = std::move(text);
  s->markup = markup;
  s->ascii = is_ascii(s->text.bytes);
  grow(s->text.size() + s->text.marks.size() * sizeof(uint32_t));
  work(s->text.size() / kBytesPerStep);
  return value(Kind::kString, s);
}

V Machine::sequence(Kind kind, std::vector<V> items) {
  auto* l = make<List>();
  l->items = std::move(items);
  grow(l->items.size() * sizeof(V));
  work(l->items.size() / kItemsPerStep);
  return value(kind, l);
}

V Machine::iterator(std::vector<V> items, const char* type, std::optional<std::string> error) {
  auto* it = make<Iterator>();
  it->items = std::move(items);
  it->type = type;
  it->error = std::move(error);
  grow(it->items.size() * sizeof(V));
  work(it->items.size() / kItemsPerStep);
  return value(Kind::kIterator, it);
}

V Machine::undefined(std::string message) {
  auto* u = make<Undefined>();
  u->message = std::move(message);
  grow(u->message.size());
  return value(Kind::kUndefined, u);
}

V Machine::undefined_name(std::string_view name) { return undefined(fmt::format("'{}' is undefined", name)); }

Result<V> Machine::convert(const Value& v, int depth) {
  if (depth > kMaxNesting) return bad_data("input is nested deeper than {} levels", kMaxNesting);
  switch (v.kind) {
    case Value::Kind::kNone: {
      V n = none();
      n.trusted = false;
      return n;
    }
    case Value::Kind::kBool: {
      V b = boolean(v.boolean);
      b.trusted = false;
      return b;
    }
    case Value::Kind::kInt:
      return integer(v.integer, false);
    case Value::Kind::kFloat:
      return number(v.number, false);
    case Value::Kind::kString:
      return string(v.text, v.trusted);
    case Value::Kind::kList: {
      std::vector<V> items;
      items.reserve(v.items.size());
      for (const Value& item : v.items) {
        TRY_ASSIGN(items.emplace_back(), convert(item, depth + 1));
      }
      return list(std::move(items));
    }
    case Value::Kind::kDict: {
      std::vector<std::pair<V, V>> items;
      items.reserve(v.items.size());
      for (size_t i = 0; i < v.items.size(); ++i) {
        TRY_ASSIGN(V item, convert(v.items[i], depth + 1));
        items.emplace_back(string(v.keys[i], false), item);
      }
      return dict(std::move(items));
    }
  }
  return none();
}

// Input does not count as the template's work.
Status Machine::load_context(const Value& context) {
  globals_.resize(program_.constants.size());
  for (const GlobalRow& row : kGlobals) {
    const auto found = program_.strings.find(row.name);
    if (found == program_.strings.end()) continue;
    auto* function = make<Function>();
    function->id = row.id;
    globals_[found->second] = value(Kind::kFunction, function);
  }
  if (context.kind != Value::Kind::kDict) return bad_data("a template's input is a dict");
  for (size_t i = 0; i < context.keys.size(); ++i) {
    const auto found = program_.strings.find(context.keys[i]);
    if (found == program_.strings.end()) continue;
    TRY_ASSIGN(globals_[found->second], convert(context.items[i], 1));
  }
  ticks_ = 0;
  memory_ = 0;
  return {};
}

Result<Rendered> Machine::run(const Value& context) {
  TRY(load_context(context));
  constants_.resize(program_.constants.size());
  root_ = make<Scope>();
  root_->captured = true;
  scope_ = root_;
  captures_.emplace_back();
  frames_.push_back({.captures = 1, .base = root_});
  while (!halted_) {
    if (pc_ >= program_.code.size()) return corrupt();
    ++ticks_;
    if (over()) return check().error();
    TRY(step(program_.code[pc_++]));
  }
  TRY(check());
  Rendered out;
  const Text& text = captures_.front();
  for (size_t i = 0, at = 0; at < text.size(); ++i) {
    const size_t end = i < text.marks.size() ? text.marks[i] : text.size();
    if (end > at) out.segments.push_back({end - at, i % 2 == 1});
    at = end;
  }
  out.text = std::move(captures_.front().bytes);
  return out;
}

V Machine::pop() {
  const V v = stack_.back();
  stack_.pop_back();
  return v;
}

Status Machine::write(const Text& text) {
  Text& out = captures_.back();
  TRY(check_string(out.size() + text.size()));
  if (captures_.size() > 1) grow(text.size());
  work(text.size() / kBytesPerStep);
  out.append(text);
  return {};
}

Status Machine::emit(const V& v) {
  if (v.is(Kind::kString)) return write(v.text());
  TRY_ASSIGN(const Text text, str(v));
  return write(text);
}

Result<V> Machine::constant(uint32_t index) {
  if (index >= constants_.size()) return corrupt();
  V& v = constants_[index];
  if (v.missing()) {
    const Constant& c = program_.constants[index];
    v = c.kind == Constant::Kind::kString ? string(c.text, true)
        : c.kind == Constant::Kind::kInt  ? integer(c.integer, true)
                                          : number(c.number, true);
  }
  return v;
}

V Machine::load(uint32_t name) {
  const V* found = nullptr;
  for (const Scope* scope = scope_; scope != nullptr && found == nullptr; scope = scope->parent) {
    if (scope == root_) {
      found = &globals_[name];
    } else {
      ticks_ += scope->variables.size() / kItemsPerStep;
      for (const auto& [variable, v] : scope->variables) {
        if (variable == name) found = &v;
      }
    }
  }
  return found == nullptr || found->missing() ? undefined_name(program_.constants[name].text) : *found;
}

void Machine::store(uint32_t name, const V& v) {
  if (scope_ == root_) {
    globals_[name] = v;
    return;
  }
  ticks_ += scope_->variables.size() / kItemsPerStep;
  for (auto& [variable, held] : scope_->variables) {
    if (variable == name) {
      held = v;
      return;
    }
  }
  scope_->variables.emplace_back(name, v);
  grow(sizeof(scope_->variables[0]));
}

Scope* Machine::new_scope(Scope* parent) {
  Scope* scope = nullptr;
  if (free_scopes_.empty()) {
    scope = make<Scope>();
  } else {
    scope = free_scopes_.back();
    free_scopes_.pop_back();
  }
  scope->parent = parent;
  scope->previous = scope_;
  return scope;
}

bool Machine::pop_scope() {
  Scope* scope = scope_;
  if (scope == frames_.back().base || scope->previous == nullptr) return false;
  scope_ = scope->previous;
  if (!scope->captured) {
    scope->variables.clear();
    free_scopes_.push_back(scope);
  }
  return true;
}

Status Machine::step(const Instruction& in) {
  const auto jump = [&] { pc_ = static_cast<size_t>(static_cast<int64_t>(pc_) + in.b); };
  switch (in.op) {
    case Op::kHalt:
      if (frames_.size() != 1) return corrupt();
      halted_ = true;
      return {};
    case Op::kText: {
      TRY_ASSIGN(const V text, constant(in.a));
      return emit(text);
    }
    case Op::kEmit: {
      if (!has(1)) return corrupt();
      const V v = pop();
      if (in.a != 0 && !v.is(Kind::kString)) {
        return bad_data("sequence item 0: expected str instance, {} found", type_name(v));
      }
      return emit(v);
    }
    case Op::kNone:
      push(none());
      return {};
    case Op::kTrue:
      push(boolean(true));
      return {};
    case Op::kFalse:
      push(boolean(false));
      return {};
    case Op::kConst: {
      TRY_ASSIGN(const V v, constant(in.a));
      push(v);
      return {};
    }
    case Op::kLoad:
      push(load(in.a));
      return {};
    case Op::kStore:
      if (!has(1)) return corrupt();
      store(in.a, pop());
      return {};
    case Op::kPop:
      if (!has(1)) return corrupt();
      pop();
      return {};
    case Op::kGetAttr: {
      if (!has(1)) return corrupt();
      TRY_ASSIGN(const V name, constant(in.a));
      TRY_ASSIGN(stack_.back(), attribute(stack_.back(), name));
      return {};
    }
    case Op::kGetItem: {
      if (!has(2)) return corrupt();
      const V key = pop();
      TRY_ASSIGN(stack_.back(), item(stack_.back(), key));
      return {};
    }
    case Op::kSlice: {
      if (!has(4)) return corrupt();
      const V stride = pop(), stop = pop(), start = pop();
      TRY_ASSIGN(stack_.back(), slice(stack_.back(), start, stop, stride));
      return {};
    }
    case Op::kNegative:
    case Op::kPositive: {
      if (!has(1)) return corrupt();
      TRY_ASSIGN(stack_.back(), unary(in.op, stack_.back()));
      return {};
    }
    case Op::kNot:
      if (!has(1)) return corrupt();
      stack_.back() = boolean(!truth(stack_.back()));
      return {};
    case Op::kAdd:
    case Op::kSub:
    case Op::kMul:
    case Op::kDiv:
    case Op::kFloorDiv:
    case Op::kMod:
    case Op::kPow: {
      if (!has(2)) return corrupt();
      const V right = pop();
      TRY_ASSIGN(stack_.back(), binary(in.op, stack_.back(), right));
      return {};
    }
    case Op::kCompare: {
      if (!has(2)) return corrupt();
      const V right = pop();
      TRY_ASSIGN(const bool holds, compare(static_cast<Comparison>(in.a), stack_.back(), right));
      stack_.back() = boolean(holds);
      return {};
    }
    case Op::kChain: {
      if (!has(2)) return corrupt();
      const V right = pop();
      TRY_ASSIGN(const bool holds, compare(static_cast<Comparison>(in.a), stack_.back(), right));
      stack_.back() = holds ? right : boolean(false);
      if (!holds) jump();
      return {};
    }
    case Op::kJump:
      jump();
      return {};
    case Op::kJumpIfFalse:
      if (!has(1)) return corrupt();
      if (!truth(pop())) jump();
      return {};
    case Op::kAnd:
    case Op::kOr:
      if (!has(1)) return corrupt();
      if (truth(stack_.back()) == (in.op == Op::kOr)) {
        jump();
      } else {
        pop();
      }
      return {};
    case Op::kUndefined:
      push(undefined(program_.constants[in.a].text));
      return {};
    case Op::kFail:
      return bad_data("{}", program_.constants[in.a].text);
    default:
      return step_build(in);
  }
}

// Values made of several others, and calls.
Status Machine::step_build(const Instruction& in) {
  const auto take = [&](size_t n) {
    std::vector<V> items(stack_.end() - static_cast<ptrdiff_t>(n), stack_.end());
    stack_.resize(stack_.size() - n);
    return items;
  };
  switch (in.op) {
    case Op::kList:
    case Op::kTuple:
      if (!has(in.a)) return corrupt();
      push(sequence(in.op == Op::kList ? Kind::kList : Kind::kTuple, take(in.a)));
      return {};
    case Op::kDict: {
      if (in.a > stack_.size() || !has(2 * size_t{in.a})) return corrupt();
      const std::vector<V> flat = take(2 * size_t{in.a});
      std::vector<std::pair<V, V>> items;
      for (size_t i = 0; i + 1 < flat.size(); i += 2) items.emplace_back(flat[i], flat[i + 1]);
      TRY_ASSIGN(const V made, dict(std::move(items)));
      push(made);
      return {};
    }
    case Op::kConcat: {
      if (!has(in.a)) return corrupt();
      Text text;
      for (const V& v : take(in.a)) {
        TRY_ASSIGN(const Text part, str(v));
        TRY(check_string(text.size() + part.size()));
        text.append(part);
      }
      push(string(std::move(text)));
      return {};
    }
    case Op::kFilter:
    case Op::kTest: {
      const CallShape& shape = program_.calls[static_cast<size_t>(in.b)];
      TRY_ASSIGN(const auto args, arguments(shape));
      if (!has(1)) return corrupt();
      const V v = pop();
      const int index = in.op == Op::kFilter ? program_.filters[in.a] : program_.tests[in.a];
      if (index < 0) {
        return bad_data("No {} named '{}' found.", in.op == Op::kFilter ? "filter" : "test",
                        program_.constants[in.a].text);
      }
      if (in.op == Op::kFilter) {
        TRY_ASSIGN(const V result, call_filter(*this, index, v, {args.first, args.second}));
        push(result);
      } else {
        TRY_ASSIGN(const bool result, call_test(*this, index, v, {args.first, args.second}));
        push(boolean(result));
      }
      return {};
    }
    case Op::kCall:
      return call(program_.calls[static_cast<size_t>(in.b)]);
    case Op::kMacro: {
      auto* macro = make<Macro>();
      macro->shape = in.a;
      macro->scope = scope_;
      for (Scope* scope = scope_; scope != nullptr && !scope->captured; scope = scope->parent) scope->captured = true;
      push(value(Kind::kMacro, macro));
      return {};
    }
    default:
      return step_block(in);
  }
}

// Scopes, captures, macros' parameters.
Status Machine::step_block(const Instruction& in) {
  const Frame& frame = frames_.back();
  switch (in.op) {
    case Op::kCheckNamespace:
      if (load(in.a).is(Kind::kNamespace)) return {};
      return bad_data("cannot assign attribute on non-namespace object");
    case Op::kStoreAttr: {
      if (!has(1)) return corrupt();
      const V v = pop(), target = load(in.a);
      if (!target.is(Kind::kNamespace)) return bad_data("cannot assign attribute on non-namespace object");
      const std::string& name = program_.constants[static_cast<size_t>(in.b)].text;
      auto& attributes = target.as<Namespace>()->attributes;
      ticks_ += attributes.size() / kItemsPerStep;
      for (auto& [key, held] : attributes) {
        if (key == name) {
          held = v;
          return {};
        }
      }
      grow(name.size() + sizeof(attributes[0]));
      attributes.emplace_back(name, v);
      return {};
    }
    case Op::kUnpack: {
      if (!has(1)) return corrupt();
      TRY_ASSIGN(const std::vector<V>* items, unpack(pop(), in.a));
      stack_.insert(stack_.end(), items->rbegin(), items->rend());
      return {};
    }
    case Op::kParameter:
    case Op::kParameterAbsent: {
      if (frame.kind != Frame::Kind::kMacro) return corrupt();
      for (auto& [variable, v] : frame.base->variables) {
        if (variable != in.a) continue;
        if (v.missing() && in.op == Op::kParameterAbsent) {
          const std::string& name = program_.constants[in.a].text;
          v = undefined(fmt::format("parameter '{}' was not provided", name));
        } else if (!v.missing() && in.op == Op::kParameter) {
          pc_ = static_cast<size_t>(static_cast<int64_t>(pc_) + in.b);
        }
        return {};
      }
      return corrupt();
    }
    case Op::kReturn:
      if (frame.kind != Frame::Kind::kMacro) return corrupt();
      return return_text();
    case Op::kBeginCapture:
      captures_.emplace_back();
      grow(sizeof(Text));
      return {};
    case Op::kEndCapture:
    case Op::kDropCapture: {
      if (captures_.size() <= frame.captures) return corrupt();
      Text text = std::move(captures_.back());
      captures_.pop_back();
      if (in.op == Op::kEndCapture) push(string(std::move(text)));
      return {};
    }
    case Op::kPushScope:
      scope_ = new_scope(scope_);
      return {};
    case Op::kPushRootScope:
      scope_ = new_scope(root_);
      return {};
    case Op::kPopScope:
      if (!pop_scope()) return corrupt();
      return {};
    default:
      return step_loop(in);
  }
}

Status Machine::step_loop(const Instruction& in) {
  const Frame& frame = frames_.back();
  Loop* current = loop();
  switch (in.op) {
    case Op::kFilterBegin:
    case Op::kForBegin: {
      if (!has(1)) return corrupt();
      const V source = pop();
      TRY_ASSIGN(const std::vector<V>* items, items_of(source));
      auto* fresh = make<Loop>();
      fresh->items = items;
      fresh->outer = scope_;
      fresh->filtering = in.op == Op::kFilterBegin;
      fresh->recursive = in.a != 0;
      if (in.op == Op::kForBegin) {
        fresh->entry = static_cast<size_t>(static_cast<int64_t>(pc_) + in.b);
        if (frame.kind == Frame::Kind::kLoop && current == nullptr) fresh->depth0 = frame.depth0;
      }
      if (fresh->recursive) {
        for (Scope* scope = scope_; scope != nullptr && !scope->captured; scope = scope->parent) scope->captured = true;
      }
      if (loops_.size() > size_t{kMaxNesting} * kMaxNesting) return corrupt();
      loops_.push_back(fresh);
      return {};
    }
    case Op::kFilterNext:
    case Op::kForNext:
      return next_item(in);
    case Op::kFilterKeep:
      if (current == nullptr || !current->filtering || current->next == 0 || !has(1)) return corrupt();
      if (truth(pop())) current->kept.push_back((*current->items)[current->next - 1]);
      return {};
    case Op::kFilterEnd:
      if (current == nullptr || !current->filtering) return corrupt();
      push(iterator(std::move(current->kept)));
      loops_.pop_back();
      return {};
    case Op::kForDone:
      if (current == nullptr) return corrupt();
      current->completed = true;
      return {};
    case Op::kForElse:
      if (current == nullptr) return corrupt();
      if (current->completed) pc_ = static_cast<size_t>(static_cast<int64_t>(pc_) + in.b);
      return {};
    case Op::kForEnd:
      if (current == nullptr) return corrupt();
      loops_.pop_back();
      if (frame.kind == Frame::Kind::kLoop && loops_.size() == frame.loops) return return_text();
      return {};
    default:
      return corrupt();
  }
}

Status Machine::next_item(const Instruction& in) {
  Loop* current = loop();
  if (current == nullptr || current->filtering != (in.op == Op::kFilterNext)) return corrupt();
  if (scope_ != current->outer && !pop_scope()) return corrupt();
  if (scope_ != current->outer) return corrupt();
  if (current->next >= current->items->size()) {
    ++current->next;  // so that the loop no longer has a current item
    pc_ = static_cast<size_t>(static_cast<int64_t>(pc_) + in.b);
    return {};
  }
  scope_ = new_scope(scope_);
  if (!current->filtering) {
    if (const auto name = program_.strings.find("loop"); name != program_.strings.end()) {
      scope_->variables.emplace_back(name->second, value(Kind::kLoop, current));
    }
  }
  push((*current->items)[current->next++]);
  return {};
}

}  // namespace ll::jinja
