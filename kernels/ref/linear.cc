#include <algorithm>

#include "kernels/activation.h"
#include "kernels/quant/layouts.h"
#include "kernels/quant/q8a.h"
#include "kernels/ref/linear.h"

namespace ll::ref {
namespace {

// Sum over i of w[i] * x[i] in eight lanes (i % 8), added as ((0+4)+(2+6)) + ((1+5)+(3+7)). Products of two f32 are
// exact in f64.
double dot(const double* w, const float* x, int64_t k) {
  double lane[8] = {};
  int64_t i = 0;
  for (; i + 8 <= k; i += 8) {
    for (int l = 0; l < 8; ++l) lane[l] += w[i + l] * static_cast<double>(x[i + l]);
  }
  for (; i < k; ++i) lane[i % 8] += w[i] * static_cast<double>(x[i]);
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

// Scratch of one thread: scratch_linear.
struct Scratch {
  Scratch(const KernelCall& call, int64_t k)
      : row64{reinterpret_cast<double*>(call.scratch.data()), row64[0] + k},
        row32(reinterpret_cast<float*>(row64[1] + k)),
        tokens(row32 + k) {}
  double* row64[2];
  float* row32;
  float* tokens;  // [kTokenBlock][k]
};

void load_weight_row(const TensorView& w, int64_t row, int64_t k, float* row32, double* row64) {
  dequantize_row(w.dtype, w.layout, w.data, row, k, row32);
  for (int64_t i = 0; i < k; ++i) row64[i] = static_cast<double>(row32[i]);
}

// Rows of the output are rows of the weights one after another; for kGated both weights have the same rows.
struct WeightRow {
  size_t part;
  int64_t row;
};
WeightRow weight_row(const KernelCall& call, const LinearRoles& roles, int64_t n) {
  size_t part = 0;
  while (part + 1 < roles.weights && n >= call.in[1 + part].dim(0)) n -= call.in[1 + part++].dim(0);
  return {part, n};
}

float bias_of(const KernelCall& call, const LinearRoles& roles, size_t part, int64_t row) {
  return roles.bias > 0 ? reinterpret_cast<const float*>(call.in[roles.bias + part].data)[row] : 0.0f;
}

}  // namespace

void linear(const KernelCall& call, LinearForm form) {
  const TensorView &x = call.in[0], &y = call.out[0];
  const int64_t k = x.last();
  const LinearRoles roles = linear_roles(form, call.in.size(), call.attrs);
  const bool gated = form == LinearForm::kGated;
  const Activation act = gated ? *find_activation(call.attrs.text("act")) : Activation::kRelu;
  const Range rows = split(y.last(), 1, call.thread, call.threads);
  const Scratch scratch(call, k);
  for (int64_t first = 0; first < x.dim(0); first += kTokenBlock) {
    const int64_t tokens = std::min(kTokenBlock, x.dim(0) - first);
    const float* xs[kTokenBlock];
    for (int64_t t = 0; t < tokens; ++t) {
      xs[t] = x.row<float>(first + t);
      if (is_q8a(x.dtype)) {
        q8a_dequantize_row(x.row<std::byte>(first + t), k, scratch.tokens + t * k);
        xs[t] = scratch.tokens + t * k;
      }
    }
    for (int64_t n = rows.begin; n < rows.end; ++n) {
      const WeightRow w = gated ? WeightRow{0, n} : weight_row(call, roles, n);
      load_weight_row(call.in[1 + w.part], w.row, k, scratch.row32, scratch.row64[0]);
      if (gated) load_weight_row(call.in[2], n, k, scratch.row32, scratch.row64[1]);
      const float bias = bias_of(call, roles, w.part, w.row);
      for (int64_t t = 0; t < tokens; ++t) {
        float value = static_cast<float>(dot(scratch.row64[0], xs[t], k) + bias);
        if (gated) {
          const float up = static_cast<float>(dot(scratch.row64[1], xs[t], k) + bias_of(call, roles, 1, n));
          value = activate(act, value) * up;
        }
        if (form == LinearForm::kAdd) value += call.in[roles.residual].row<float>(first + t)[n];
        y.row<float>(first + t)[n] = value;
      }
    }
  }
}

}  // namespace ll::ref
