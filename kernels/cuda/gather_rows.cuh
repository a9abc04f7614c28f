// y[r, :] = x[rows[r], :], f32 [R, kColumns]. Moves y twice.
#pragma once

#include "prim/memory.cuh"

namespace ll::cuda {

// C: kColumns, kVector (1, 4), kStrideX, kStrideY (elements), kThreads. Grid: (kColumns / kVector / kThreads rounded
// up, R).
template <class C>
__device__ void gather_rows(const Args& args) {
  const int r = static_cast<int>(blockIdx.y);
  const int column = static_cast<int>(blockIdx.x * C::kThreads + threadIdx.x) * C::kVector;
  if (r >= args.step->rows || column >= C::kColumns) return;
  const int token = static_cast<const int*>(args.in[1])[r];
  const float* x = static_cast<const float*>(args.in[0]) + i64{token} * C::kStrideX + column;
  float* y = static_cast<float*>(args.out[0]) + i64{r} * C::kStrideY + column;
  if constexpr (C::kVector == 4) {
    *reinterpret_cast<F32x4*>(y) = *reinterpret_cast<const F32x4*>(x);
  } else {
    *y = *x;
  }
}

}  // namespace ll::cuda
