#include "ir/type.h"

#include <fmt/format.h>

#include "kernels/kv_layout.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/layouts.h"

namespace ll::ir {

TensorType vector(DType dtype, int64_t n) { return {.dtype = dtype, .rank = 1, .dims = {Dim(n)}}; }

TensorType matrix(DType dtype, int64_t rows, int64_t columns) {
  return {.dtype = dtype, .rank = 2, .dims = {Dim(rows), Dim(columns)}};
}

TensorType rows_of(Symbol symbol, DType dtype, int64_t columns) {
  return {.dtype = dtype, .rank = 2, .dims = {Dim(symbol, 0), Dim(columns)}};
}

TensorType kv_type(DType dtype, int64_t kv_heads, int64_t head_dim) {
  return {.dtype = dtype, .rank = 4, .dims = {Dim(0), Dim(2 * kv_heads), Dim(kKvPageSize), Dim(head_dim)}};
}

bool is_kv(const TensorType& t) { return t.rank == 4; }

std::string type_text(const TensorType& t) {
  if (is_kv(t)) {
    const std::string_view dtype = t.dtype == DType::kI8 ? "q8" : dtype_name(t.dtype);
    const std::string pages = t.dim(0).value == 0 ? "" : fmt::format(",{}", t.dim(0).value);
    return fmt::format("kv<{}>[{},{}{}]", dtype, t.dim(1).value / 2, t.dim(3).value, pages);
  }
  std::string s(dtype_name(t.dtype));
  if (t.layout != Layout::kRows) s += fmt::format(":{}", layout_name(t.layout));
  s += '[';
  for (int i = 0; i < t.rank; ++i) {
    const Dim d = t.dim(i);
    if (i > 0) s += ',';
    switch (d.symbol) {
      case Symbol::kNone:
        s += d.value == 0 ? "P" : fmt::format("{}", d.value);
        continue;
      case Symbol::kT:
        s += 'T';
        break;
      case Symbol::kR:
        s += 'R';
        break;
      case Symbol::kS:
        s += 'S';
        break;
    }
    if (d.value != 0) s += fmt::format("<={}", d.value);
  }
  return s + ']';
}

bool identical(const TensorType& a, const TensorType& b) {
  if (!(a == b)) return false;
  for (int i = 0; i < a.rank; ++i) {
    if (a.dim(i).value != b.dim(i).value) return false;
  }
  return true;
}

}  // namespace ll::ir
