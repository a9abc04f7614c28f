// Arithmetic on values that come from input: overflow is a value (nullopt), never a wrap.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <utility>

namespace ll {

template <std::integral T>
[[nodiscard]] constexpr std::optional<T> checked_add(T a, T b) {
  T r;
  if (__builtin_add_overflow(a, b, &r)) return std::nullopt;
  return r;
}

template <std::integral T>
[[nodiscard]] constexpr std::optional<T> checked_mul(T a, T b) {
  T r;
  if (__builtin_mul_overflow(a, b, &r)) return std::nullopt;
  return r;
}

// Smallest multiple of `alignment` (a power of two) that is >= value.
[[nodiscard]] constexpr std::optional<uint64_t> checked_align_up(uint64_t value, uint64_t alignment) {
  const auto sum = checked_add<uint64_t>(value, alignment - 1);
  if (!sum) return std::nullopt;
  return *sum & ~(alignment - 1);
}

// Product of all factors; nullopt on overflow. An empty product is 1.
[[nodiscard]] constexpr std::optional<uint64_t> checked_product(std::span<const uint64_t> factors) {
  uint64_t product = 1;
  for (const uint64_t f : factors) {
    const auto next = checked_mul<uint64_t>(product, f);
    if (!next) return std::nullopt;
    product = *next;
  }
  return product;
}

// True when [offset, offset + size) lies inside [0, limit).
[[nodiscard]] constexpr bool fits(uint64_t offset, uint64_t size, uint64_t limit) {
  return offset <= limit && size <= limit - offset;
}

// `value` as a T, when it can hold it.
template <std::integral T, std::integral U>
[[nodiscard]] constexpr std::optional<T> narrow(U value) {
  if (!std::in_range<T>(value)) return std::nullopt;
  return static_cast<T>(value);
}

}  // namespace ll
