// A step of one token is launches and latency: products norm and quantize their token themselves. Every block of a
// product does it again, which costs less than a launch while the row is short. GPUs alone (kTile8): there a launch is
// a kernel.
//
//   linear(norm_quantize(x, n), w)        ->  norm_linear(x, n, w)                 also merged_linear, gated_linear
//   linear(quantize(x), w)                ->  quantize_linear(x, w)                also linear_add
//   quantize(norm_gated_linear(...))      ->  norm_gated_linear_quantize(...)
//   rope_kv_write(norm_merged_linear(...))  ->  norm_qkv_rope_kv_write(...)
#include <algorithm>

#include "compiler/passes/passes.h"

namespace ll {
namespace {

using ir::Graph;
using ir::Op;
using ir::OpId;
using ir::Value;

// Longest rows that every block quantizes again: 4 bytes a value then come from L2 for each block instead of 1.25. A
// normed row is as wide as the model, and its two kernels less are worth more.
constexpr int64_t kLongestPlain = 4096, kLongestNormed = 8192;
// Most rows of a normed product: beside the weights of an LM head two launches are nothing, and its many blocks, which
// all norm the row again, are not.
constexpr int64_t kMostRows = 65536;

bool is_one_row(const Graph& g, Value v) { return g.type(v).dim(0).value == 1; }

bool is_tile8(const Graph& g, const Op& product) {
  return std::all_of(product.operands.begin(), product.operands.end(), [&](Value v) {
    const TensorType& t = g.type(v);
    return !g.def(v).is("weight") || t.rank != 2 || t.layout == Layout::kTile8;
  });
}

std::string_view normed(const Op& product) {
  if (product.is("linear")) return "norm_linear";
  if (product.is("merged_linear")) return "norm_merged_linear";
  if (product.is("gated_linear")) return "norm_gated_linear";
  return "";
}
std::string_view quantizing(const Op& product) {
  if (product.is("linear")) return "quantize_linear";
  if (product.is("linear_add")) return "quantize_linear_add";
  return "";
}

Result<bool> fuse_product(Graph& g, OpId root) {
  const Op& product = g.op(root);
  const Value q = product.operands[0];
  const Op& quantize = g.def(q);
  const bool norm = quantize.is("norm_quantize");
  if ((!norm && !quantize.is("quantize")) || !used_once(g, q) || !is_one_row(g, q) || !is_tile8(g, product))
    return false;
  if (g.type(q).last().value > (norm ? kLongestNormed : kLongestPlain)) return false;
  if (norm && g.type({root, 0}).last().value > kMostRows) return false;
  // The kernel of a gated product quantizes what it gives.
  if (!norm &&
      (g.def(quantize.operands[0]).is("gated_linear") || g.def(quantize.operands[0]).is("norm_gated_linear"))) {
    return false;
  }
  const std::string_view name = norm ? normed(product) : quantizing(product);
  if (name.empty()) return false;
  std::vector<Value> operands = quantize.operands;
  operands.insert(operands.end(), product.operands.begin() + 1, product.operands.end());
  ir::Attributes attrs = product.attrs;
  if (norm) attrs.set({"eps", quantize.attrs.f64("eps")});
  TRY_ASSIGN(const Value fused, g.insert(root, name, std::move(operands), std::move(attrs)));
  ir::replace(g, root, fused);
  return true;
}

Result<bool> fuse_quantize(Graph& g, OpId root) {
  const Value y = g.op(root).operands[0];
  if (!g.def(y).is("norm_gated_linear") || !used_once(g, y)) return false;
  const Op& gated = g.def(y);
  TRY_ASSIGN(const Value fused, g.insert(root, "norm_gated_linear_quantize", gated.operands, gated.attrs));
  ir::replace(g, root, fused);
  return true;
}

// The three products are those of q, k and v, heads whole.
Result<bool> fuse_rope(Graph& g, OpId root) {
  const Op& rope = g.op(root);
  const Value qkv = rope.operands[1];
  const Op& product = g.def(qkv);
  if (!product.is("norm_merged_linear") || !used_once(g, qkv) || product.attrs.i64("parts") != 3) return false;
  const int64_t head_dim = rope.attrs.i64("head_dim"), kv_rows = rope.attrs.i64("kv_heads") * head_dim;
  const int64_t rows[] = {rope.attrs.i64("heads") * head_dim, kv_rows, kv_rows};
  // Blocks of 8 rows belong to one head.
  if (head_dim % 8 != 0) return false;
  for (size_t i = 0; i < 3; ++i) {
    if (g.type(product.operands[2 + i]).dim(0).value != rows[i]) return false;
  }
  std::vector<Value> operands(product.operands.begin(), product.operands.begin() + 5);
  operands.insert(operands.end(), {rope.operands[0], rope.operands[2], rope.operands[3], rope.operands[4]});
  operands.insert(operands.end(), product.operands.begin() + 5, product.operands.end());
  ir::Attributes attrs = rope.attrs;
  attrs.set({"eps", product.attrs.f64("eps")});
  const std::string names[] = {g.name({root, 0}), g.name({root, 1})};
  TRY_ASSIGN(const OpId fused, g.create(root, "norm_qkv_rope_kv_write", std::move(operands), std::move(attrs)));
  for (int32_t r = 0; r < 2; ++r) g.replace_all_uses({root, r}, {fused, r});
  g.erase(root);
  for (int32_t r = 0; r < 2; ++r) g.rename({fused, r}, names[r]);
  return true;
}

constexpr ir::Pattern kFuseActivationsPatterns[] = {{"fuse_linear", "linear", fuse_product},
                                                    {"fuse_merged_linear", "merged_linear", fuse_product},
                                                    {"fuse_gated_linear", "gated_linear", fuse_product},
                                                    {"fuse_linear_add", "linear_add", fuse_product},
                                                    {"fuse_quantize", "quantize", fuse_quantize},
                                                    {"fuse_rope", "rope_kv_write", fuse_rope}};

}  // namespace

Status fuse_activations(ir::Graph& graph, PassContext& context) {
  return ir::rewrite(graph, kFuseActivationsPatterns, &context.entry.rewrites);
}

}  // namespace ll
