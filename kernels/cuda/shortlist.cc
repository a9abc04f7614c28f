#include "kernels/shortlist.h"

#include "kernels/cuda/families.h"
#include "kernels/cuda/lower.h"

namespace ll::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kSlice = 16 * kThreads;  // 32 blocks for a row of 128 k: enough for a device at one row
static_assert(kMostShortlistVocab <= kSlice * kThreads, "a thread of the merge takes the sums of a slice");

}  // namespace

// The slices of a row and their order follow from the vocabulary alone, so a row's list does not depend on the step.
Status lower_shortlist(const PlacedLaunch& spec, const Target&, const Tuning&, std::vector<KernelLaunch>& out) {
  const TensorType& x = spec.in[0];
  const int64_t vocab = x.last().value, slices = blocks_for(vocab, kSlice);
  TRY_ASSIGN(const int64_t tokens, rows_are_tokens(x));
  if (tokens != 0) return unsupported("a shortlist of T rows, expected R of them");
  const auto rows = static_cast<uint32_t>(x.dim(0).value);
  KernelLaunch launch;
  launch.instance = {"shortlist.cuh",
                     "shortlist_slices",
                     {{"kVocab", vocab},
                      {"kStrideX", in_row_bytes(spec, 0) / 4},
                      {"kVector", in_is_aligned(spec, 0) ? 4 : 1},
                      {"kSlice", kSlice},
                      {"kSlices", slices},
                      {"kListed", kShortlist}},
                     kThreads,
                     4};
  launch.workspace = static_cast<uint64_t>(rows) * static_cast<uint64_t>(slices) * (8 * kShortlist + 16);
  launch.grid = {static_cast<uint32_t>(slices), rows, 1};
  launch.note = fmt::format("{} slices a row", slices);
  out.push_back(launch);
  launch.instance.function = "shortlist_merge";
  launch.instance.blocks_per_sm = 1;
  launch.grid = {rows, 1, 1};
  launch.note = "a row a block";
  out.push_back(std::move(launch));
  return {};
}

}  // namespace ll::cuda
