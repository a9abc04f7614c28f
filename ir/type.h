// Tensor types as the graph writes them: constructors, text and checks.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/type.h"
#include "runtime/base/result.h"

namespace ll::ir {

TensorType vector(DType dtype, int64_t n);
TensorType matrix(DType dtype, int64_t rows, int64_t columns);
// [symbol, columns], the symbol's bound not known yet.
TensorType rows_of(Symbol symbol, DType dtype, int64_t columns);
// kernels/kv_layout.h, with the number of pages not known yet (0).
TensorType kv_type(DType dtype, int64_t kv_heads, int64_t head_dim);

// True for the rank-4 type of a KV cache.
bool is_kv(const TensorType& t);

// f32[T,256]   q4_K:x16[4096,4096]   f32[T<=16,256] (bound known)   i32[S,P] (P: pages a sequence, not known yet)
// kv<f16>[2,64] (kv_heads, head_dim)   kv<q8>[2,64,128] (pages known)
std::string type_text(const TensorType& t);

// Also the bounds of symbols, which == ignores.
bool identical(const TensorType& a, const TensorType& b);

}  // namespace ll::ir
