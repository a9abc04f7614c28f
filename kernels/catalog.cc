// The explicit list of kernels. A new kernel is one row here, or in kernels/linear.cc; the numerics suite then tests
// it.
#include <iterator>
#include <vector>

#include "kernels/cpu/amx/amx.h"
#include "kernels/cpu/avx2/avx2.h"
#include "kernels/cpu/avx512/avx512.h"
#include "kernels/kernel.h"
#include "kernels/linear.h"
#include "kernels/ref/ref.h"

namespace ll {
namespace {

constexpr IndexOperand kGatherIndices[] = {{1, "rows"}};
constexpr IndexOperand kRopeIndices[] = {{1, "positions"}};
constexpr IndexOperand kKvWriteIndices[] = {{3, "slots"}};
constexpr IndexOperand kRopeKvWriteIndices[] = {{2, "positions"}, {3, "slots"}};
constexpr IndexOperand kNormQkvIndices[] = {{6, "positions"}, {7, "slots"}};
constexpr IndexOperand kShortlistIndices[] = {{1, "inverse_temperatures"}};
constexpr IndexOperand kAttentionIndices[] = {{2, "positions"}, {3, "sequences"}, {4, "block_table"}};

// clang-format off
// name, op, {scalar, avx2, avx-vnni, avx512-vnni, amx}, check, scratch, cost, in_place, indices
constexpr Kernel kKernels[] = {
    {"add", "add", {ref::add, nullptr},
     ref::check_elementwise, nullptr, ref::cost_elementwise, 0, {}},
    {"mul", "mul", {ref::mul, nullptr},
     ref::check_elementwise, nullptr, ref::cost_elementwise, 0, {}},
    {"activation", "activation", {ref::activation, avx2::activation},
     ref::check_activation, nullptr, ref::cost_activation, 0, {}},
    {"rms_norm", "rms_norm", {ref::rms_norm, avx2::rms_norm},
     ref::check_rms_norm, nullptr, ref::cost_rms_norm, 0, {}},
    {"quantize", "quantize", {ref::quantize, avx2::quantize, nullptr, avx512::quantize, nullptr},
     ref::check_quantize, nullptr, ref::cost_quantize, -1, {}},
    {"norm_quantize", "norm_quantize",
     {ref::norm_quantize, avx2::norm_quantize, nullptr, avx512::norm_quantize, nullptr},
     ref::check_norm_quantize, ref::scratch_norm_quantize, ref::cost_norm_quantize, -1, {}},
    {"rope", "rope", {ref::rope, avx2::rope},
     ref::check_rope, ref::scratch_rope, ref::cost_rope, 0, kRopeIndices},
    {"kv_write", "kv_write", {ref::kv_write, avx2::kv_write},
     ref::check_kv_write, nullptr, ref::cost_kv_write, 0, kKvWriteIndices},
    {"rope_kv_write", "rope_kv_write", {ref::rope_kv_write, avx2::rope_kv_write},
     ref::check_rope_kv_write, ref::scratch_rope_kv_write, ref::cost_rope_kv_write, -1, kRopeKvWriteIndices},
    {"norm_qkv_rope_kv_write", "norm_qkv_rope_kv_write", {ref::norm_qkv_rope_kv_write, nullptr},
     ref::check_norm_qkv_rope_kv_write, ref::scratch_norm_qkv_rope_kv_write, ref::cost_norm_qkv_rope_kv_write, -1,
     kNormQkvIndices},
    {"attention", "attention", {ref::attention, avx2::attention, nullptr, avx512::attention, amx::attention},
     ref::check_attention, ref::scratch_attention, ref::cost_attention, -1, kAttentionIndices},
    {"gather_rows", "gather_rows", {ref::gather_rows, nullptr},
     ref::check_gather_rows, nullptr, ref::cost_gather_rows, -1, kGatherIndices},
    {"shortlist", "", {ref::shortlist, nullptr},
     ref::check_shortlist, nullptr, ref::cost_shortlist, -1, kShortlistIndices},
};
// clang-format on

}  // namespace

std::span<const Kernel> catalog() {
  static const std::vector<Kernel> all = [] {
    std::vector<Kernel> kernels(std::begin(kKernels), std::end(kKernels));
    kernels.insert(kernels.end(), linear_kernels().begin(), linear_kernels().end());
    return kernels;
  }();
  return all;
}

}  // namespace ll
