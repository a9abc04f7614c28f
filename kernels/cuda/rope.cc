#include "kernels/rope.h"

#include <algorithm>

#include "kernels/cuda/families.h"
#include "kernels/cuda/lower.h"
#include "kernels/kv_layout.h"

namespace ll::cuda {

void add_rotation(const PlacedLaunch& spec, const TensorType& inv_freq, int64_t head_dim, Constants& constants) {
  constants.insert(constants.end(), {{"kHeadDim", head_dim},
                                     {"kPairs", inv_freq.dim(0).value},
                                     {"kInterleaved", spec.attrs.text("style") == "interleaved"},
                                     {"kMscale", float_bits(spec.attrs.f64("mscale"))}});
}

void add_cache(const TensorType& kv, Constants& constants) {
  const int64_t head_dim = kv.dim(3).value;
  constants.insert(constants.end(), {{"kPlanes", kv.dim(1).value},
                                     {"kPageSize", kKvPageSize},
                                     {"kKvType", kv_type(kv.dtype)},
                                     {"kKvRowBytes", kv_row_bytes(kv.dtype, head_dim)},
                                     {"kScalesOffset", kv_scales_offset(head_dim)}});
}

namespace {

constexpr int kRopeThreads = 128;

constexpr int64_t kBlocksPerMultiprocessor = 2, kLeastHeads = kRopeThreads / 32;

// Heads of a block: so many that the blocks of a step fill the device; no fewer, because each block makes its
// position's factors, which are in double and so slow, again.
int64_t heads_of_a_block(int64_t tokens, int64_t heads, const Target& target) {
  const int64_t blocks = kBlocksPerMultiprocessor * target.multiprocessors;
  const int64_t of_a_token = std::max<int64_t>(1, (blocks + tokens - 1) / std::max<int64_t>(tokens, 1));
  return std::min(heads, round_up((heads + of_a_token - 1) / of_a_token, kLeastHeads));
}

KernelLaunch blocks_of_heads(std::string_view function, Constants constants, int64_t width, int64_t tokens,
                             const Target& target) {
  const int64_t heads = heads_of_a_block(tokens, width, target);
  constants.insert(constants.end(), {{"kWidth", width}, {"kHeads", heads}});
  KernelLaunch launch;
  launch.instance = {"rope.cuh", std::string(function), std::move(constants), kRopeThreads, 1};
  launch.grid = {blocks_for(width, heads), static_cast<uint32_t>(tokens), 1};
  launch.note = fmt::format("{} of {} heads a block", heads, width);
  return launch;
}

}  // namespace

int64_t kv_type(DType dtype) { return dtype == DType::kF32 ? 0 : dtype == DType::kF16 ? 1 : 2; }

Status lower_rope(const PlacedLaunch& spec, const Target& target, const Tuning&, std::vector<KernelLaunch>& out) {
  const int64_t head_dim = spec.attrs.i64("head_dim");
  Constants constants = {{"kStrideX", in_row_bytes(spec, 0) / 4}, {"kStrideY", out_row_bytes(spec, 0) / 4}};
  add_rotation(spec, spec.in[2], head_dim, constants);
  const TensorType& x = spec.in[0];
  out.push_back(blocks_of_heads("rope", std::move(constants), x.last().value / head_dim, x.dim(0).value, target));
  return {};
}

Status lower_kv_write(const PlacedLaunch& spec, const Target&, const Tuning&, std::vector<KernelLaunch>& out) {
  const TensorType& kv = spec.in[0];
  Constants constants = {{"kHeads", kv.dim(1).value / 2},
                         {"kHeadDim", kv.dim(3).value},
                         {"kStrideK", in_row_bytes(spec, 1) / 4},
                         {"kStrideV", in_row_bytes(spec, 2) / 4}};
  add_cache(kv, constants);
  KernelLaunch launch;
  launch.instance = {"rope.cuh", "kv_write", std::move(constants), kRopeThreads, 1};
  launch.grid = {blocks_for(kv.dim(1).value, kRopeThreads / 32), static_cast<uint32_t>(spec.in[1].dim(0).value), 1};
  launch.note = "a row a warp";
  out.push_back(std::move(launch));
  return {};
}

Status lower_rope_kv_write(const PlacedLaunch& spec, const Target& target, const Tuning&,
                           std::vector<KernelLaunch>& out) {
  const TensorType &kv = spec.in[0], &qkv = spec.in[1];
  const int64_t heads = spec.attrs.i64("heads");
  Constants constants = {
      {"kQueryHeads", heads}, {"kStrideX", in_row_bytes(spec, 1) / 4}, {"kStrideY", out_row_bytes(spec, 0) / 4}};
  add_rotation(spec, spec.in[4], kv.dim(3).value, constants);
  add_cache(kv, constants);
  out.push_back(
      blocks_of_heads("rope_kv_write", std::move(constants), heads + kv.dim(1).value, qkv.dim(0).value, target));
  return {};
}

}  // namespace ll::cuda
