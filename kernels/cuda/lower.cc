#include "kernels/cuda/lower.h"

#include "kernels/check.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/q8a.h"

namespace ll::cuda {
namespace {

int64_t dense(const TensorType& type) { return row_bytes(type.dtype, type.rank == 1 ? 1 : type.last().value); }

}  // namespace

int64_t in_row_bytes(const PlacedLaunch& spec, size_t i) { return spec.in_row_bytes[i]; }
int64_t out_row_bytes(const PlacedLaunch& spec, size_t i) { return dense(spec.out[i]); }
bool in_is_aligned(const PlacedLaunch& spec, size_t i) {
  return in_row_bytes(spec, i) == dense(spec.in[i]) && in_row_bytes(spec, i) % 16 == 0;
}
bool out_is_aligned(const PlacedLaunch& spec, size_t i) { return out_row_bytes(spec, i) % 16 == 0; }

Result<int64_t> rows_are_tokens(const TensorType& type) {
  const Symbol symbol = type.dim(0).symbol;
  if (symbol == Symbol::kT) return 1;
  if (symbol == Symbol::kR) return 0;
  return unsupported("rows of {}, expected T or R of them", check::describe(type));
}

std::span<const std::string_view> tuning_keys() {
  static constexpr std::string_view kKeys[] = {
      "attention.blocks", "attention.shared", "linear.ahead", "linear.kernel",       "linear.row_tiles",
      "linear.row_warps", "linear.tile",      "linear.warps", "linear_float.tokens", "linear_float.warps"};
  return kKeys;
}

int64_t tuned(const Tuning& tuning, std::string_view key, int64_t otherwise) {
  const auto found = tuning.find(key);
  return found == tuning.end() ? otherwise : found->second;
}

}  // namespace ll::cuda
