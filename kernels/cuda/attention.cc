#include "kernels/attention.h"

#include <algorithm>

#include "kernels/cuda/families.h"
#include "kernels/cuda/lower.h"
#include "kernels/cuda/prim/attention_item.h"
#include "kernels/kv_layout.h"

namespace ll::cuda {
namespace {

constexpr int kAttentionThreads = 128;
constexpr int64_t kMaxHeadDim = 256;
constexpr double kLog2E = 1.4426950408889634;

// Tokens of a program from which tiles of a prefill are worth their registers: below, the rows that decode takes at
// once hold nearly all of a step's.
constexpr int64_t kSharedTokens = 65;

}  // namespace

Status lower_attention(const PlacedLaunch& spec, const Target& target, const Tuning& tuning,
                       std::vector<KernelLaunch>& out) {
  const TensorType &q = spec.in[0], &kv = spec.in[1], &table = spec.in[4];
  const int64_t heads = spec.attrs.i64("heads"), kv_heads = spec.attrs.i64("kv_heads"), head_dim = kv.dim(3).value;
  if (head_dim % 8 != 0 || head_dim > kMaxHeadDim) {
    return unsupported("attention with head_dim {}, expected a multiple of 8 up to {}", head_dim, kMaxHeadDim);
  }
  const bool shared = tuned(tuning, "attention.shared", q.dim(0).value >= kSharedTokens ? 1 : 0) != 0;
  // What their registers allow.
  const bool f16 = kv.dtype == DType::kF16;
  const int blocks_per_sm = head_dim > 128 ? 2 : shared ? (f16 && head_dim <= 64 ? 3 : 2) : f16 ? 4 : 3;
  KernelLaunch launch;
  launch.instance = {"attention.cuh",
                     "attention",
                     {{"kHeads", heads},
                      {"kKvHeads", kv_heads},
                      {"kHeadDim", head_dim},
                      {"kScale", float_bits(spec.attrs.f64("scale") * kLog2E)},
                      {"kWindow", spec.attrs.i64("window")},
                      {"kKvType", kv_type(kv.dtype)},
                      {"kKvRowBytes", kv_row_bytes(kv.dtype, head_dim)},
                      {"kScalesOffset", kv_scales_offset(head_dim)},
                      {"kPlanes", kv.dim(1).value},
                      {"kPageSize", kKvPageSize},
                      {"kTableColumns", table.last().value},
                      {"kStrideQ", in_row_bytes(spec, 0) / 4},
                      {"kAlignedQ", in_is_aligned(spec, 0)},
                      {"kSharedPages", shared}},
                     kAttentionThreads,
                     blocks_per_sm};
  const int64_t blocks = tuned(tuning, "attention.blocks", int64_t{blocks_per_sm} * target.multiprocessors);
  launch.grid = {static_cast<uint32_t>(blocks), 1, 1};
  // kKeyStride and kValueStride of attention.cuh, AttentionLayout.
  const int64_t key_stride = (head_dim + 31) / 32 * 64 + 16, value_stride = (head_dim / 8 | 1) * 16;
  if (shared) launch.dynamic_shared = static_cast<uint32_t>(kKvPageSize * (key_stride + value_stride));
  // A counter for each tile and KV head, then partial results: attention.cuh, AttentionLayout.
  launch.workspace_zeroed = static_cast<uint64_t>(round_up(kAttentionSlots * kv_heads * 4, 256));
  launch.workspace = launch.workspace_zeroed + static_cast<uint64_t>(kAttentionSlots * heads * (head_dim + 4) * 4);
  launch.note = fmt::format("{} resident blocks{}", blocks, shared ? ", prefill tiles" : "");
  out.push_back(std::move(launch));
  return {};
}

}  // namespace ll::cuda
