#include "kernels/cuda/prim_check.h"

#include <fmt/format.h>

#include <random>

namespace ll::cuda {
namespace {

constexpr int kCheckThreads = 128;
constexpr uint32_t kBlocks = 8;

// In the order of prim_check.cuh.
constexpr std::string_view kRows[] = {"loads",
                                      "fma",
                                      "a product and a sum, not contracted",
                                      "square_root",
                                      "division",
                                      "reciprocal",
                                      "reciprocal_root",
                                      "exp2",
                                      "exp",
                                      "sine_cosine sine",
                                      "sine_cosine cosine",
                                      "activate silu",
                                      "activate gelu",
                                      "activate gelu_tanh",
                                      "activate relu",
                                      "round_to_int",
                                      "round_to_int of ties",
                                      "round_to_int of large numbers",
                                      "multiply_high",
                                      "permute_bytes",
                                      "and_or",
                                      "leading_zeros",
                                      "count_ones",
                                      "lowest_one",
                                      "f16_from_f32",
                                      "f16_from_f32 of small numbers",
                                      "f16_from_f32 of tiny numbers",
                                      "f32_from_f16",
                                      "f32_from_bf16",
                                      "multiply_f16x2",
                                      "add_f16x2",
                                      "fma_f16x2",
                                      "dp4a_ss",
                                      "dp4a_us",
                                      "dp4a_uu",
                                      "shuffle",
                                      "shuffle_xor",
                                      "shuffle_up",
                                      "shuffle_down",
                                      "ballot",
                                      "warp_sum",
                                      "warp_sum of 8",
                                      "warp_max",
                                      "warp_max of 4",
                                      "block_sum",
                                      "block_max",
                                      "sync_block_count",
                                      "mma_m16n8k8_f16 d0",
                                      "mma_m16n8k8_f16 d1",
                                      "mma_m16n8k8_f16 d2",
                                      "mma_m16n8k8_f16 d3",
                                      "mma_m8n8k16_ss d0",
                                      "mma_m8n8k16_ss d1",
                                      "mma_m8n8k16_us d0",
                                      "mma_m8n8k16_us d1",
                                      "load_matrix_x4 0",
                                      "load_matrix_x4 1",
                                      "load_matrix_x4 2",
                                      "load_matrix_x4 3",
                                      "load_matrix_x4_transposed 0",
                                      "load_matrix_x4_transposed 1",
                                      "load_matrix_x4_transposed 2",
                                      "load_matrix_x4_transposed 3",
                                      "load_matrix_x2 0",
                                      "load_matrix_x2 1",
                                      "load_matrix_x2_transposed 0",
                                      "load_matrix_x2_transposed 1",
                                      "load_matrix_x1",
                                      "atomic_add, atomic_max, atomic_or",
                                      "atomic_compare",
                                      "atomic_exchange",
                                      "atomic_max of 64 bits",
                                      "store_release, load_acquire, load_fresh"};

}  // namespace

std::span<const std::string_view> prim_check_rows() { return kRows; }
uint64_t prim_check_threads() { return uint64_t{kBlocks} * kCheckThreads; }

KernelLaunch prim_check_launch() {
  KernelLaunch launch;
  launch.instance = {"prim_check.cuh", "prim_check", {{"kResults", std::ssize(kRows)}}, kCheckThreads, 1};
  launch.grid = {kBlocks, 1, 1};
  launch.workspace = launch.workspace_zeroed = 16 * prim_check_threads();
  return launch;
}

std::vector<uint32_t> prim_check_inputs(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint32_t> words(8 * prim_check_threads());
  for (uint32_t& w : words) w = static_cast<uint32_t>(random());
  return words;
}

std::string prim_check_differences(std::span<const uint32_t> got, std::span<const uint32_t> want) {
  const uint64_t threads = prim_check_threads();
  std::string text;
  for (size_t r = 0; r < std::size(kRows); ++r) {
    uint64_t count = 0, first = 0;
    for (uint64_t t = threads; t-- > 0;) {
      if (got[r * threads + t] != want[r * threads + t]) ++count, first = t;
    }
    if (count == 0) continue;
    text += fmt::format("{}: {} of {} threads differ; thread {} has {:#010x}, expected {:#010x}\n", kRows[r], count,
                        threads, first, got[r * threads + first], want[r * threads + first]);
  }
  return text;
}

}  // namespace ll::cuda
