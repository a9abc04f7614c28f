#include "runtime/text/jinja/number_filters.h"

#include <cmath>
#include <cstdlib>

#include "runtime/text/jinja/filter_arguments.h"
#include "runtime/text/jinja/unicode.h"

namespace ll::jinja::filters {
namespace {

// int(text, base) of Python; missing when it is no number.
Result<V> parse_integer(std::string_view text, int64_t base, bool trusted) {
  text = text.substr(0, rstrip_end(text));
  text.remove_prefix(lstrip_begin(text));
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  const auto has_prefix = [&](char mark) { return text.size() > 2 && text[0] == '0' && (text[1] | 0x20) == mark; };
  int64_t radix = base;
  bool prefixed = false;
  for (const auto& [mark, value] : {std::pair{'x', 16}, {'o', 8}, {'b', 2}}) {
    if (!has_prefix(mark) || (base != 0 && base != value)) continue;
    radix = value;
    prefixed = true;
  }
  if (prefixed) text.remove_prefix(text[2] == '_' ? 3 : 2);
  if (radix == 0) radix = 10;
  if (radix < 2 || radix > 36) return V{};
  if (base == 0 && !prefixed && text.size() > 1 && text[0] == '0' &&
      text.find_first_not_of("0_") != std::string_view::npos) {
    return V{};
  }
  if (text.empty() || text.front() == '_' || text.back() == '_' || text.find("__") != std::string_view::npos)
    return V{};
  int64_t value = 0;
  bool large = false;
  for (const char c : text) {
    if (c == '_') continue;
    const char lower = static_cast<char>(c | 0x20);
    const int64_t digit = c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'z' ? lower - 'a' + 10 : 99;
    if (digit >= radix) return V{};
    large |= __builtin_mul_overflow(value, radix, &value) ||
             __builtin_add_overflow(value, negative ? -digit : digit, &value);
  }
  if (large) return bad_data("integer does not fit 64 bits");
  return integer(value, trusted);
}

// float(text) of Python; missing when it is no number.
V parse_float(std::string_view text, bool trusted) {
  text = text.substr(0, rstrip_end(text));
  text.remove_prefix(lstrip_begin(text));
  std::string digits;
  const std::string lower = to_lower(text);
  std::string_view word = lower;
  if (word.starts_with('-') || word.starts_with('+')) word.remove_prefix(1);
  if (word == "inf" || word == "infinity" || word == "nan") {
    const double value = word == "nan" ? std::nan("") : HUGE_VAL;
    return number(lower[0] == '-' ? -value : value, trusted);
  }
  for (size_t i = 0; i < lower.size(); ++i) {
    const auto digit = [&](size_t at) { return at < lower.size() && lower[at] >= '0' && lower[at] <= '9'; };
    if (lower[i] == '_') {
      if (i == 0 || !digit(i - 1) || !digit(i + 1)) return {};
      continue;
    }
    if (!digit(i) && std::string_view("+-.e").find(lower[i]) == std::string_view::npos) return {};
    digits.push_back(lower[i]);
  }
  if (digits.find_first_of("0123456789") == std::string::npos) return {};
  char* end = nullptr;
  const double value = std::strtod(digits.c_str(), &end);
  return *end == '\0' ? number(value, trusted) : V{};
}

Result<V> whole(double value, bool trusted) {  // missing for what int() rejects
  if (!std::isfinite(value)) return V{};
  if (!(std::fabs(value) < 9.2233720368547758e18)) return bad_data("integer does not fit 64 bits");
  return integer(static_cast<int64_t>(value), trusted);
}

}  // namespace

Result<V> absolute(Machine& m, const V& v, const Bound&) {
  if (v.is(Kind::kFloat)) return number(std::fabs(v.number), v.trusted);
  if (v.is_integral())
    return v.as_integer() < 0 ? m.unary(Op::kNegative, v) : Result<V>(integer(v.as_integer(), v.trusted));
  return bad_data("bad operand type for abs(): '{}'", type_name(v));
}

Result<V> to_integer(Machine&, const V& v, const Bound& a) {
  const V fallback = a[0].missing() ? integer(0, true) : a[0];
  TRY_ASSIGN(const int64_t base, integer_argument(a[1], 10));
  V result;
  if (v.is(Kind::kString)) {
    const bool trusted = v.text().all_trusted();
    TRY_ASSIGN(result, parse_integer(v.bytes(), base, trusted));
    if (result.missing()) {
      const V value = parse_float(v.bytes(), trusted);
      if (!value.missing()) {
        TRY_ASSIGN(result, whole(value.number, trusted));
      }
    }
  } else if (v.is(Kind::kFloat)) {
    if (std::isinf(v.number)) return fallback;
    TRY_ASSIGN(result, whole(v.number, v.trusted));
  } else if (v.is_integral()) {
    return integer(v.as_integer(), v.trusted);
  } else if (v.is(Kind::kUndefined)) {
    return bad_data("{}", v.as<Undefined>()->message);
  }
  return result.missing() ? fallback : result;
}

Result<V> to_float(Machine&, const V& v, const Bound& a) {
  const V fallback = a[0].missing() ? number(0, true) : a[0];
  if (v.is_number()) return number(v.as_number(), v.trusted);
  if (v.is(Kind::kUndefined)) return bad_data("{}", v.as<Undefined>()->message);
  if (!v.is(Kind::kString)) return fallback;
  const V value = parse_float(v.bytes(), v.text().all_trusted());
  return value.missing() ? fallback : value;
}

Result<V> round(Machine& m, const V& v, const Bound& a) {
  TRY_ASSIGN(const int64_t precision, integer_argument(a[0], 0));
  const std::string method = a[1].missing() ? "common" : a[1].is(Kind::kString) ? a[1].bytes() : "";
  if (method != "common" && method != "ceil" && method != "floor")
    return bad_data("method must be common, ceil or floor");
  if (!v.is_number()) return bad_data("type {} doesn't define __round__ method", type_name(v));
  if (precision < -300 || precision > 300) return bad_data("precision {} is beyond 300", precision);
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method != "common") {
    const double scaled = v.as_number() * scale;
    if (!std::isfinite(scaled)) return bad_data("cannot convert float infinity to integer");
    return number((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale, v.trusted);
  }
  if (v.is(Kind::kFloat)) {
    if (!std::isfinite(v.number)) return v;
    if (precision < 0) return number(std::nearbyint(v.number * scale) / scale, v.trusted);
    // printf rounds the exact binary value, as Python does.
    return number(std::strtod(fmt::format("{:.{}f}", v.number, precision).c_str(), nullptr), v.trusted);
  }
  if (precision >= 0) return integer(v.as_integer(), v.trusted);
  if (precision < -18) return integer(0, v.trusted);
  int64_t unit = 1;
  for (int64_t i = precision; i < 0; ++i) unit *= 10;
  const int64_t value = v.as_integer();
  int64_t low = value / unit - (value % unit < 0);
  const int64_t rest = value - low * unit;
  if (rest > unit - rest || (rest == unit - rest && low % 2 != 0)) ++low;
  return m.binary(Op::kMul, integer(low, v.trusted), integer(unit, v.trusted));
}

Result<V> file_size(Machine& m, const V& v, const Bound& a) {
  Bound nothing;
  TRY_ASSIGN(const V value, to_float(m, v, nothing));
  const double bytes = value.number, base = !a[0].missing() && m.truth(a[0]) ? 1024 : 1000;
  if (bytes == 1) return m.string("1 Byte", false);
  if (bytes < base) return m.string(fmt::format("{} Bytes", static_cast<int64_t>(bytes)), false);
  static constexpr std::string_view kPrefixes = "kMGTPEZY";
  double unit = base;
  for (size_t i = 0;; ++i) {
    unit *= base;
    if (bytes < unit || i + 1 == kPrefixes.size()) {
      const char prefix = base == 1024 && i == 0 ? 'K' : kPrefixes[i];
      return m.string(fmt::format("{:.1f} {}{}", base * bytes / unit, prefix, base == 1024 ? "iB" : "B"), false);
    }
  }
}

}  // namespace ll::jinja::filters
