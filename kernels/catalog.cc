// The explicit list of kernels. A new kernel is one row here; the numerics suite then tests it.
#include "kernels/kernel.h"

namespace ll {

std::span<const Kernel> catalog() { return {}; }

}  // namespace ll
