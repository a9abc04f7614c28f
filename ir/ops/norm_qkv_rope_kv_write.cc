#include "ir/ops.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/q8a.h"

namespace ll::ir {
namespace {

constexpr size_t kWeights = 2, kCache = 5, kPositions = 6, kFrequencies = 8, kBiases = 9;

Status infer_norm_qkv_rope_kv_write(const OpSpec& s, std::vector<TensorType>& results) {
  const int64_t heads = s.attrs.i64("heads"), kv_heads = s.attrs.i64("kv_heads"), head_dim = s.attrs.i64("head_dim");
  const TensorType &x = s.in(0), &kv = s.in(kCache);
  TRY(check_vector(s, 1, x.last().value));
  if (x.last().value % kQ8aGroup != 0) return expected(s, 0, "columns in blocks of {}", kQ8aGroup);
  if (s.count() != kBiases && s.count() != kBiases + 3) {
    return bad_data("norm_qkv_rope_kv_write: {} operands, expected 9 or, with all biases, 12", s.count());
  }
  const int64_t rows[] = {heads * head_dim, kv_heads * head_dim, kv_heads * head_dim};
  for (size_t i = 0; i < 3; ++i) {
    TRY(check_product(s, 0, kWeights + i));
    const TensorType& w = s.in(kWeights + i);
    if (!is_quantized_dtype(w.dtype)) return expected(s, kWeights + i, "a quantized weight");
    if (w.dim(0).value != rows[i]) return expected(s, kWeights + i, "[{},k], heads of {}", rows[i], head_dim);
    if (s.count() > kBiases) TRY(check_vector(s, kBiases + i, rows[i]));
  }
  if (!(kv.dim(1) == Dim(2 * kv_heads)) || !(kv.dim(3) == Dim(head_dim))) {
    return expected(s, kCache, "kv [{},{}]", kv_heads, head_dim);
  }
  if (!(s.in(kPositions).dim(0) == x.dim(0))) {
    return expected(s, 0, "rows as many as positions, {}", type_text(s.in(kPositions)));
  }
  if (2 * s.in(kFrequencies).last().value > head_dim) {
    return expected(s, kFrequencies, "f32[n] with n at most half of head_dim {}", head_dim);
  }
  TensorType q = matrix(DType::kF32, 0, heads * head_dim);
  q.dims[0] = x.dim(0);
  results.push_back(q);
  results.push_back(kv);
  return {};
}

constexpr OperandDef kNormQkvRopeKvWriteOperands[] = {{"x", Role::kActivation},
                                                      {"norm", Role::kVector},
                                                      {"w_q", Role::kMatrix},
                                                      {"w_k", Role::kMatrix},
                                                      {"w_v", Role::kMatrix},
                                                      {"kv", Role::kCache},
                                                      {"positions", Role::kStepInput},
                                                      {"slots", Role::kStepInput},
                                                      {"inv_freq", Role::kVector},
                                                      {"bias_q", Role::kVector, Count::kOptional},
                                                      {"bias_k", Role::kVector, Count::kOptional},
                                                      {"bias_v", Role::kVector, Count::kOptional}};
constexpr AttrDef kNormQkvRopeKvWriteAttrs[] = {{"eps", AttrKind::kNumber},
                                                {"heads", AttrKind::kInteger, 1, 65536},
                                                {"kv_heads", AttrKind::kInteger, 1, 65536},
                                                {"head_dim", AttrKind::kInteger, 1, 65536},
                                                {.name = "style", .kind = AttrKind::kText, .choices = kRopeStyles},
                                                {"mscale", AttrKind::kNumber}};

}  // namespace

namespace op_rows {
extern constinit const OpDef norm_qkv_rope_kv_write{
    "norm_qkv_rope_kv_write",
    "x f32[T,K], norm f32[K], w_q, w_k, w_v, kv, positions, slots, inv_freq, optional biases -> q f32[T,H*Dh], kv: "
    "rope_kv_write of norm_merged_linear",
    kNormQkvRopeKvWriteOperands,
    kNormQkvRopeKvWriteAttrs,
    2,
    infer_norm_qkv_rope_kv_write};
}
}  // namespace ll::ir
