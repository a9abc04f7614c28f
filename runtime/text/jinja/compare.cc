// Truth, equality, order and membership of Python's values.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/text/jinja/machine.h"

namespace ll::jinja {
namespace {

using Order = Machine::Order;

Error too_deep() { return bad_data("value is nested deeper than {} levels", kMaxNesting); }

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

}  // namespace

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
  if (a.is_sequence() && a.kind == b.kind) {
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

}  // namespace ll::jinja
