#include <algorithm>

#include "kernels/activation.h"
#include "kernels/cuda/families.h"
#include "kernels/cuda/lower.h"

namespace ll::cuda {
namespace {

// kernels/cuda/elementwise.cuh, ElementwiseOp
enum Op : int64_t { kAdd, kMul, kActivate };

Status lower_elementwise(Op op, const PlacedLaunch& spec, std::vector<KernelLaunch>& out) {
  const TensorType& y = spec.out[0];
  const int64_t columns = y.last().value;
  TRY_ASSIGN(const int64_t tokens, rows_are_tokens(y));
  const bool aligned = in_is_aligned(spec, 0) && (op == kActivate || in_is_aligned(spec, 1)) && out_is_aligned(spec, 0);
  const int64_t vector = aligned ? 4 : 1;
  KernelLaunch launch;
  launch.instance = {"elementwise.cuh",
                     "elementwise",
                     {{"kOp", op},
                      {"kAct", op == kActivate ? static_cast<int64_t>(*find_activation(spec.attrs.text("act"))) : 0},
                      {"kColumns", columns},
                      {"kVector", vector},
                      {"kRowsAreTokens", tokens},
                      {"kStride0", in_row_bytes(spec, 0) / 4},
                      {"kStride1", op == kActivate ? 0 : in_row_bytes(spec, 1) / 4},
                      {"kStrideY", out_row_bytes(spec, 0) / 4}},
                     static_cast<int>(std::clamp<int64_t>(round_up(columns / vector, 32), 32, 256)),
                     1};
  launch.grid = {blocks_for(columns, vector * launch.instance.threads), static_cast<uint32_t>(y.dim(0).value), 1};
  launch.note = fmt::format("{} columns a thread", vector);
  out.push_back(std::move(launch));
  return {};
}

}  // namespace

Status lower_add(const PlacedLaunch& spec, const Target&, const Tuning&, std::vector<KernelLaunch>& out) {
  return lower_elementwise(kAdd, spec, out);
}
Status lower_mul(const PlacedLaunch& spec, const Target&, const Tuning&, std::vector<KernelLaunch>& out) {
  return lower_elementwise(kMul, spec, out);
}
Status lower_activation(const PlacedLaunch& spec, const Target&, const Tuning&, std::vector<KernelLaunch>& out) {
  return lower_elementwise(kActivate, spec, out);
}

}  // namespace ll::cuda
