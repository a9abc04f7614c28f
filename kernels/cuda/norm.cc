#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/families.h"
#include "kernels/cuda/lower.h"

namespace ll::cuda {

// Two vectors a thread: one row of a decode step is latency, not bandwidth.
int norm_threads(int64_t columns, int64_t vector) {
  return static_cast<int>(std::clamp<int64_t>(round_up(columns / vector / 2, 32), 32, 1024));
}

namespace {

Status check_q8a(const TensorType& y) {
  if (y.dtype != DType::kQ8A) return unsupported("'y' is {}, expected q8a", check::describe(y));
  return {};
}

Status lower_norm(bool quantize, const PlacedLaunch& spec, std::vector<KernelLaunch>& out) {
  const TensorType& x = spec.in[0];
  const int64_t columns = x.last().value, vector = columns % 4 == 0 ? 4 : 1;
  if (columns >= int64_t{1} << 24) return unsupported("rows of {} elements, expected fewer than 2^24", columns);
  TRY_ASSIGN(const int64_t tokens, rows_are_tokens(x));
  KernelLaunch launch;
  launch.instance = {"norm.cuh",
                     "norm",
                     {{"kColumns", columns},
                      {"kVector", vector},
                      {"kAligned", in_is_aligned(spec, 0) && (quantize || out_is_aligned(spec, 0))},
                      {"kRowsAreTokens", tokens},
                      {"kQuantize", quantize},
                      {"kEps", float_bits(spec.attrs.f64("eps"))},
                      {"kStrideX", in_row_bytes(spec, 0)},
                      {"kStrideY", out_row_bytes(spec, 0)}},
                     norm_threads(columns, vector),
                     1};
  launch.grid = {static_cast<uint32_t>(x.dim(0).value), 1, 1};
  launch.note = fmt::format("a row a block of {} threads", launch.instance.threads);
  out.push_back(std::move(launch));
  return {};
}

}  // namespace

Status lower_rms_norm(const PlacedLaunch& spec, const Target&, const Tuning&, std::vector<KernelLaunch>& out) {
  return lower_norm(false, spec, out);
}

Status lower_norm_quantize(const PlacedLaunch& spec, const Target&, const Tuning&, std::vector<KernelLaunch>& out) {
  TRY(check_q8a(spec.out[0]));
  return lower_norm(true, spec, out);
}

Status lower_quantize(const PlacedLaunch& spec, const Target&, const Tuning&, std::vector<KernelLaunch>& out) {
  const TensorType& x = spec.in[0];
  const int64_t columns = x.last().value;
  TRY(check_q8a(spec.out[0]));
  TRY_ASSIGN(const int64_t tokens, rows_are_tokens(x));
  KernelLaunch launch;
  launch.instance = {"norm.cuh",
                     "quantize",
                     {{"kColumns", columns},
                      {"kAligned", in_is_aligned(spec, 0)},
                      {"kRowsAreTokens", tokens},
                      {"kStrideX", in_row_bytes(spec, 0)},
                      {"kStrideY", out_row_bytes(spec, 0)}},
                     static_cast<int>(std::clamp<int64_t>(round_up(columns / 4, 32), 32, 128)),
                     1};
  launch.grid = {blocks_for(columns, 4 * launch.instance.threads), static_cast<uint32_t>(x.dim(0).value), 1};
  launch.note = fmt::format("{} columns a block", 4 * launch.instance.threads);
  out.push_back(std::move(launch));
  return {};
}

}  // namespace ll::cuda
