// Products that make their own quantized activations: a row at a time, through the kernels they stand for.
#include <array>
#include <vector>

#include "kernels/check.h"
#include "kernels/quant/q8a.h"
#include "kernels/ref/linear.h"
#include "kernels/ref/ref.h"

namespace ll::ref {
namespace {

// The launch of the product alone, x quantized and y f32.
struct ProductSpec {
  ProductSpec(const LaunchSpec& spec, bool norm)
      : in(spec.in.begin(), spec.in.end()), out(spec.out.begin(), spec.out.end()) {
    if (norm) in.erase(in.begin() + 1);
    in[0].dtype = DType::kQ8A;
    out[0].dtype = DType::kF32;
    view = {in, out, spec.attrs};
  }
  std::vector<TensorType> in, out;
  LaunchSpec view;
};

constexpr size_t kMostInputs = 2 * kMaxParts + 2;

TensorView row_of(const TensorView& v, int64_t t) {
  TensorView row = v;
  row.data += t * v.row_bytes;
  row.dims[0] = 1;
  return row;
}

}  // namespace

Status check_quantizing(const LaunchSpec& spec, LinearForm form, bool norm, bool to_q8a) {
  const size_t least = norm ? 3 : 2;
  if (spec.in.size() < least) return bad_data("{} inputs, expected at least {}", spec.in.size(), least);
  if (spec.out.size() != 1) return bad_data("{} outputs, expected 1", spec.out.size());
  const TensorType &x = spec.in[0], &y = spec.out[0];
  TRY(check::tensor(x, "x", DType::kF32, 2));
  if (norm) {
    TRY(check::tensor(spec.in[1], "norm", DType::kF32, 1));
    TRY(check::dim(spec.in[1], "norm", 0, x.last(), "row length of x"));
    TRY(check::number(spec.attrs, "eps", 0, check::kMaxEps));
  }
  TRY(check::tensor(y, "y", to_q8a ? DType::kQ8A : DType::kF32, 2));
  if (to_q8a && y.last().value % kQ8aGroup != 0) {
    return bad_data("'y' is {}, expected a row length that is a multiple of {}", check::describe(y), kQ8aGroup);
  }
  return check_linear(ProductSpec(spec, norm).view, form, true);
}

uint64_t scratch_quantizing(const LaunchSpec& spec) {
  const int64_t k = spec.in[0].last().value;
  // x quantized, x normed, y as f32, then the product's own.
  return static_cast<uint64_t>(aligned(q8a_row_bytes(k)) + aligned(4 * k) + aligned(4 * spec.out[0].last().value)) +
         scratch_linear(spec);
}

Cost cost_quantizing(const LaunchSpec& spec, LinearForm form, bool norm) {
  const TensorType& x = spec.in[0];
  Cost cost = cost_linear(ProductSpec(spec, norm).view, form);
  cost.bytes += cost::bytes(x) - cost::bytes(ProductSpec(spec, norm).in[0]);
  if (norm) cost.bytes += cost::bytes(spec.in[1]);
  cost.operations += cost::product({norm ? 6 : 2, x.dim(0).value, x.last().value});
  return cost;
}

void quantizing(const KernelCall& call, LinearForm form, bool norm) {
  const TensorView &x = call.in[0], &y = call.out[0];
  const int64_t k = x.last(), n = y.last();
  const bool to_q8a = y.dtype == DType::kQ8A;
  std::byte* const codes = call.scratch.data();
  std::byte* const normed = codes + aligned(q8a_row_bytes(k));
  std::byte* const sums = normed + aligned(4 * k);
  const std::span<std::byte> product_scratch =
      call.scratch.subspan(static_cast<size_t>(sums + aligned(4 * n) - call.scratch.data()));

  std::array<TensorView, kMostInputs> in;
  const size_t shift = norm ? 1 : 0, inputs = call.in.size() - shift;
  for (size_t i = 1; i < inputs; ++i) in[i] = call.in[i + shift];
  const LinearRoles roles = linear_roles(form, inputs, call.attrs);
  const Range rows = split(x.dim(0), 1, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    const TensorView one = row_of(x, t);
    TensorView quantized = one;
    quantized.data = codes;
    quantized.row_bytes = q8a_row_bytes(k);
    quantized.dtype = DType::kQ8A;
    if (norm) {
      const TensorView norm_in[] = {one, call.in[1]};
      norm_quantize({norm_in, {&quantized, 1}, call.attrs, 0, 1, {normed, static_cast<size_t>(4 * k)}});
    } else {
      quantize({{&one, 1}, {&quantized, 1}, call.attrs, 0, 1, {}});
    }
    in[0] = quantized;
    if (roles.residual > 0) in[roles.residual] = row_of(call.in[roles.residual + shift], t);
    TensorView out = row_of(y, t);
    if (to_q8a) {
      out.data = sums;
      out.row_bytes = 4 * n;
      out.dtype = DType::kF32;
    }
    linear({{in.data(), inputs}, {&out, 1}, call.attrs, 0, 1, product_scratch}, form);
    if (to_q8a) q8a_quantize_row(DType::kQ8A, reinterpret_cast<const float*>(sums), n, row_of(y, t).data);
  }
}

}  // namespace ll::ref
