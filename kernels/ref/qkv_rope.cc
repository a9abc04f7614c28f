// norm_qkv_rope_kv_write: norm_merged_linear of three weights, whose rows rope_kv_write takes.
#include <array>
#include <vector>

#include "kernels/check.h"
#include "kernels/ref/linear.h"
#include "kernels/ref/ref.h"

namespace ll::ref {
namespace {

constexpr size_t kWeights = 2, kCache = 5, kPositions = 6, kSlots = 7, kFrequencies = 8, kBiases = 9;

std::vector<Attr> with_parts(const Attrs& attrs) {
  std::vector<Attr> all(attrs.all().begin(), attrs.all().end());
  all.push_back({"parts", int64_t{3}});
  return all;
}

TensorType qkv_type(const LaunchSpec& spec) {
  TensorType t = spec.in[0];
  t.dims[1] =
      Dim(spec.in[kWeights].dim(0).value + spec.in[kWeights + 1].dim(0).value + spec.in[kWeights + 2].dim(0).value);
  return t;
}

// The two launches that the kernel stands for.
struct QkvSpec {
  explicit QkvSpec(const LaunchSpec& spec)
      : in(spec.in.begin(), spec.in.begin() + kCache), out{qkv_type(spec)}, attrs(with_parts(spec.attrs)) {
    in.insert(in.end(), spec.in.begin() + kBiases, spec.in.end());
  }
  LaunchSpec view() const { return {in, out, Attrs(attrs)}; }
  std::vector<TensorType> in, out;
  std::vector<Attr> attrs;
};
struct RopeSpec {
  explicit RopeSpec(const LaunchSpec& spec)
      : in{spec.in[kCache], qkv_type(spec), spec.in[kPositions], spec.in[kSlots], spec.in[kFrequencies]}, whole(spec) {}
  LaunchSpec view() const { return {in, whole.out, whole.attrs}; }
  std::vector<TensorType> in;
  const LaunchSpec& whole;
};

}  // namespace

Status check_norm_qkv_rope_kv_write(const LaunchSpec& spec) {
  if (spec.in.size() != kBiases && spec.in.size() != kBiases + 3) {
    return bad_data("{} inputs, expected {} or, with biases, {}", spec.in.size(), kBiases, kBiases + 3);
  }
  if (spec.out.size() != 2) return bad_data("{} outputs, expected 2", spec.out.size());
  TRY_ASSIGN(const check::Heads h, check::heads(spec.attrs));
  TRY(check::tensor(spec.in[0], "x", DType::kF32, 2));
  const int64_t rows[] = {h.heads * h.head_dim, h.kv_heads * h.head_dim, h.kv_heads * h.head_dim};
  for (size_t i = 0; i < 3; ++i) {
    const TensorType& w = spec.in[kWeights + i];
    if (w.rank != 2 || w.dim(0).symbol != Symbol::kNone || w.dim(0).value != rows[i]) {
      return bad_data("weight {} is {}, expected {} rows", i + 1, check::describe(w), rows[i]);
    }
  }
  TRY(check_quantizing(QkvSpec(spec).view(), LinearForm::kMerged, true, false));
  return check_rope_kv_write(RopeSpec(spec).view());
}

uint64_t scratch_norm_qkv_rope_kv_write(const LaunchSpec& spec) {
  return static_cast<uint64_t>(aligned(4 * qkv_type(spec).last().value)) +
         std::max(scratch_quantizing(QkvSpec(spec).view()), scratch_rope_kv_write(RopeSpec(spec).view()));
}

Cost cost_norm_qkv_rope_kv_write(const LaunchSpec& spec) {
  const Cost product = cost_quantizing(QkvSpec(spec).view(), LinearForm::kMerged, true);
  const Cost rope = cost_rope_kv_write(RopeSpec(spec).view());
  return {product.bytes + rope.bytes - 2 * cost::bytes(qkv_type(spec)), product.operations + rope.operations};
}

void norm_qkv_rope_kv_write(const KernelCall& call) {
  const TensorView& x = call.in[0];
  const std::vector<Attr> attrs = with_parts(call.attrs);
  TensorView qkv = x;
  qkv.data = call.scratch.data();
  qkv.dims = {1, call.in[kWeights].dim(0) + call.in[kWeights + 1].dim(0) + call.in[kWeights + 2].dim(0)};
  qkv.row_bytes = 4 * qkv.last();
  const auto scratch = call.scratch.subspan(static_cast<size_t>(aligned(qkv.row_bytes)));
  std::vector<TensorView> product(call.in.begin(), call.in.begin() + kCache);
  product.insert(product.end(), call.in.begin() + kBiases, call.in.end());
  std::array<TensorView, 5> rope = {call.in[kCache], qkv, call.in[kPositions], call.in[kSlots], call.in[kFrequencies]};
  std::array<TensorView, 2> out = {call.out[0], call.out[1]};
  const auto row = [](const TensorView& v, int64_t t) {
    TensorView one = v;
    one.data += t * v.row_bytes;
    one.dims[0] = 1;
    return one;
  };
  const Range tokens = split(x.dim(0), 1, call.thread, call.threads);
  for (int64_t t = tokens.begin; t < tokens.end; ++t) {
    product[0] = row(x, t);
    quantizing({product, {&qkv, 1}, Attrs(attrs), 0, 1, scratch}, LinearForm::kMerged, true);
    rope[2] = row(call.in[kPositions], t);
    rope[3] = row(call.in[kSlots], t);
    out[0] = row(call.out[0], t);
    rope_kv_write({rope, out, call.attrs, 0, 1, scratch});
  }
}

}  // namespace ll::ref
