// Folds what needs no computing: views of views, no-op steps, equal ops, ops nobody reads.
#include <algorithm>

#include "compiler/passes/passes.h"
#include "ir/text.h"

namespace ll {
namespace {

using ir::Graph;
using ir::Op;
using ir::OpId;
using ir::Value;

// slice(x, 0, columns of x) -> x
Result<bool> whole_slice(Graph& g, OpId root) {
  const Value x = g.op(root).operands[0];
  if (!(g.type(x) == g.type({root, 0}))) return false;
  if (g.result() == Value{root, 0}) return false;
  g.replace_all_uses({root, 0}, x);
  return true;
}

// slice(slice(x, a, m), b, n) -> slice(x, a + b, n)
Result<bool> nested_slice(Graph& g, OpId root) {
  const Op& op = g.op(root);
  const Op& inner = g.def(op.operands[0]);
  if (!inner.is("slice")) return false;
  const int64_t start = inner.attrs.i64("start") + op.attrs.i64("start");
  const Value x = inner.operands[0];
  g.set_attr(root, {"start", start});
  g.set_operand(root, 0, x);
  return true;
}

// relu(relu(x)) -> relu(x)
Result<bool> repeated_relu(Graph& g, OpId root) {
  const Op& op = g.op(root);
  const Op& inner = g.def(op.operands[0]);
  if (op.attrs.text("act") != "relu" || !inner.is("activation") || inner.attrs.text("act") != "relu") return false;
  g.replace_all_uses({root, 0}, op.operands[0]);
  return true;
}

// linear(x, w, 0) -> linear(x, w)
Result<bool> zero_bias(Graph& g, OpId root) {
  const Op& op = g.op(root);
  if (op.operands.size() != 3 || !g.def(op.operands[2]).is("constant")) return false;
  const auto& values = *std::get_if<std::vector<float>>(g.def(op.operands[2]).attrs.find("values"));
  if (!std::all_of(values.begin(), values.end(), [](float f) { return f == 0; })) return false;
  TRY_ASSIGN(const Value plain, g.insert(root, "linear", {op.operands[0], op.operands[1]}));
  ir::replace(g, root, plain);
  return true;
}

constexpr ir::Pattern kFoldPatterns[] = {{"nested_slice", "slice", nested_slice},
                                         {"whole_slice", "slice", whole_slice},
                                         {"repeated_relu", "activation", repeated_relu},
                                         {"zero_bias", "linear", zero_bias}};

// Of ops with equal kind, operands, attributes and types the first one serves all. Caches and their writes stay: each
// is one by the verifier's rules.
int64_t merge_equal(Graph& g) {
  std::map<std::string, OpId> first;
  int64_t merged = 0;
  for (const OpId id : g.order()) {
    const Op& op = g.op(id);
    if (std::any_of(op.results.begin(), op.results.end(), [](const auto& r) { return r.type.rank == 4; })) continue;
    std::string key(op.kind());
    for (const Value v : op.operands) key += fmt::format(" {}.{}", v.op, v.result);
    for (const auto& [name, value] : op.attrs.all()) key += fmt::format(" {}={}", name, ir::attribute_text(value));
    for (const auto& r : op.results) key += " " + ir::type_text(r.type);
    const auto [same, fresh] = first.emplace(std::move(key), id);
    if (fresh) continue;
    for (int32_t r = 0; r < static_cast<int32_t>(op.results.size()); ++r)
      g.replace_all_uses({id, r}, {same->second, r});
    g.erase(id);
    ++merged;
  }
  return merged;
}

}  // namespace

Status fold(Graph& graph, PassContext& context) {
  auto& counts = context.entry.rewrites;
  counts["dead"] += ir::erase_dead(graph);
  TRY(ir::rewrite(graph, kFoldPatterns, &counts));
  counts["equal"] += merge_equal(graph);
  return {};
}

}  // namespace ll
