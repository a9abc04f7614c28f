// Kernels on tiles. Contracts: kernels/ref/ref.h. Called only where has_isa(Isa::kAmx).
#pragma once

#include "kernels/kernel.h"

namespace ll::amx {

void attention(const KernelCall& call);

}  // namespace ll::amx
