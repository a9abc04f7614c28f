// The weights of an opened plan in memory, in the layout the kernels want.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/plan/plan.h"

namespace ll {

// Memory of every tensor of a plan. Embedded tensors are views into the mapped plan, which must outlive this object;
// tensors of source files are converted and repacked into memory of its own.
class Weights {
 public:
  // `folder`: where the plan's source files lie; empty: beside the plan. A source of another size or hash is kBadData,
  // a missing one kNoInput. Repacks on `threads` threads. Trivial for a plan with embedded weights.
  static Result<Weights> load(const ValidatedPlan& plan, const std::string& folder = "", int threads = 1);

  // Of Plan::tensors[index]; 64-byte aligned. Null for a tensor of a source file that no program of the plan's backend
  // uses.
  const std::byte* data(size_t index) const { return data_[index]; }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::vector<const std::byte*> data_;
  std::unique_ptr<std::byte, Free> memory_;
};

}  // namespace ll
