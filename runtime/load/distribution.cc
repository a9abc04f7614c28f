#include "runtime/load/distribution.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>
#include <optional>

namespace ll::load {
namespace {

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

bool whole(double value) { return value == std::floor(value) && value >= 1 && value <= Length::kMost; }

}  // namespace

uint64_t Random::next() {
  state_ += 0x9E3779B97F4A7C15;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

double Random::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

// The product's high half: even to within 2^-44 for the sizes here.
uint64_t Random::below(uint64_t n) { return static_cast<uint64_t>(uniform() * static_cast<double>(n)); }

double Random::normal() {
  const double r = std::sqrt(-2 * std::log(1 - uniform()));
  return r * std::cos(2 * std::numbers::pi * uniform());
}

double Random::exponential(double rate) { return -std::log(1 - uniform()) / rate; }

Result<Length> Length::parse(std::string_view text) {
  const auto wrong = [&] {
    return usage("length '{}', expected a number, uniform:LEAST,MOST or lognormal:MEDIAN,SIGMA, of 1 to {}", text,
                 kMost);
  };
  Length length;
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) {
    const auto value = number(text);
    if (!value || !whole(*value)) return wrong();
    length.a_ = *value;
    return length;
  }
  const std::string_view kind = text.substr(0, colon), rest = text.substr(colon + 1);
  const size_t comma = rest.find(',');
  if (comma == std::string_view::npos) return wrong();
  const auto a = number(rest.substr(0, comma)), b = number(rest.substr(comma + 1));
  if (!a || !b || !whole(*a)) return wrong();
  length.a_ = *a;
  length.b_ = *b;
  if (kind == "uniform" && whole(*b) && *b >= *a) {
    length.kind_ = Kind::kUniform;
  } else if (kind == "lognormal" && *b >= 0 && *b <= 10) {
    length.kind_ = Kind::kLognormal;
  } else {
    return wrong();
  }
  return length;
}

uint32_t Length::draw(Random& random) const {
  double value = a_;
  if (kind_ == Kind::kUniform) value = a_ + static_cast<double>(random.below(static_cast<uint64_t>(b_ - a_) + 1));
  if (kind_ == Kind::kLognormal) value = std::round(a_ * std::exp(b_ * random.normal()));
  return static_cast<uint32_t>(std::clamp(value, 1.0, static_cast<double>(kMost)));
}

}  // namespace ll::load
