// A norm that only feeds products leaves its kernel quantized: the f32 rows are never written.
//
//   quantize(rms_norm(x, w))  ->  norm_quantize(x, w)
#include "compiler/passes/passes.h"

namespace ll {
namespace {

using ir::Graph;
using ir::Op;
using ir::OpId;
using ir::Value;

Result<bool> fuse_norm_quantize_at(Graph& g, OpId root) {
  const Value x = g.op(root).operands[0];
  // With another reader the norm would be computed twice.
  if (!g.def(x).is("rms_norm") || !used_once(g, x)) return false;
  const Op& norm = g.def(x);
  ir::Attributes attrs = norm.attrs;
  attrs.set({"block", g.op(root).attrs.i64("block")});
  TRY_ASSIGN(const Value fused, g.insert(root, "norm_quantize", norm.operands, std::move(attrs)));
  ir::replace(g, root, fused);
  return true;
}

constexpr ir::Pattern kFuseNormQuantizePatterns[] = {{"fuse_norm_quantize", "quantize", fuse_norm_quantize_at}};

}  // namespace

Status fuse_norm_quantize(Graph& graph, PassContext& context) {
  return ir::rewrite(graph, kFuseNormQuantizePatterns, &context.entry.rewrites);
}

}  // namespace ll
