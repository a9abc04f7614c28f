// Random numbers that are the same everywhere, and lengths drawn with them.
#pragma once

#include <cstdint>
#include <string_view>

#include "runtime/base/result.h"

namespace ll::load {

// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next();
  double uniform();                 // [0, 1)
  uint64_t below(uint64_t n);       // 0 .. n-1, n > 0
  double normal();                  // mean 0, variance 1
  double exponential(double rate);  // mean 1/rate

 private:
  uint64_t state_;
};

// A length of 1 .. kMost.
class Length {
 public:
  static constexpr uint32_t kMost = 1 << 20;
  // "128", "uniform:64,256", "lognormal:128,0.5". kUsage for anything else.
  static Result<Length> parse(std::string_view text);
  uint32_t draw(Random& random) const;

 private:
  enum class Kind { kFixed, kUniform, kLognormal };
  Kind kind_ = Kind::kFixed;
  double a_ = 1, b_ = 1;
};

}  // namespace ll::load
