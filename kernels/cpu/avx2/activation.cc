#include "kernels/activation.h"

#include "kernels/cpu/avx2/activate.h"
#include "kernels/cpu/avx2/avx2.h"
#include "kernels/cpu/avx2/vector.h"

namespace ll::avx2 {

void activation(const KernelCall& call) {
  const TensorView &x = call.in[0], &y = call.out[0];
  const Activation act = *find_activation(call.attrs.text("act"));
  const Range rows = split(x.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    const float* xt = x.row<float>(t);
    float* yt = y.row<float>(t);
    for (int64_t d = 0; d < x.last(); d += 8) {
      store_part(yt + d, x.last() - d, activate(act, load_part(xt + d, x.last() - d)));
    }
  }
}

}  // namespace ll::avx2
