// Rows of the catalog that this family of kernels contributes: linear, merged_linear, gated_linear, linear_add, each
// with f32 activations and (…_q8) with q8a activations, and embed.
#pragma once

#include <span>

#include "kernels/kernel.h"

namespace ll {

std::span<const Kernel> linear_kernels();

}  // namespace ll
