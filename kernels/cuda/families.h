// The `lower` functions that kernels/cuda/families.cc lists (Family::lower), one source file a family.
#pragma once

#include "kernels/cuda/family.h"

namespace ll::cuda {

// attention.cc
Status lower_attention(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);

// elementwise.cc
Status lower_add(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_mul(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_activation(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);

// embed.cc
Status lower_embed(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);

// gather_rows.cc
Status lower_gather_rows(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);

// linear.cc
Status lower_linear(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_merged_linear(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_gated_linear(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_linear_add(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_linear_q8(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_merged_linear_q8(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_gated_linear_q8(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_linear_add_q8(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_norm_linear(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_norm_merged_linear(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_norm_gated_linear(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_norm_gated_linear_quantize(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_quantize_linear(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_quantize_linear_add(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_norm_qkv_rope_kv_write(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);

// norm.cc
Status lower_rms_norm(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_quantize(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_norm_quantize(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);

// rope.cc
Status lower_rope(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_kv_write(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);
Status lower_rope_kv_write(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);

// shortlist.cc
Status lower_shortlist(const PlacedLaunch&, const Target&, const Tuning&, std::vector<KernelLaunch>&);

}  // namespace ll::cuda
