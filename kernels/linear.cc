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
           kQ8 ? level<kForm, avx512::linear> : nullptr, kQ8 ? level<kForm, amx::linear> : nullptr},
          check<kForm, kQ8>,
          ref::scratch_linear,
          cost<kForm>,
          kForm == kAdd ? 2 : -1};
}

constexpr IndexOperand kEmbedIndices[] = {{1, "tokens"}};

constexpr Kernel kKernels[] = {
    {"embed", "embed", {ref::embed, nullptr}, ref::check_embed, nullptr, ref::cost_embed, -1, kEmbedIndices},
    row<kLinear, false>("linear", "linear"),
    row<kMerged, false>("merged_linear", "merged_linear"),
    row<kGated, false>("gated_linear", "gated_linear"),
    row<kAdd, false>("linear_add", "linear_add"),
    row<kLinear, true>("linear_q8", "linear"),
    row<kMerged, true>("merged_linear_q8", "merged_linear"),
    row<kGated, true>("gated_linear_q8", "gated_linear"),
    row<kAdd, true>("linear_add_q8", "linear_add"),
};

}  // namespace

std::span<const Kernel> linear_kernels() { return kKernels; }

}  // namespace ll
