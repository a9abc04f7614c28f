// Words for Family::lower: how operands become constants of an instance.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/cuda/family.h"

namespace ll::cuda {

// A float constant: its bits (float_constant of prim/device.cuh).
inline int64_t float_bits(double value) { return std::bit_cast<uint32_t>(static_cast<float>(value)); }

// Bytes between rows of an input or output (f32, i32, q8a; kRows).
int64_t in_row_bytes(const PlacedLaunch& spec, size_t i);
int64_t out_row_bytes(const PlacedLaunch& spec, size_t i);

// True when each row of the operand starts at a multiple of 16 bytes: it is dense (slices start anywhere that is a
// multiple of 4) and rows are as long.
bool in_is_aligned(const PlacedLaunch& spec, size_t i);
bool out_is_aligned(const PlacedLaunch& spec, size_t i);

// 1 where dimension 0 of the operand is T, 0 where it is R: which of StepSizes counts its rows. kUnsupported for
// others.
Result<int64_t> rows_are_tokens(const TensorType& type);

// KvType of kernels/cuda/kv_store.cuh.
int64_t kv_type(DType dtype);

// The constants that rope.cuh and kv_store.cuh ask for: of the rotation by `inv_freq` with the launch's attributes, and
// of the cache.
using Constants = std::vector<std::pair<std::string, int64_t>>;
void add_rotation(const PlacedLaunch& spec, const TensorType& inv_freq, int64_t head_dim, Constants& constants);
void add_cache(const TensorType& kv, Constants& constants);

// Threads that sum the squares of a row in rms_norm: from the row length alone, because the order of the sum follows
// from it. `vector`: columns a thread takes at once.
int norm_threads(int64_t columns, int64_t vector);

// value of a tuning key, `otherwise` where it is not set.
int64_t tuned(const Tuning& tuning, std::string_view key, int64_t otherwise);

constexpr int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }
constexpr uint32_t blocks_for(int64_t count, int64_t each) { return static_cast<uint32_t>((count + each - 1) / each); }

}  // namespace ll::cuda
