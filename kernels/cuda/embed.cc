#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/families.h"
#include "kernels/cuda/lower.h"
#include "kernels/quant/formats.h"

namespace ll::cuda {

Status lower_embed(const PlacedLaunch& spec, const Target&, const Tuning&, std::vector<KernelLaunch>& out) {
  const TensorType &table = spec.in[0], &y = spec.out[0];
  const Layout expected = is_quantized_dtype(table.dtype) ? Layout::kTile8 : Layout::kRows;
  if (table.layout != expected) return unsupported("the table is {}, expected layout tile8", check::describe(table));
  if (y.dim(0).symbol != Symbol::kT) return unsupported("rows of {}, expected T of them", check::describe(y));
  const int64_t columns = y.last().value;
  KernelLaunch launch;
  launch.instance = {
      "embed.cuh",
      "embed",
      {{"kType", static_cast<int64_t>(table.dtype)}, {"kColumns", columns}, {"kYStride", out_row_bytes(spec, 0) / 4}},
      static_cast<int>(std::clamp<int64_t>(round_up((columns + 3) / 4, 32), 32, 256)),
      1};
  launch.grid = {blocks_for(columns, 4 * launch.instance.threads), static_cast<uint32_t>(y.dim(0).value), 1};
  launch.note = "4 values a thread";
  out.push_back(std::move(launch));
  return {};
}

}  // namespace ll::cuda
