#include <algorithm>

#include "kernels/check.h"
#include "kernels/quant/layouts.h"
#include "kernels/quant/q8a.h"
#include "kernels/ref/linear.h"

namespace ll {
namespace {

// A weight [N, K] in its layout. `k` is the length that x asks for.
Status check_weight(const TensorType& w, std::string_view name, int64_t k, bool q8) {
  if (w.rank != 2 || !is_weight_dtype(w.dtype) || !has_layout(w.dtype, w.layout)) {
    return bad_data("'{}' is {}, expected a weight of rank 2", name, check::describe(w));
  }
  if (q8 && w.layout == Layout::kRows) {
    return bad_data("'{}' is {}, expected a quantized weight in layout x16 or tile8", name, check::describe(w));
  }
  for (int i = 0; i < 2; ++i) {
    const Dim d = w.dim(i);
    if (d.symbol != Symbol::kNone || d.value < 1 || d.value > check::kMaxDim) {
      return bad_data("'{}' is {}, expected dimensions of 1 to {}", name, check::describe(w), check::kMaxDim);
    }
  }
  if (w.dim(1).value != k) return bad_data("'{}' is {}, expected rows of {}", name, check::describe(w), k);
  if (!tensor_bytes(w.dtype, w.layout, w.dim(0).value, k)) {
    return bad_data("'{}' is {}, expected rows of whole blocks of {}", name, check::describe(w),
                    find_format(w.dtype)->block_elements);
  }
  return {};
}

// CPUs add up 256 products of a format's block as one integer, for which x has one scale; GPUs do not.
Status check_activations(const TensorType& x, const TensorType& w, std::string_view name) {
  const bool whole_blocks = w.layout == Layout::kX16 && q8a_for_x16(w.dtype) == DType::kQ8A256;
  const bool wrong = x.dtype == DType::kQ8A256 ? w.layout == Layout::kTile8 : whole_blocks;
  if (!wrong) return {};
  return bad_data("'x' is {}, expected {} as '{}' is {}", check::describe(x), whole_blocks ? "q8a256" : "q8a", name,
                  check::describe(w));
}

Status check_vector(const TensorType& bias, std::string_view name, const Dim& n) {
  TRY(check::tensor(bias, name, DType::kF32, 1));
  return check::dim(bias, name, 0, n, "rows of the weight");
}

uint64_t weight_bytes(const TensorType& w) {
  return static_cast<uint64_t>(*tensor_bytes(w.dtype, w.layout, w.dim(0).value, w.dim(1).value));
}

}  // namespace

LinearRoles linear_roles(LinearForm form, size_t inputs, const Attrs& attrs) {
  size_t weights = 1, residual = 0;
  if (form == LinearForm::kAdd) residual = 2;
  if (form == LinearForm::kGated) weights = 2;
  if (form == LinearForm::kMerged) weights = static_cast<size_t>(attrs.i64("parts"));
  const size_t plain = 1 + weights + (residual > 0 ? 1 : 0);
  return {weights, inputs > plain ? plain : 0, residual};
}

namespace ref {

Status check_linear(const LaunchSpec& spec, LinearForm form, bool q8) {
  if (form == LinearForm::kGated) TRY(check::word(spec.attrs, "act", {"silu", "gelu", "gelu_tanh", "relu"}));
  if (form == LinearForm::kMerged) TRY(check::integer(spec.attrs, "parts", 1, kMaxParts));
  const LinearRoles roles = linear_roles(form, spec.in.size(), spec.attrs);
  const size_t plain = 1 + roles.weights + (roles.residual > 0 ? 1 : 0), all = plain + roles.weights;
  if (spec.in.size() != plain && spec.in.size() != all) {
    return bad_data("{} inputs, expected {} or, with biases, {}", spec.in.size(), plain, all);
  }
  if (spec.out.size() != 1) return bad_data("{} outputs, expected 1", spec.out.size());
  const TensorType &x = spec.in[0], &y = spec.out[0];
  const DType x_dtype = !q8 ? DType::kF32 : x.dtype == DType::kQ8A256 ? DType::kQ8A256 : DType::kQ8A;
  TRY(check::tensor(x, "x", x_dtype, 2));
  TRY(check::tensor(y, "y", DType::kF32, 2));
  TRY(check::dim(y, "y", 0, x.dim(0), "rows of x"));
  const int64_t k = x.last().value;
  if (q8 && k % q8a_block(x_dtype) != 0) {
    return bad_data("'x' is {}, expected rows of a multiple of {}", check::describe(x), q8a_block(x_dtype));
  }

  int64_t n = 0;
  for (size_t i = 0; i < roles.weights; ++i) {
    const std::string name = roles.weights == 1 ? "w" : fmt::format("w{}", i + 1);
    const TensorType& w = spec.in[1 + i];
    TRY(check_weight(w, name, k, q8));
    if (q8) TRY(check_activations(x, w, name));
    if (roles.bias > 0) TRY(check_vector(spec.in[roles.bias + i], "bias of " + name, w.dim(0)));
    n += w.dim(0).value;
  }
  if (form == LinearForm::kGated) {
    n /= 2;
    TRY(check::dim(spec.in[2], "w2", 0, spec.in[1].dim(0), "rows of w1"));
  }
  TRY(check::dim(y, "y", 1, n, "rows of the weights"));
  if (form == LinearForm::kAdd) TRY(check::same(spec.in[2], "residual", y, "y"));
  return {};
}

uint64_t scratch_linear(const LaunchSpec& spec) {
  const auto k = static_cast<uint64_t>(spec.in[0].last().value);
  const TensorType& x = spec.in[0];
  // Gate and up of two types; of merged weights one comes after the other.
  const bool differ = spec.in.size() > 2 && spec.in[2].layout == Layout::kX16 && spec.in[1].dtype != spec.in[2].dtype;
  int64_t bytes = linear_scratch_bytes(x.dim(0).value, static_cast<int64_t>(k), is_q8a(x.dtype), differ ? 2 : 1);
  const bool bf16 = std::any_of(spec.in.begin(), spec.in.end(), [](const auto& t) { return t.dtype == DType::kBF16; });
  if (bf16 && x.dtype == DType::kF32) bytes += linear_bf16_bytes(x.dim(0).value, x.last().value);
  // Scalar: two weight rows as f64, one as f32, and a block of tokens as f32.
  return std::max<uint64_t>(k * (2 * 8 + 4 + 4 * kTokenBlock), static_cast<uint64_t>(bytes));
}

Cost cost_linear(const LaunchSpec& spec, LinearForm form) {
  const TensorType &x = spec.in[0], &y = spec.out[0];
  const LinearRoles roles = linear_roles(form, spec.in.size(), spec.attrs);
  Cost cost{cost::bytes(x) + cost::bytes(y), 0};
  for (size_t i = 1; i < spec.in.size(); ++i) {
    const TensorType& operand = spec.in[i];
    if (i > roles.weights) {
      cost.bytes += cost::bytes(operand);
      continue;
    }
    cost.bytes += weight_bytes(operand);
    cost.operations += cost::product({2, x.dim(0).value, operand.dim(0).value, x.last().value});
  }
  return cost;
}

Status check_embed(const LaunchSpec& spec) {
  TRY(check::operands(spec, 2, 1));
  const TensorType &table = spec.in[0], &tokens = spec.in[1], &y = spec.out[0];
  TRY(check::tensor(y, "y", DType::kF32, 2));
  TRY(check_weight(table, "table", y.last().value, false));
  TRY(check::tensor(tokens, "tokens", DType::kI32, 1));
  return check::dim(y, "y", 0, tokens.dim(0), "number of tokens");
}

Cost cost_embed(const LaunchSpec& spec) {
  const TensorType& y = spec.out[0];
  const auto row = static_cast<uint64_t>(row_bytes(spec.in[0].dtype, y.last().value));
  return {static_cast<uint64_t>(y.dim(0).value) * row + cost::bytes(spec.in[1]) + cost::bytes(y),
          cost::product({y.dim(0).value, y.last().value})};
}

}  // namespace ref
}  // namespace ll
