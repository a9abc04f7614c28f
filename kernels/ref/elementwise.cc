#include "kernels/check.h"
#include "kernels/ref/ref.h"

namespace ll::ref {

Status check_elementwise(const LaunchSpec& spec) {
  TRY(check::operands(spec, 2, 1));
  TRY(check::tensor(spec.in[0], "a", DType::kF32, 2));
  TRY(check::same(spec.in[1], "b", spec.in[0], "a"));
  return check::same(spec.out[0], "y", spec.in[0], "a");
}

Cost cost_elementwise(const LaunchSpec& spec) {
  return {cost::all_bytes(spec), cost::product({spec.out[0].dim(0).value, spec.out[0].last().value})};
}

void add(const KernelCall& call) {
  const TensorView &a = call.in[0], &b = call.in[1], &y = call.out[0];
  const Range rows = split(y.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    const float *at = a.row<float>(t), *bt = b.row<float>(t);
    float* yt = y.row<float>(t);
    for (int64_t d = 0; d < y.last(); ++d) yt[d] = at[d] + bt[d];
  }
}

void mul(const KernelCall& call) {
  const TensorView &a = call.in[0], &b = call.in[1], &y = call.out[0];
  const Range rows = split(y.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    const float *at = a.row<float>(t), *bt = b.row<float>(t);
    float* yt = y.row<float>(t);
    for (int64_t d = 0; d < y.last(); ++d) yt[d] = at[d] * bt[d];
  }
}

}  // namespace ll::ref
