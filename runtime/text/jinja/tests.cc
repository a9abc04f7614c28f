// Jinja2's tests: what may follow `is`.
#include <cmath>
#include <iterator>

#include "runtime/text/jinja/machine.h"
#include "runtime/text/jinja/unicode.h"

namespace ll::jinja {
namespace {

using Test = Result<bool> (*)(Machine&, const V&, const Bound&);

template <Kind... kKinds>
Result<bool> is_kind(Machine&, const V& v, const Bound&) {
  return ((v.kind == kKinds) || ...);
}

Result<bool> remainder_is(Machine& m, const V& v, const V& divisor, int64_t wanted) {
  TRY_ASSIGN(const V rest, m.binary(Op::kMod, v, divisor));
  return m.equal(rest, integer(wanted, true));
}
Result<bool> odd(Machine& m, const V& v, const Bound&) { return remainder_is(m, v, integer(2, true), 1); }
Result<bool> even(Machine& m, const V& v, const Bound&) { return remainder_is(m, v, integer(2, true), 0); }
Result<bool> divisible(Machine& m, const V& v, const Bound& a) { return remainder_is(m, v, a[0], 0); }

Result<bool> defined(Machine&, const V& v, const Bound&) { return !v.is(Kind::kUndefined); }

template <bool kUpper>
Result<bool> cased(Machine& m, const V& v, const Bound&) {
  TRY_ASSIGN(const Text text, m.str(v));
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text.bytes, at);
    if (is_title(c.code) || (kUpper ? is_lower(c.code) : is_upper(c.code))) return false;
    any |= kUpper ? is_upper(c.code) : is_lower(c.code);
    at += c.size;
  }
  return any;
}

template <bool kValue>
Result<bool> is_bool(Machine&, const V& v, const Bound&) {
  return v.is(Kind::kBool) && v.boolean == kValue;
}

Result<bool> iterable(Machine&, const V& v, const Bound&) {
  switch (v.kind) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kDictView:
    case Kind::kRange:
    case Kind::kIterator:
    case Kind::kLoop:
      return true;
    default:
      return false;
  }
}

Result<bool> callable(Machine&, const V& v, const Bound&) {
  switch (v.kind) {
    case Kind::kUndefined:  // has __call__
    case Kind::kMacro:
    case Kind::kMethod:
    case Kind::kFunction:
    case Kind::kLoop:
    case Kind::kJoiner:
      return true;
    default:
      return false;
  }
}

// Python's `is`: equal scalars of one type pass for one object.
Result<bool> same_as(Machine& m, const V& v, const Bound& a) {
  if (v.kind != a[0].kind) return false;
  switch (v.kind) {
    case Kind::kNone:
      return true;
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
    case Kind::kString:
      return m.equal(v, a[0]);
    default:
      return v.object == a[0].object;
  }
}

Result<bool> escaped(Machine&, const V& v, const Bound&) { return v.is(Kind::kString) && v.as<String>()->markup; }
Result<bool> inside(Machine& m, const V& v, const Bound& a) { return m.contains(a[0], v); }

template <bool kFilter>
Result<bool> names(Machine& m, const V& v, const Bound&) {
  if (!v.is(Kind::kString)) {
    TRY(m.hashable(v));
    return false;
  }
  return (kFilter ? find_filter(v.bytes()) : find_test(v.bytes())) >= 0;
}

template <Comparison kOp>
Result<bool> compares(Machine& m, const V& v, const Bound& a) {
  return m.compare(kOp, v, a[0]);
}

constexpr struct Row {
  const char* name;
  Signature signature;
  Test call;
} kTests[] = {
    {"odd", {"test_odd", "", 0, 1}, odd},
    {"even", {"test_even", "", 0, 1}, even},
    {"divisibleby", {"test_divisibleby", "num", 1, 1}, divisible},
    {"defined", {"test_defined", "", 0, 1}, defined},
    {"undefined", {"test_undefined", "", 0, 1}, is_kind<Kind::kUndefined>},
    {"filter", {"test_filter", "", 0, 2}, names<true>},
    {"test", {"test_test", "", 0, 2}, names<false>},
    {"none", {"test_none", "", 0, 1}, is_kind<Kind::kNone>},
    {"boolean", {"test_boolean", "", 0, 1}, is_kind<Kind::kBool>},
    {"false", {"test_false", "", 0, 1}, is_bool<false>},
    {"true", {"test_true", "", 0, 1}, is_bool<true>},
    {"integer", {"test_integer", "", 0, 1}, is_kind<Kind::kInt>},
    {"float", {"test_float", "", 0, 1}, is_kind<Kind::kFloat>},
    {"lower", {"test_lower", "", 0, 1}, cased<false>},
    {"upper", {"test_upper", "", 0, 1}, cased<true>},
    {"string", {"test_string", "", 0, 1}, is_kind<Kind::kString>},
    {"mapping", {"test_mapping", "", 0, 1}, is_kind<Kind::kDict>},
    {"number", {"test_number", "", 0, 1}, is_kind<Kind::kBool, Kind::kInt, Kind::kFloat>},
    {"sequence",
     {"test_sequence", "", 0, 1},
     is_kind<Kind::kUndefined, Kind::kString, Kind::kList, Kind::kTuple, Kind::kDict, Kind::kRange>},
    {"iterable", {"test_iterable", "", 0, 1}, iterable},
    {"callable", {"callable", "", 0, 1}, callable},
    {"sameas", {"test_sameas", "other", 1, 1}, same_as},
    {"escaped", {"test_escaped", "", 0, 1}, escaped},
    {"in", {"test_in", "seq", 1, 1}, inside},
    {"==", {"eq", "other", 1, 1}, compares<Comparison::kEq>},
    {"eq", {"eq", "other", 1, 1}, compares<Comparison::kEq>},
    {"equalto", {"eq", "other", 1, 1}, compares<Comparison::kEq>},
    {"!=", {"ne", "other", 1, 1}, compares<Comparison::kNe>},
    {"ne", {"ne", "other", 1, 1}, compares<Comparison::kNe>},
    {">", {"gt", "other", 1, 1}, compares<Comparison::kGt>},
    {"gt", {"gt", "other", 1, 1}, compares<Comparison::kGt>},
    {"greaterthan", {"gt", "other", 1, 1}, compares<Comparison::kGt>},
    {">=", {"ge", "other", 1, 1}, compares<Comparison::kGe>},
    {"ge", {"ge", "other", 1, 1}, compares<Comparison::kGe>},
    {"<", {"lt", "other", 1, 1}, compares<Comparison::kLt>},
    {"lt", {"lt", "other", 1, 1}, compares<Comparison::kLt>},
    {"lessthan", {"lt", "other", 1, 1}, compares<Comparison::kLt>},
    {"<=", {"le", "other", 1, 1}, compares<Comparison::kLe>},
    {"le", {"le", "other", 1, 1}, compares<Comparison::kLe>},
};

}  // namespace

int find_test(std::string_view name) {
  for (size_t i = 0; i < std::size(kTests); ++i) {
    if (kTests[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

Result<bool> call_test(Machine& m, int index, const V& value, const Args& args) {
  const Row& row = kTests[static_cast<size_t>(index)];
  TRY_ASSIGN(const Bound bound, bind(row.signature, args));
  return row.call(m, value, bound);
}

}  // namespace ll::jinja
