#include "kernels/cuda/lower.h"

#include "kernels/check.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/q8a.h"

namespace ll::cuda {
namespace {

int64_t distance(std::span<const int64_t> set, size_t i, const TensorType& type) {
  if (i < set.size() && set[i] != 0) return set[i];
  return type.rank == 1 ? row_bytes(type.dtype, 1) : row_bytes(type.dtype, type.last().value);
}

bool aligned(std::span<const int64_t> set, size_t i, const TensorType& type) {
  const bool slice = i < set.size() && set[i] != 0 && set[i] != row_bytes(type.dtype, type.last().value);
  return !slice && distance(set, i, type) % 16 == 0;
}

}  // namespace

int64_t in_row_bytes(const LaunchSpec& spec, size_t i) { return distance(spec.in_row_bytes, i, spec.in[i]); }
int64_t out_row_bytes(const LaunchSpec& spec, size_t i) { return distance(spec.out_row_bytes, i, spec.out[i]); }
bool in_is_aligned(const LaunchSpec& spec, size_t i) { return aligned(spec.in_row_bytes, i, spec.in[i]); }
bool out_is_aligned(const LaunchSpec& spec, size_t i) { return aligned(spec.out_row_bytes, i, spec.out[i]); }

Result<int64_t> rows_are_tokens(const TensorType& type) {
  const Symbol symbol = type.dim(0).symbol;
  if (symbol == Symbol::kT) return 1;
  if (symbol == Symbol::kR) return 0;
  return unsupported("rows of {}, expected T or R of them", check::describe(type));
}

int64_t tuned(const Tuning& tuning, std::string_view key, int64_t otherwise) {
  const auto found = tuning.find(key);
  return found == tuning.end() ? otherwise : found->second;
}

}  // namespace ll::cuda
