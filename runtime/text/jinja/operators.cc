// Truth, equality, order and arithmetic of Python's values.
#include <algorithm>
#include <cmath>

#include "runtime/base/checked.h"
#include "runtime/text/jinja/machine.h"

namespace ll::jinja {
namespace {

using Order = Machine::Order;

Error too_deep() { return bad_data("value is nested deeper than {} levels", kMaxNesting); }
Error too_large() { return bad_data("integer does not fit 64 bits"); }

template <class T>
Order order_of(const T& a, const T& b) {
  return a < b ? Order::kLess : b < a ? Order::kGreater : Order::kSame;
}

Order number_order(const V& a, const V& b) {
  if (a.is_integral() && b.is_integral()) return order_of(a.as_integer(), b.as_integer());
  if (std::isnan(a.as_number()) || std::isnan(b.as_number())) return Order::kUnordered;
  // 64 bits of mantissa hold both kinds exactly.
  static_assert(std::numeric_limits<long double>::digits >= 64);
  const auto wide = [](const V& v) {
    return v.is(Kind::kFloat) ? static_cast<long double>(v.number) : static_cast<long double>(v.as_integer());
  };
  return order_of(wide(a), wide(b));
}

const char* symbol_of(Op op) {
  switch (op) {
    case Op::kAdd:
      return "+";
    case Op::kSub:
      return "-";
    case Op::kMul:
      return "*";
    case Op::kDiv:
      return "/";
    case Op::kFloorDiv:
      return "//";
    case Op::kMod:
      return "%";
    default:
      return "** or pow()";
  }
}

double floor_mod(double a, double b) {
  double r = std::fmod(a, b);
  if (r != 0 && (r < 0) != (b < 0)) r += b;
  return r == 0 ? std::copysign(0.0, b) : r;
}

double floor_div(double a, double b) {
  const double r = std::fmod(a, b);
  double q = (a - r) / b;
  if (r != 0 && (r < 0) != (b < 0)) q -= 1;
  if (q == 0) return std::copysign(0.0, a / b);
  const double whole = std::floor(q);
  return q - whole > 0.5 ? whole + 1 : whole;
}

Result<V> power(const V& a, const V& b, bool trusted) {
  if (a.is_integral() && b.is_integral() && b.as_integer() >= 0) {
    int64_t base = a.as_integer(), result = 1;
    for (uint64_t e = static_cast<uint64_t>(b.as_integer()); e != 0; e >>= 1) {
      if ((e & 1) && __builtin_mul_overflow(result, base, &result)) return too_large();
      if (e > 1 && __builtin_mul_overflow(base, base, &base)) return too_large();
    }
    return integer(result, trusted);
  }
  const double x = a.as_number(), y = b.as_number();
  if (x == 0 && y < 0) return bad_data("0.0 cannot be raised to a negative power");
  if (x < 0 && y != std::floor(y)) return bad_data("complex numbers are not supported");
  const double r = std::pow(x, y);
  if (std::isinf(r) && !std::isinf(x) && !std::isinf(y)) return bad_data("(34, 'Numerical result out of range')");
  return number(r, trusted);
}

Result<V> integer_arithmetic(Op op, int64_t a, int64_t b, bool trusted) {
  int64_t r = 0;
  switch (op) {
    case Op::kAdd:
      if (__builtin_add_overflow(a, b, &r)) return too_large();
      break;
    case Op::kSub:
      if (__builtin_sub_overflow(a, b, &r)) return too_large();
      break;
    case Op::kMul:
      if (__builtin_mul_overflow(a, b, &r)) return too_large();
      break;
    case Op::kDiv:
      if (b == 0) return bad_data("division by zero");
      return number(static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b)), trusted);
    default:
      if (b == 0)
        return bad_data("{}", op == Op::kMod ? "integer modulo by zero" : "integer division or modulo by zero");
      if (b == -1) {  // the one quotient that may not fit
        if (op == Op::kMod) return integer(0, trusted);
        return integer_arithmetic(Op::kSub, 0, a, trusted);
      }
      r = a / b;
      if (op == Op::kMod) {
        r = a % b;
        if (r != 0 && (r < 0) != (b < 0)) r += b;
      } else if (a % b != 0 && (a < 0) != (b < 0)) {
        --r;
      }
  }
  return integer(r, trusted);
}

Result<V> arithmetic(Op op, const V& a, const V& b) {
  const bool trusted = a.trusted && b.trusted;
  if (op == Op::kPow) return power(a, b, trusted);
  if (a.is_integral() && b.is_integral()) return integer_arithmetic(op, a.as_integer(), b.as_integer(), trusted);
  const double x = a.as_number(), y = b.as_number();
  switch (op) {
    case Op::kAdd:
      return number(x + y, trusted);
    case Op::kSub:
      return number(x - y, trusted);
    case Op::kMul:
      return number(x * y, trusted);
    case Op::kDiv:
      if (y == 0) return bad_data("float division by zero");
      return number(x / y, trusted);
    case Op::kFloorDiv:
      if (y == 0) return bad_data("float floor division by zero");
      return number(floor_div(x, y), trusted);
    default:
      if (y == 0) return bad_data("float modulo");
      return number(floor_mod(x, y), trusted);
  }
}

bool is_sequence(const V& v) { return v.is(Kind::kList) || v.is(Kind::kTuple); }

// 0 undefined, 1 None, 2 numbers, 3 strings, 4 tuples.
int key_rank(const V& v) {
  switch (v.kind) {
    case Kind::kUndefined:
      return 0;
    case Kind::kNone:
      return 1;
    case Kind::kString:
      return 3;
    case Kind::kTuple:
      return 4;
    default:
      return 2;
  }
}

Text escaped(const V& v) {
  Text out;
  const Text& text = v.text();
  if (v.as<String>()->markup) return text;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char* entity = nullptr;
    switch (text.bytes[i]) {
      case '&':
        entity = "&amp;";
        break;
      case '<':
        entity = "&lt;";
        break;
      case '>':
        entity = "&gt;";
        break;
      case '"':
        entity = "&#34;";
        break;
      case '\'':
        entity = "&#39;";
        break;
      default:
        continue;
    }
    out.append(text, begin, i);
    const Text one = text.sub(i, i + 1);
    out.append(entity, one.all_trusted());
    begin = i + 1;
  }
  out.append(text, begin, text.size());
  return out;
}

}  // namespace

Text escape_markup(const V& v) { return escaped(v); }

const char* type_name(const V& v) {
  switch (v.kind) {
    case Kind::kMissing:
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return v.as<String>()->markup ? "Markup" : "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return v.as<List>()->group ? "_GroupTuple" : "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kDictView: {
      const auto what = v.as<DictView>()->what;
      return what == DictView::What::kKeys     ? "dict_keys"
             : what == DictView::What::kValues ? "dict_values"
                                               : "dict_items";
    }
    case Kind::kRange:
      return "range";
    case Kind::kIterator:
      return v.as<Iterator>()->type;
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kMacro:
      return "Macro";
    case Kind::kMethod:
      return "builtin_function_or_method";
    case Kind::kFunction:
      return "function";
    case Kind::kLoop:
      return "LoopContext";
    case Kind::kCycler:
      return "Cycler";
    case Kind::kJoiner:
      return "Joiner";
  }
  return "object";
}

bool Machine::truth(const V& v) {
  switch (v.kind) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return v.boolean;
    case Kind::kInt:
      return v.integer != 0;
    case Kind::kFloat:
      return v.number != 0;
    case Kind::kString:
      return !v.bytes().empty();
    case Kind::kList:
    case Kind::kTuple:
      return !v.items().empty();
    case Kind::kDict:
      return !v.as<Dict>()->items.empty();
    case Kind::kDictView:
      return !v.as<DictView>()->dict->items.empty();
    case Kind::kRange:
      return v.as<Range>()->size() != 0;
    case Kind::kLoop:
      return !v.as<Loop>()->items->empty();
    default:
      return true;
  }
}

Result<bool> Machine::equal(const V& a, const V& b, int depth) {
  ++ticks_;
  if (depth > kMaxNesting) return too_deep();
  if (over()) return check().error();
  if (a.is_number() && b.is_number()) return number_order(a, b) == Order::kSame;
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      if (a.bytes().size() != b.bytes().size()) return false;
      read(a.bytes().size());
      return a.bytes() == b.bytes();
    case Kind::kList:
    case Kind::kTuple: {
      if (a.object == b.object) return true;
      if (a.items().size() != b.items().size()) return false;
      for (size_t i = 0; i < a.items().size(); ++i) {
        TRY_ASSIGN(const bool same, equal(a.items()[i], b.items()[i], depth + 1));
        if (!same) return false;
      }
      return true;
    }
    case Kind::kDict: {
      if (a.object == b.object) return true;
      const auto& items = a.as<Dict>()->items;
      if (items.size() != b.as<Dict>()->items.size()) return false;
      for (const auto& [key, v] : items) {
        const V* other = lookup(*b.as<Dict>(), key);
        if (other == nullptr) return false;
        TRY_ASSIGN(const bool same, equal(v, *other, depth + 1));
        if (!same) return false;
      }
      return true;
    }
    case Kind::kRange: {
      const auto *x = a.as<Range>(), *y = b.as<Range>();
      if (x->size() != y->size()) return false;
      return x->size() == 0 || (x->start == y->start && (x->size() == 1 || x->step == y->step));
    }
    case Kind::kMethod:
      return a.as<Method>()->index == b.as<Method>()->index &&
             a.as<Method>()->self.object == b.as<Method>()->self.object;
    default:
      return a.object == b.object;
  }
}

Result<Order> Machine::order(const V& a, const V& b, const char* symbol, int depth) {
  ++ticks_;
  if (depth > kMaxNesting) return too_deep();
  if (over()) return check().error();
  if (a.is_number() && b.is_number()) return number_order(a, b);
  if (a.is(Kind::kString) && b.is(Kind::kString)) {
    read(std::min(a.bytes().size(), b.bytes().size()));
    return order_of(a.bytes(), b.bytes());  // bytes of UTF-8 order as code points do
  }
  if (is_sequence(a) && a.kind == b.kind) {
    const auto &x = a.items(), &y = b.items();
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      TRY_ASSIGN(const bool same, equal(x[i], y[i], depth + 1));
      if (!same) return order(x[i], y[i], symbol, depth + 1);
    }
    return order_of(x.size(), y.size());
  }
  if (a.is(Kind::kUndefined)) return undefined_error(a);
  if (b.is(Kind::kUndefined)) return undefined_error(b);
  return bad_data("'{}' not supported between instances of '{}' and '{}'", symbol, type_name(a), type_name(b));
}

Result<bool> Machine::compare(Comparison op, const V& a, const V& b) {
  static constexpr const char* kSymbols[] = {"==", "!=", "<", "<=", ">", ">="};
  switch (op) {
    case Comparison::kEq:
      return equal(a, b);
    case Comparison::kNe: {
      TRY_ASSIGN(const bool same, equal(a, b));
      return !same;
    }
    case Comparison::kIn:
      return contains(b, a);
    case Comparison::kNotIn: {
      TRY_ASSIGN(const bool inside, contains(b, a));
      return !inside;
    }
    default:
      break;
  }
  TRY_ASSIGN(const Order r, order(a, b, kSymbols[static_cast<size_t>(op)]));
  switch (op) {
    case Comparison::kLt:
      return r == Order::kLess;
    case Comparison::kLe:
      return r == Order::kLess || r == Order::kSame;
    case Comparison::kGt:
      return r == Order::kGreater;
    default:
      return r == Order::kGreater || r == Order::kSame;
  }
}

Status Machine::hashable(const V& v, int depth) {
  if (depth > kMaxNesting) return too_deep();
  if (v.is(Kind::kUndefined) || v.is(Kind::kNone) || v.is_number() || v.is(Kind::kString)) return {};
  if (!v.is(Kind::kTuple)) return bad_data("unhashable type: '{}'", type_name(v));
  for (const V& item : v.items()) {
    ++ticks_;
    if (over()) return check();
    TRY(hashable(item, depth + 1));
  }
  return {};
}

// Both are hashable, so tuples in them end within kMaxNesting.
int Machine::key_order(const V& a, const V& b) {
  ++ticks_;
  const int rank = key_rank(a) - key_rank(b);
  if (rank != 0) return rank;
  switch (key_rank(a)) {
    case 2: {
      const Order r = number_order(a, b);
      if (r != Order::kUnordered) return r == Order::kLess ? -1 : r == Order::kGreater;
      return static_cast<int>(std::isnan(a.as_number())) - static_cast<int>(std::isnan(b.as_number()));
    }
    case 3: {
      read(std::min(a.bytes().size(), b.bytes().size()));
      const int r = a.bytes().compare(b.bytes());
      return r < 0 ? -1 : r > 0;
    }
    case 4: {
      const auto &x = a.items(), &y = b.items();
      if (a.object == b.object || over()) return 0;
      for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
        if (const int r = key_order(x[i], y[i]); r != 0) return r;
      }
      return x.size() < y.size() ? -1 : x.size() > y.size();
    }
    default:
      return 0;
  }
}

Result<bool> Machine::contains(const V& container, const V& wanted) {
  if (container.is(Kind::kString)) {
    if (!wanted.is(Kind::kString)) {
      return bad_data("'in <string>' requires string as left operand, not {}", type_name(wanted));
    }
    read(container.bytes().size());
    return wanted.bytes().empty() || memmem(container.bytes().data(), container.bytes().size(), wanted.bytes().data(),
                                            wanted.bytes().size()) != nullptr;
  }
  const bool keys = container.is(Kind::kDictView) && container.as<DictView>()->what == DictView::What::kKeys;
  if (container.is(Kind::kDict) || keys) {
    TRY(hashable(wanted));
    return lookup(keys ? *container.as<DictView>()->dict : *container.as<Dict>(), wanted) != nullptr;
  }
  if (container.is(Kind::kRange) && wanted.is_integral()) {
    const auto* range = container.as<Range>();
    const Wide offset = static_cast<Wide>(wanted.as_integer()) - range->start;
    return offset % range->step == 0 && offset / range->step >= 0 &&
           offset / range->step < static_cast<Wide>(range->size());
  }
  if (container.is_number() || container.is(Kind::kNone)) {
    return bad_data("argument of type '{}' is not iterable", type_name(container));
  }
  if (container.is(Kind::kIterator)) {  // uses it up to the item found
    auto* it = container.as<Iterator>();
    while (it->next < it->items.size()) {
      TRY_ASSIGN(const bool same, equal(it->items[it->next++], wanted));
      if (same) return true;
    }
    if (it->error) return bad_data("{}", *it->error);
    return false;
  }
  const auto items = items_of(container);
  if (!items) {
    if (over()) return check().error();
    return bad_data("argument of type '{}' is not iterable", type_name(container));
  }
  for (const V& v : **items) {
    TRY_ASSIGN(const bool same, equal(v, wanted));
    if (same) return true;
  }
  return false;
}

Result<V> Machine::unary(Op op, const V& v) {
  if (v.is(Kind::kUndefined)) return undefined_error(v);
  if (!v.is_number())
    return bad_data("bad operand type for unary {}: '{}'", op == Op::kNegative ? "-" : "+", type_name(v));
  if (v.is(Kind::kFloat)) return number(op == Op::kNegative ? -v.number : v.number, v.trusted);
  if (op == Op::kPositive) return integer(v.as_integer(), v.trusted);
  return integer_arithmetic(Op::kSub, 0, v.as_integer(), v.trusted);
}

Result<V> Machine::binary(Op op, const V& a, const V& b) {
  if (a.is_number() && b.is_number()) return arithmetic(op, a, b);
  if (op == Op::kMod && a.is(Kind::kString)) return percent_format(a, b);
  if (a.is(Kind::kUndefined)) return undefined_error(a);
  if (b.is(Kind::kUndefined)) return undefined_error(b);
  if (op == Op::kAdd && a.is(Kind::kString) && b.is(Kind::kString)) {
    TRY(check_string(a.bytes().size() + b.bytes().size()));
    const bool markup = a.as<String>()->markup || b.as<String>()->markup;
    Text text = markup ? escape_markup(a) : a.text();
    text.append(markup ? escape_markup(b) : b.text());
    return string(std::move(text), markup);
  }
  if (op == Op::kAdd && is_sequence(a) && a.kind == b.kind) {
    TRY(check_items(a.items().size() + b.items().size()));
    std::vector<V> items = a.items();
    items.insert(items.end(), b.items().begin(), b.items().end());
    return sequence(a.kind, std::move(items));
  }
  if (op == Op::kMul) {
    const bool left = a.is(Kind::kString) || is_sequence(a), right = b.is(Kind::kString) || is_sequence(b);
    if ((left && b.is_integral()) || (right && a.is_integral())) {
      const V& repeated = left ? a : b;
      const int64_t count = std::max<int64_t>(0, left ? b.as_integer() : a.as_integer());
      const uint64_t size = repeated.is(Kind::kString) ? repeated.bytes().size() : repeated.items().size();
      const auto total = checked_mul<uint64_t>(size, static_cast<uint64_t>(count)).value_or(UINT64_MAX);
      if (repeated.is(Kind::kString)) {
        TRY(check_string(total));
        Text text;
        for (int64_t i = 0; i < count && size > 0; ++i) text.append(repeated.text());
        return string(std::move(text), repeated.as<String>()->markup);
      }
      TRY(check_items(total));
      std::vector<V> items;
      for (int64_t i = 0; i < count && size > 0; ++i) {
        items.insert(items.end(), repeated.items().begin(), repeated.items().end());
      }
      return sequence(repeated.kind, std::move(items));
    }
    if (left || right) return bad_data("can't multiply sequence by non-int of type '{}'", type_name(left ? b : a));
  }
  if (op == Op::kAdd && a.is(Kind::kString) && !a.as<String>()->markup) {
    return bad_data("can only concatenate str (not \"{}\") to str", type_name(b));
  }
  if (op == Op::kAdd && is_sequence(a)) {
    return bad_data("can only concatenate {} (not \"{}\") to {}", type_name(a), type_name(b), type_name(a));
  }
  return bad_data("unsupported operand type(s) for {}: '{}' and '{}'", symbol_of(op), type_name(a), type_name(b));
}

}  // namespace ll::jinja
