#include "kernels/quant/layouts.h"
#include "kernels/ref/linear.h"

namespace ll::ref {

void embed(const KernelCall& call) {
  const TensorView &table = call.in[0], &y = call.out[0];
  const auto* tokens = reinterpret_cast<const int32_t*>(call.in[1].data);
  const Range rows = split(y.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    dequantize_row(table.dtype, table.layout, table.data, tokens[t], y.last(), y.row<float>(t));
  }
}

}  // namespace ll::ref
