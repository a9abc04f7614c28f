#include <algorithm>

#include "kernels/cuda/families.h"
#include "kernels/cuda/lower.h"

namespace ll::cuda {

Status lower_gather_rows(const PlacedLaunch& spec, const Target&, const Tuning&, std::vector<KernelLaunch>& out) {
  const TensorType& y = spec.out[0];
  const int64_t columns = y.last().value, vector = in_is_aligned(spec, 0) && out_is_aligned(spec, 0) ? 4 : 1;
  KernelLaunch launch;
  launch.instance = {"gather_rows.cuh",
                     "gather_rows",
                     {{"kColumns", columns},
                      {"kVector", vector},
                      {"kStrideX", in_row_bytes(spec, 0) / 4},
                      {"kStrideY", out_row_bytes(spec, 0) / 4}},
                     static_cast<int>(std::clamp<int64_t>(round_up(columns / vector, 32), 32, 128)),
                     1};
  launch.grid = {blocks_for(columns, vector * launch.instance.threads), static_cast<uint32_t>(y.dim(0).value), 1};
  launch.note = fmt::format("{} columns a thread", vector);
  out.push_back(std::move(launch));
  return {};
}

}  // namespace ll::cuda
