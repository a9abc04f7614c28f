#include <cmath>

#include "kernels/check.h"
#include "kernels/quant/q8a.h"
#include "kernels/ref/ref.h"

namespace ll::ref {
namespace {

Status check_norm_inputs(const LaunchSpec& spec) {
  TRY(check::operands(spec, 2, 1));
  TRY(check::tensor(spec.in[0], "x", DType::kF32, 2));
  TRY(check::tensor(spec.in[1], "w", DType::kF32, 1));
  TRY(check::dim(spec.in[1], "w", 0, spec.in[0].last(), "row length of x"));
  TRY(check::number(spec.attrs, "eps", 0, check::kMaxEps));
  return {};
}

Status check_q8a_output(const LaunchSpec& spec) {
  const TensorType &x = spec.in[0], &y = spec.out[0];
  TRY(check::tensor(y, "y", y.dtype == DType::kQ8A256 ? DType::kQ8A256 : DType::kQ8A, 2));
  if (x.last().value % q8a_block(y.dtype) != 0) {
    return bad_data("'x' is {}, expected a row length that is a multiple of {}", check::describe(x),
                    q8a_block(y.dtype));
  }
  TRY(check::dim(y, "y", 0, x.dim(0), "rows of x"));
  return check::dim(y, "y", 1, x.last(), "row length of x");
}

void norm_row(const float* x, const float* w, int64_t size, double eps, float* y) {
  double squares = 0;
  for (int64_t d = 0; d < size; ++d) squares += static_cast<double>(x[d]) * x[d];
  const double factor = 1 / std::sqrt(squares / static_cast<double>(size) + eps);
  for (int64_t d = 0; d < size; ++d) y[d] = static_cast<float>(x[d] * factor * w[d]);
}

}  // namespace

Status check_rms_norm(const LaunchSpec& spec) {
  TRY(check_norm_inputs(spec));
  return check::same(spec.out[0], "y", spec.in[0], "x");
}

Cost cost_rms_norm(const LaunchSpec& spec) {
  return {cost::all_bytes(spec), cost::product({4, spec.in[0].dim(0).value, spec.in[0].last().value})};
}

void rms_norm(const KernelCall& call) {
  const TensorView &x = call.in[0], &y = call.out[0];
  const float* w = reinterpret_cast<const float*>(call.in[1].data);
  const double eps = call.attrs.f64("eps");
  const Range rows = split(x.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) norm_row(x.row<float>(t), w, x.last(), eps, y.row<float>(t));
}

Status check_quantize(const LaunchSpec& spec) {
  TRY(check::operands(spec, 1, 1));
  TRY(check::tensor(spec.in[0], "x", DType::kF32, 2));
  return check_q8a_output(spec);
}

Cost cost_quantize(const LaunchSpec& spec) {
  return {cost::all_bytes(spec), cost::product({2, spec.in[0].dim(0).value, spec.in[0].last().value})};
}

void quantize(const KernelCall& call) {
  const TensorView &x = call.in[0], &y = call.out[0];
  const Range rows = split(x.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    q8a_quantize_row(y.dtype, x.row<float>(t), x.last(), y.row<std::byte>(t));
  }
}

Status check_norm_quantize(const LaunchSpec& spec) {
  TRY(check_norm_inputs(spec));
  return check_q8a_output(spec);
}

uint64_t scratch_norm_quantize(const LaunchSpec& spec) { return cost::product({4, spec.in[0].last().value}); }

Cost cost_norm_quantize(const LaunchSpec& spec) {
  return {cost::all_bytes(spec), cost::product({6, spec.in[0].dim(0).value, spec.in[0].last().value})};
}

void norm_quantize(const KernelCall& call) {
  const TensorView &x = call.in[0], &y = call.out[0];
  const float* w = reinterpret_cast<const float*>(call.in[1].data);
  const double eps = call.attrs.f64("eps");
  float* normed = reinterpret_cast<float*>(call.scratch.data());
  const Range rows = split(x.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    norm_row(x.row<float>(t), w, x.last(), eps, normed);
    q8a_quantize_row(y.dtype, normed, x.last(), y.row<std::byte>(t));
  }
}

}  // namespace ll::ref
