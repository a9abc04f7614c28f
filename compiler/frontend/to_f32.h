// Values of any type that files hold, for looking at them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/base/safetensors.h"

namespace ll {

// `count` elements at `from`, unaligned, as the nearest f32; whole blocks where the type has them.
using ToF32 = void (*)(const std::byte* from, int64_t count, float* to);

// Null for types that we cannot read.
ToF32 safetensors_to_f32(safetensors::DType dtype);
ToF32 ggml_to_f32(uint32_t ggml_id);

}  // namespace ll
