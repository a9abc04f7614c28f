// Matrix products of real models, as Q4_K_M files have them: what the static checks compile and what benchmarks on a
// device time.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/cuda/family.h"

namespace ll::cuda {

// One weight [rows, k] of a launch.
struct LinearPart {
  DType dtype;
  int64_t rows;
};

struct LinearShape {
  std::string_view model, name;  // "llama-3.2-1b", "attn_qkv q4_K q6_K"
  std::string_view kernel;       // of the catalog
  std::span<const LinearPart> parts;
  int64_t k;
  bool bias = false;
  int layers = 1;  // of the model that have it: launches a token
};

// Every product of a token of llama-3.2-1b, llama-3.2-3b, llama-3.1-8b and qwen2.5-7b, model by model. q4_K_M gives
// half of the layers q6_K for attn_v and ffn_down.
std::span<const LinearShape> linear_shapes();

// Bytes of the weights in kTile8.
int64_t weight_bytes(const LinearShape& shape);

// A launch with at most `tokens` tokens. Owns what its view refers to; operands in the order of kernels/ref/linear.h.
class LinearLaunch {
 public:
  LinearLaunch(const LinearShape& shape, int64_t tokens);
  PlacedLaunch view() const { return {{in_, out_, Attrs(attrs_)}, distances_}; }
  std::span<const TensorType> in() const { return in_; }
  const TensorType& out() const { return out_.front(); }

 private:
  std::vector<TensorType> in_, out_;
  std::vector<int64_t> distances_;
  std::vector<Attr> attrs_;
};

}  // namespace ll::cuda
