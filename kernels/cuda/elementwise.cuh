// Elementwise kernels over f32 [T, kColumns]:
//
//   add         y = a + b
//   mul         y = a * b
//   activation  y = act(x)                  act: kernels/activation.h
//
// Moves each operand once. A thread takes kVector neighbours, so rows and their starts must be that aligned.
#pragma once

#include "prim/activate.cuh"
#include "prim/memory.cuh"

namespace ll::cuda {

enum ElementwiseOp : int { kAdd, kMul, kActivate };

// C: kOp, kAct, kColumns, kVector (1, 4), kThreads; kStride0, kStride1, kStrideY: elements between rows.
// Grid: (kColumns / kVector / kThreads rounded up, rows).
template <class C>
__device__ void elementwise(const Args& args) {
  const int column = static_cast<int>(blockIdx.x * C::kThreads + threadIdx.x) * C::kVector;
  const int rows = C::kRowsAreTokens ? args.step->tokens : args.step->rows;
  const int row = static_cast<int>(blockIdx.y);
  if (row >= rows || column >= C::kColumns) return;
  const float* a = static_cast<const float*>(args.in[0]) + i64{row} * C::kStride0 + column;
  float* y = static_cast<float*>(args.out[0]) + i64{row} * C::kStrideY + column;
  const float* b = a;
  if constexpr (C::kOp != kActivate) b = static_cast<const float*>(args.in[1]) + i64{row} * C::kStride1 + column;
  const auto one = [](float u, float v) {
    if constexpr (C::kOp == kAdd) return u + v;
    if constexpr (C::kOp == kMul) return u * v;
    return activate<C::kAct>(u);
  };
  if constexpr (C::kVector == 4) {
    const F32x4 u = *reinterpret_cast<const F32x4*>(a), v = *reinterpret_cast<const F32x4*>(b);
    *reinterpret_cast<F32x4*>(y) = {one(u.x, v.x), one(u.y, v.y), one(u.z, v.z), one(u.w, v.w)};
  } else {
    *y = one(*a, *b);
  }
}

}  // namespace ll::cuda
