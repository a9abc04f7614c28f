// Python's arithmetic, and + and * of sequences.
#include <algorithm>
#include <cmath>

#include "runtime/base/checked.h"
#include "runtime/text/jinja/machine.h"
#include "runtime/text/jinja/print.h"

namespace ll::jinja {
namespace {

Error too_large() { return bad_data("integer does not fit 64 bits"); }

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

}  // namespace

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
  if (op == Op::kAdd && a.is_sequence() && a.kind == b.kind) {
    TRY(check_items(a.items().size() + b.items().size()));
    std::vector<V> items = a.items();
    items.insert(items.end(), b.items().begin(), b.items().end());
    return sequence(a.kind, std::move(items));
  }
  if (op == Op::kMul) {
    const bool left = a.is(Kind::kString) || a.is_sequence(), right = b.is(Kind::kString) || b.is_sequence();
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
  if (op == Op::kAdd && a.is_sequence()) {
    return bad_data("can only concatenate {} (not \"{}\") to {}", type_name(a), type_name(b), type_name(a));
  }
  return bad_data("unsupported operand type(s) for {}: '{}' and '{}'", symbol_of(op), type_name(a), type_name(b));
}

}  // namespace ll::jinja
