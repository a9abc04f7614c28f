#include "kernels/cuda/device_cases.h"

#include <algorithm>

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

}  // namespace ll::numerics
