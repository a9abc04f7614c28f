#include "kernels/linear.h"

#include "kernels/ref/linear.h"

namespace ll {
namespace {

using enum LinearForm;

template <LinearForm kForm, bool kQ8>
Status check(const LaunchSpec& spec) {
  return ref::check_linear(spec, kForm, kQ8);
}
template <LinearForm kForm>
Cost cost(const LaunchSpec& spec) {
  return ref::cost_linear(spec, kForm);
}
template <LinearForm kForm, void (*kLinear)(const KernelCall&, LinearForm)>
void level(const KernelCall& call) {
  kLinear(call, kForm);
}

template <LinearForm kForm, bool kQ8>
constexpr Kernel row(std::string_view name, std::string_view op) {
  return {name,
          op,
          {level<kForm, ref::linear>, level<kForm, avx2::linear>, kQ8 ? level<kForm, avxvnni::linear> : nullptr,
           kQ8 ? level<kForm, avx512::linear> : nullptr, level < kForm, kQ8 ? amx::linear : amx::float_linear > },
          check<kForm, kQ8>,
          ref::scratch_linear,
          cost<kForm>,
          kForm == kAdd ? 2 : -1};
}

template <LinearForm kForm, bool kNorm, bool kToQ8A>
Status check_quantizing(const LaunchSpec& spec) {
  return ref::check_quantizing(spec, kForm, kNorm, kToQ8A);
}
template <LinearForm kForm, bool kNorm>
Cost cost_quantizing(const LaunchSpec& spec) {
  return ref::cost_quantizing(spec, kForm, kNorm);
}
template <LinearForm kForm, bool kNorm>
void scalar_quantizing(const KernelCall& call) {
  ref::quantizing(call, kForm, kNorm);
}

// For GPUs, where a launch costs as much as a small kernel.
template <LinearForm kForm, bool kNorm, bool kToQ8A = false>
constexpr Kernel quantizing_row(std::string_view name) {
  return {name,
          name,
          {scalar_quantizing<kForm, kNorm>, nullptr},
          check_quantizing<kForm, kNorm, kToQ8A>,
          ref::scratch_quantizing,
          cost_quantizing<kForm, kNorm>,
          kForm == kAdd ? 2 : -1};
}

constexpr IndexOperand kEmbedIndices[] = {{1, "tokens"}};

constexpr Kernel kLinearKernels[] = {
    {"embed", "embed", {ref::embed, nullptr}, ref::check_embed, nullptr, ref::cost_embed, -1, kEmbedIndices},
    row<kLinear, false>("linear", "linear"),
    row<kMerged, false>("merged_linear", "merged_linear"),
    row<kGated, false>("gated_linear", "gated_linear"),
    row<kAdd, false>("linear_add", "linear_add"),
    row<kLinear, true>("linear_q8", "linear"),
    row<kMerged, true>("merged_linear_q8", "merged_linear"),
    row<kGated, true>("gated_linear_q8", "gated_linear"),
    row<kAdd, true>("linear_add_q8", "linear_add"),
    quantizing_row<kLinear, true>("norm_linear"),
    quantizing_row<kMerged, true>("norm_merged_linear"),
    quantizing_row<kGated, true>("norm_gated_linear"),
    quantizing_row<kGated, true, true>("norm_gated_linear_quantize"),
    quantizing_row<kLinear, false>("quantize_linear"),
    quantizing_row<kAdd, false>("quantize_linear_add"),
};

}  // namespace

std::span<const Kernel> linear_kernels() { return kLinearKernels; }

}  // namespace ll
