#include "kernels/activation.h"

#include "kernels/check.h"
#include "kernels/ref/ref.h"

namespace ll::ref {

Status check_activation(const LaunchSpec& spec) {
  TRY(check::operands(spec, 1, 1));
  TRY(check::tensor(spec.in[0], "x", DType::kF32, 2));
  TRY(check::word(spec.attrs, "act", {"silu", "gelu", "gelu_tanh", "relu"}));
  return check::same(spec.out[0], "y", spec.in[0], "x");
}

Cost cost_activation(const LaunchSpec& spec) {
  return {cost::all_bytes(spec), cost::product({4, spec.in[0].dim(0).value, spec.in[0].last().value})};
}

void activation(const KernelCall& call) {
  const TensorView &x = call.in[0], &y = call.out[0];
  const Activation act = *find_activation(call.attrs.text("act"));
  const Range rows = split(x.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    for (int64_t d = 0; d < x.last(); ++d) y.row<float>(t)[d] = activate(act, x.row<float>(t)[d]);
  }
}

}  // namespace ll::ref
