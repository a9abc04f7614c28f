#include "kernels/cuda/device_cases.h"

#include <algorithm>
#include <utility>

#include "kernels/kv_layout.h"
#include "kernels/quant/formats.h"

namespace ll::numerics {
namespace {

constexpr int64_t kSpareRows = 3;  // by which a program's largest sizes exceed the step's

TensorType larger(TensorType type) {
  for (Dim& d : type.dims) d.value += d.symbol == Symbol::kNone ? 0 : kSpareRows;
  return type;
}

}  // namespace

DeviceSpec::DeviceSpec(const Case& c) : attrs(c.attrs) {
  for (const Tensor& t : c.in) {
    in.push_back(larger(t.type));
    const int64_t dense = t.type.rank == 1 ? row_bytes(t.type.dtype, 1) : dense_row_bytes(t.type);
    in_distance.push_back(std::max(t.row_bytes, dense));
  }
  for (size_t i = 0; i < c.out.size(); ++i) {
    const int shared = shared_input(c, i);
    out.push_back(larger((shared < 0 ? c.out[i] : c.in[static_cast<size_t>(shared)]).type));
  }
}

int size_of(const Case& c, Symbol symbol) {
  for (const Tensor& t : c.in) {
    for (const Dim& d : t.type.dims) {
      if (d.symbol == symbol) return static_cast<int>(d.value);
    }
  }
  return 0;
}

std::vector<Case> device_cases(const Kernel& kernel) {
  std::vector<Case> cases = make_cases(kernel);
  for (Case& c : cases) {
    for (Tensor& t : c.out) t.row_bytes = 0;
  }
  if (kernel.in_place < 0 || !cases.front().shares.empty()) return cases;
  Case shared = cases.front();
  shared.name += " in place";
  shared.shares = {kernel.in_place};
  shared.in[static_cast<size_t>(kernel.in_place)].row_bytes = 0;
  cases.push_back(shared);
  return cases;
}

namespace {

// An i8 cache by column as rows, or the other way; other operands as they are.
std::vector<std::byte> turned(const TensorType& type, std::vector<std::byte> bytes, bool to_rows) {
  if (type.rank != 4 || type.dtype != DType::kI8 || bytes.empty()) return bytes;
  std::vector<std::byte> result(bytes.size());
  const auto move = [&](int64_t column, int64_t row, int64_t count) {
    std::copy_n(bytes.data() + (to_rows ? column : row), count, result.data() + (to_rows ? row : column));
  };
  const int64_t head_dim = type.last().value, codes = kv_scales_offset(head_dim), kv_heads = type.dim(1).value / 2;
  const int64_t row_bytes = kv_row_bytes(type.dtype, head_dim);
  for (int64_t plane = 0; plane < 2 * type.dim(0).value * kv_heads; ++plane) {
    const int64_t at = plane * kKvPageSize * row_bytes;
    const KvPart part = plane / kv_heads % 2 == 0 ? KvPart::kKeys : KvPart::kValues;
    for (int64_t place = 0; place < kKvPageSize; ++place) {
      const int64_t row = at + place * row_bytes;
      for (int64_t d = 0; d < codes; ++d) move(at + kv_code_offset(part, head_dim, place, d), row + d, 1);
      for (int64_t g = 0; codes + 4 * g < row_bytes; ++g) {
        move(at + kv_scale_offset(head_dim, place, g), row + codes + 4 * g, 4);
      }
    }
  }
  return result;
}

}  // namespace

std::vector<std::byte> as_gpus_hold(const TensorType& type, std::vector<std::byte> bytes) {
  return turned(type, std::move(bytes), true);
}
std::vector<std::byte> as_cpus_hold(const TensorType& type, std::vector<std::byte> bytes) {
  return turned(type, std::move(bytes), false);
}

}  // namespace ll::numerics
