// What the kernels of the linear family have in common: which weights a block multiplies, and what becomes of a sum.
//
// C of each of them:
//   kForm              LinearKind
//   kParts             weights one after another in the output's columns (kMerged); 1 for the other forms
//   kType0 .., kRows0 ..   WeightType and rows of each part; of kGated the gate's, and the up projection's are the same
//   kFirstWeight       input of the first of them; kFirstColumn: of the output, of its first row
//   kColumns           K
//   kAct               of kGated
//   kBias              first of their biases among the inputs, or 0; kResidual likewise
//   kRowsAreTokens     1: StepSizes::tokens counts the rows of x and y, 0: StepSizes::rows
//   kXBytes            between rows of x
//   kYStride, kResidualStride   floats between rows
#pragma once

#include "linear_format.cuh"
#include "prim/activate.cuh"
#include "prim/memory.cuh"

namespace ll::cuda {

// The forms of kernels/ref/linear.h. kGate and kUp are kGated in two kernels, for weights of two types: the first
// leaves its sums [T, N] in the workspace.
enum LinearKind : int { kLinear, kMerged, kGated, kAddResidual, kGate, kUp };

template <class C>
DEVICE constexpr int part_type(int p) {
  if constexpr (C::kParts > 1) {
    if (p == 1) return C::kType1;
  }
  if constexpr (C::kParts > 2) {
    if (p == 2) return C::kType2;
  }
  if constexpr (C::kParts > 3) {
    if (p == 3) return C::kType3;
  }
  return C::kType0;
}
template <class C>
DEVICE constexpr int part_rows(int p) {
  if constexpr (C::kParts > 1) {
    if (p == 1) return C::kRows1;
  }
  if constexpr (C::kParts > 2) {
    if (p == 2) return C::kRows2;
  }
  if constexpr (C::kParts > 3) {
    if (p == 3) return C::kRows3;
  }
  return C::kRows0;
}

// The part that a block works on.
struct Part {
  const u8* weights;
  const u8* up;  // of kGated
  const float* bias;
  const float* up_bias;
  int type, rows;
  int column;     // of the output, of its first row
  int first_row;  // of this block
};

template <class C>
DEVICE Part part_at(const Args& args, int index) {
  Part part{};
  part.weights = static_cast<const u8*>(args.in[C::kFirstWeight + index]);
  if constexpr (C::kForm == kGated) part.up = static_cast<const u8*>(args.in[C::kFirstWeight + 1]);
  if constexpr (C::kBias > 0) {
    part.bias = static_cast<const float*>(args.in[C::kBias + index]);
    if constexpr (C::kForm == kGated) part.up_bias = static_cast<const float*>(args.in[C::kBias + 1]);
  }
  part.column = C::kFirstColumn;
  part.type = part_type<C>(index);
  part.rows = part_rows<C>(index);
  return part;
}

// Blocks take kBlockRows rows of one part each, parts in order.
template <class C, int kBlockRows>
DEVICE Part find_part(const Args& args, int block) {
  if constexpr (C::kParts == 1) {
    Part part = part_at<C>(args, 0);
    part.first_row = block * kBlockRows;
    return part;
  } else {
    int column = 0;
#pragma unroll
    for (int p = 0; p + 1 < C::kParts; ++p) {
      const int blocks = (part_rows<C>(p) + kBlockRows - 1) / kBlockRows;
      if (block < blocks) {
        Part part = part_at<C>(args, p);
        part.column += column;
        part.first_row = block * kBlockRows;
        return part;
      }
      block -= blocks;
      column += part_rows<C>(p);
    }
    Part part = part_at<C>(args, C::kParts - 1);
    part.column += column;
    part.first_row = block * kBlockRows;
    return part;
  }
}

// body(Number<type>()) for the part's type; equal types share their code.
template <class C, int kPart = 0, class Body>
DEVICE void with_type(const Part& part, Body body) {
  constexpr int kType = part_type<C>(kPart);
  if constexpr (kPart + 1 == C::kParts) {
    body(Number<kType>());
  } else {
    constexpr bool kLater = [] {
      for (int p = kPart + 1; p < C::kParts; ++p) {
        if (part_type<C>(p) == kType) return true;
      }
      return false;
    }();
    if (!kLater && part.type == kType) return body(Number<kType>());
    with_type<C, kPart + 1>(part, body);
  }
}

// y[token][row of the part] from its sum; of kGated from gate and up.
template <class C>
DEVICE float finished(const Args& args, const Part& part, int token, int row, float sum, float up) {
  float value = sum;
  if constexpr (C::kBias > 0) value += part.bias[row];
  if constexpr (C::kForm == kGated) {
    if constexpr (C::kBias > 0) up += part.up_bias[row];
    value = activate<C::kAct>(value) * up;
  }
  if constexpr (C::kForm == kAddResidual) {
    value += static_cast<const float*>(args.in[C::kResidual])[i64{token} * C::kResidualStride + row];
  }
  if constexpr (C::kForm == kUp) {
    value = activate<C::kAct>(static_cast<const float*>(args.workspace)[i64{token} * C::kRows0 + row]) * value;
  }
  return value;
}

// Keeps it.
template <class C>
DEVICE void finish(const Args& args, const Part& part, int token, int row, float sum, float up) {
  const float value = finished<C>(args, part, token, row, sum, up);
  if constexpr (C::kForm == kGate) {
    static_cast<float*>(args.workspace)[i64{token} * C::kRows0 + row] = value;
  } else {
    static_cast<float*>(args.out[0])[i64{token} * C::kYStride + part.column + row] = value;
  }
}

template <class C>
DEVICE int token_count(const Args& args) {
  return C::kRowsAreTokens ? args.step->tokens : args.step->rows;
}

}  // namespace ll::cuda
