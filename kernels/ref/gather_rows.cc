#include <cstring>

#include "kernels/check.h"
#include "kernels/ref/ref.h"

namespace ll::ref {

Status check_gather_rows(const LaunchSpec& spec) {
  TRY(check::operands(spec, 2, 1));
  TRY(check::tensor(spec.in[0], "x", DType::kF32, 2));
  TRY(check::tensor(spec.in[1], "rows", DType::kI32, 1));
  TRY(check::tensor(spec.out[0], "y", DType::kF32, 2));
  // The engine promises rows < T, so x must be all tokens of the step.
  if (spec.in[0].dim(0).symbol != Symbol::kT) {
    return bad_data("'x' is {}, expected T in dimension 0", check::describe(spec.in[0]));
  }
  TRY(check::dim(spec.out[0], "y", 0, spec.in[1].dim(0), "number of rows"));
  return check::dim(spec.out[0], "y", 1, spec.in[0].last(), "row length of x");
}

Cost cost_gather_rows(const LaunchSpec& spec) { return {2 * cost::bytes(spec.out[0]) + cost::bytes(spec.in[1]), 0}; }

void gather_rows(const KernelCall& call) {
  const TensorView &x = call.in[0], &y = call.out[0];
  const int32_t* source = reinterpret_cast<const int32_t*>(call.in[1].data);
  const Range rows = split(y.dim(0), 1, call.thread, call.threads);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    std::memcpy(y.row<float>(r), x.row<float>(source[r]), static_cast<size_t>(4 * y.last()));
  }
}

}  // namespace ll::ref
