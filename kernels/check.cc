#include "kernels/check.h"

#include <cmath>
#include <limits>

#include "kernels/kv_layout.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/layouts.h"
#include "kernels/quant/q8a.h"

namespace ll::check {

std::string describe(const Dim& dim) {
  switch (dim.symbol) {
    case Symbol::kNone:
      return fmt::format("{}", dim.value);
    case Symbol::kT:
      return fmt::format("T<={}", dim.value);
    case Symbol::kR:
      return fmt::format("R<={}", dim.value);
    case Symbol::kS:
      return fmt::format("S<={}", dim.value);
  }
  return fmt::format("symbol {}", static_cast<int>(dim.symbol));
}

std::string describe(const TensorType& type) {
  std::string text(dtype_name(type.dtype));
  if (type.layout != Layout::kRows) text += fmt::format(":{}", layout_name(type.layout));
  text += '[';
  for (int i = 0; i < type.rank && i < kMaxRank; ++i) {
    if (i > 0) text += ',';
    text += describe(type.dim(i));
  }
  return text + ']';
}

Status operands(const LaunchSpec& spec, size_t inputs, size_t outputs) {
  if (spec.in.size() != inputs) return bad_data("{} inputs, expected {}", spec.in.size(), inputs);
  if (spec.out.size() != outputs) return bad_data("{} outputs, expected {}", spec.out.size(), outputs);
  return {};
}

Status tensor(const TensorType& type, std::string_view name, DType dtype, int rank) {
  if (type.dtype != dtype || type.layout != Layout::kRows || type.rank != rank) {
    return bad_data("'{}' is {}, expected {} of rank {}", name, describe(type), dtype_name(dtype), rank);
  }
  for (int i = 0; i < rank; ++i) {
    const Dim d = type.dim(i);
    const bool symbol = d.symbol != Symbol::kNone;
    if (symbol && i > 0) return bad_data("'{}' is {}, expected a symbol in dimension 0 alone", name, describe(type));
    if (symbol && d.symbol != Symbol::kT && d.symbol != Symbol::kR && d.symbol != Symbol::kS) {
      return bad_data("'{}' is {}, expected a symbol T, R or S", name, describe(type));
    }
    if (d.value < (symbol ? 0 : 1) || d.value > kMaxDim) {
      return bad_data("'{}' is {}, expected dimensions of 1 to {}", name, describe(type), kMaxDim);
    }
  }
  return {};
}

Status dim(const TensorType& type, std::string_view name, int dim, const Dim& expected,
           std::string_view expected_name) {
  const Dim found = type.dim(dim);
  if (found.symbol == expected.symbol && found.value == expected.value) return {};
  return bad_data("'{}' is {}, expected {} in dimension {} ({})", name, describe(type), describe(expected), dim,
                  expected_name);
}

Status same(const TensorType& type, std::string_view name, const TensorType& expected, std::string_view expected_name) {
  TRY(tensor(type, name, expected.dtype, expected.rank));
  for (int i = 0; i < expected.rank; ++i) TRY(dim(type, name, i, expected.dim(i), expected_name));
  return {};
}

Result<int64_t> integer(const Attrs& attrs, std::string_view key, int64_t low, int64_t high) {
  const AttrValue* value = attrs.find(key);
  if (value == nullptr) return bad_data("attribute '{}' is missing, expected an integer", key);
  const auto* found = std::get_if<int64_t>(value);
  if (found == nullptr) return bad_data("attribute '{}' is not an integer", key);
  if (*found < low || *found > high) return bad_data("attribute '{}' is {}, expected {} to {}", key, *found, low, high);
  return *found;
}

Result<double> number(const Attrs& attrs, std::string_view key, double low, double high) {
  const AttrValue* value = attrs.find(key);
  if (value == nullptr) return bad_data("attribute '{}' is missing, expected a number", key);
  if (std::holds_alternative<std::string_view>(*value)) return bad_data("attribute '{}' is not a number", key);
  const double found = attrs.f64(key);
  if (!(found >= low && found <= high))
    return bad_data("attribute '{}' is {}, expected {} to {}", key, found, low, high);
  return found;
}

Result<std::string_view> word(const Attrs& attrs, std::string_view key,
                              std::initializer_list<std::string_view> allowed) {
  const AttrValue* value = attrs.find(key);
  const auto* found = value != nullptr ? std::get_if<std::string_view>(value) : nullptr;
  std::string list;
  for (const std::string_view a : allowed) {
    if (found != nullptr && *found == a) return a;
    list += fmt::format("{}{}", list.empty() ? "" : ", ", a);
  }
  if (value == nullptr) return bad_data("attribute '{}' is missing, expected one of {}", key, list);
  if (found == nullptr) return bad_data("attribute '{}' is not text, expected one of {}", key, list);
  return bad_data("attribute '{}' is '{}', expected one of {}", key, *found, list);
}

Result<Heads> heads(const Attrs& attrs) {
  Heads h{};
  TRY_ASSIGN(h.heads, integer(attrs, "heads", 1, kMaxHeads));
  TRY_ASSIGN(h.kv_heads, integer(attrs, "kv_heads", 1, kMaxHeads));
  TRY_ASSIGN(h.head_dim, integer(attrs, "head_dim", 1, kMaxHeadDim));
  if (h.heads % h.kv_heads != 0) {
    return bad_data("attribute 'heads' is {}, expected a multiple of kv_heads ({})", h.heads, h.kv_heads);
  }
  return h;
}

Status kv_cache(const TensorType& type, std::string_view name, int64_t kv_heads, int64_t head_dim) {
  if (type.dtype != DType::kF32 && type.dtype != DType::kF16 && type.dtype != DType::kI8) {
    return bad_data("'{}' is {}, expected a KV cache of f32, f16 or i8", name, describe(type));
  }
  TRY(tensor(type, name, type.dtype, 4));
  const Dim pages = type.dim(0);
  if (pages.symbol != Symbol::kNone || pages.value > kMaxKvPages) {
    return bad_data("'{}' is {}, expected 1 to {} pages", name, describe(type), kMaxKvPages);
  }
  TRY(dim(type, name, 1, 2 * kv_heads, "2 * kv_heads"));
  TRY(dim(type, name, 2, kKvPageSize, "page size"));
  return dim(type, name, 3, head_dim, "head_dim");
}

}  // namespace ll::check

namespace ll::cost {

uint64_t product(std::initializer_list<int64_t> factors) {
  uint64_t result = 1;
  for (const int64_t f : factors) {
    if (f <= 0) return 0;
    if (__builtin_mul_overflow(result, static_cast<uint64_t>(f), &result))
      result = std::numeric_limits<uint64_t>::max();
  }
  return result;
}

uint64_t bytes(const TensorType& type) {
  int64_t rows = 1;
  for (int i = 0; i + 1 < type.rank; ++i) rows *= type.dim(i).value;
  const int64_t last = type.rank > 0 ? type.last().value : 1;
  if (is_q8a(type.dtype)) return product({rows, last / 32, 40});
  return product({rows, last, 4});
}

uint64_t all_bytes(const LaunchSpec& spec) {
  uint64_t total = 0;
  for (const TensorType& t : spec.in) total += bytes(t);
  for (const TensorType& t : spec.out) total += bytes(t);
  return total;
}

}  // namespace ll::cost
