// What every CUDA kernel is given. Read by the host and by device code, so plain C++ without includes that NVRTC lacks.
#pragma once

namespace ll::cuda {

inline constexpr int kMaxInputs = 12;
inline constexpr int kMaxOutputs = 4;

// Sizes of this step, in device memory: a graph is launched unchanged, so kernels read them here. Grids are made for
// the largest sizes of the program; blocks beyond these return.
struct StepSizes {
  int tokens;      // T
  int rows;        // R
  int sequences;   // S
  int work_items;  // of the attention work list (kernels/cuda/attention_work.h)
};

// The one parameter of a kernel, by value. Pointers are 16-byte aligned, rows as far apart as the instance's constants
// say.
struct Args {
  const void* in[kMaxInputs];  // the launch's inputs in order
  void* out[kMaxOutputs];      // its outputs
  void* workspace;
  const StepSizes* step;
  const void* work;  // attention work list of this step
};

}  // namespace ll::cuda
