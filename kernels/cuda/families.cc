// The explicit list of what GPUs run. A family is tested by being listed (kernels/cuda/numerics_test.cc).
#include "kernels/cuda/families.h"

#include <algorithm>

namespace ll::cuda {
namespace {

constexpr Family kFamilies[] = {
    {"add", lower_add},
    {"mul", lower_mul},
    {"activation", lower_activation},
    {"rms_norm", lower_rms_norm},
    {"quantize", lower_quantize},
    {"norm_quantize", lower_norm_quantize},
    {"rope", lower_rope},
    {"kv_write", lower_kv_write},
    {"rope_kv_write", lower_rope_kv_write},
    {"attention", lower_attention},
    {"gather_rows", lower_gather_rows},
    {"embed", lower_embed},
    {"linear", lower_linear},
    {"merged_linear", lower_merged_linear},
    {"gated_linear", lower_gated_linear},
    {"linear_add", lower_linear_add},
    {"linear_q8", lower_linear_q8},
    {"merged_linear_q8", lower_merged_linear_q8},
    {"gated_linear_q8", lower_gated_linear_q8},
    {"linear_add_q8", lower_linear_add_q8},
    {"norm_linear", lower_norm_linear},
    {"norm_qkv_rope_kv_write", lower_norm_qkv_rope_kv_write},
    {"norm_merged_linear", lower_norm_merged_linear},
    {"norm_gated_linear", lower_norm_gated_linear},
    {"norm_gated_linear_quantize", lower_norm_gated_linear_quantize},
    {"quantize_linear", lower_quantize_linear},
    {"quantize_linear_add", lower_quantize_linear_add},
    {"shortlist", lower_shortlist},
};

}  // namespace

std::span<const Family> families() { return kFamilies; }

const Family* find_family(std::string_view kernel) {
  const auto all = families();
  const auto found = std::find_if(all.begin(), all.end(), [&](const Family& f) { return f.kernel == kernel; });
  return found == all.end() ? nullptr : &*found;
}

}  // namespace ll::cuda
