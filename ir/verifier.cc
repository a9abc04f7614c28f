#include "ir/verifier.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "ir/ops.h"
#include "ir/text.h"

namespace ll::ir {
namespace {

constexpr size_t kShownLine = 240;

class Verifier {
 public:
  explicit Verifier(const Graph& g) : g_(g), seen_(g.id_limit(), false) {}

  Status run() {
    TRY(module());
    if (g_.size() > static_cast<size_t>(kMaxOps)) return bad_data("{} ops, expected at most {}", g_.size(), kMaxOps);
    for (OpId id = g_.first(); id != kNoOp; id = g_.next(id)) {
      if (Status s = op(id); !s) {
        std::string line = print_op(g_, id);
        if (line.size() > kShownLine) line = line.substr(0, kShownLine) + "...";
        return bad_data("{} (in {})", s.error().message, line);
      }
      seen_[static_cast<size_t>(id)] = true;
    }
    for (const auto& [index, cache] : caches_) TRY(written_once(index, cache));
    return result();
  }

 private:
  Status module() {
    for (const auto& [key, value] : g_.module.all()) {
      const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
      const bool word =
          !key.empty() && key.size() <= kMaxNameLength && letter(key[0]) &&
          std::all_of(key.begin(), key.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
      if (!word) return bad_data("module: attribute '{}' is no identifier", key);
      bool finite = true, empty = false;
      if (const auto* f = std::get_if<double>(&value)) finite = std::isfinite(*f);
      if (const auto* list = std::get_if<std::vector<float>>(&value)) {
        finite = std::all_of(list->begin(), list->end(), [](float f) { return std::isfinite(f); });
        empty = list->empty();
      }
      if (const auto* list = std::get_if<std::vector<int64_t>>(&value)) empty = list->empty();
      if (!finite) return bad_data("module: attribute {} is not finite", key);
      if (empty) return bad_data("module: attribute {} is an empty list, expected at least one element", key);
    }
    return {};
  }

  Status op(OpId id) {
    const Op& op = g_.op(id);
    for (const Value v : op.operands) {
      if (!g_.alive(v.op) || static_cast<size_t>(v.result) >= g_.op(v.op).results.size()) {
        return bad_data("{}: an operand is not a value of the graph", op.kind());
      }
      if (!seen_[static_cast<size_t>(v.op)])
        return bad_data("{}: %{} is not defined before its use", op.kind(), g_.name(v));
    }
    for (int32_t r = 0; r < static_cast<int32_t>(op.results.size()); ++r) {
      if (!(g_.find(op.results[static_cast<size_t>(r)].name) == Value{id, r})) {
        return bad_data("{}: the name %{} is not its own", op.kind(), op.results[static_cast<size_t>(r)].name);
      }
    }
    TRY(types(op));
    TRY(bounds(op));
    if (op.is("weight")) return weight(op);
    if (op.is("kv_cache")) return cache(id);
    if (op.is("embed")) return embed(op);
    if (op.is("attention") && g_.def(op.operands[1]).is("kv_cache")) {
      return bad_data(
          "attention: reads %{} before this step's keys and values are written, expected what kv_write returns",
          g_.name(op.operands[1]));
    }
    return {};
  }

  Status types(const Op& op) {
    std::vector<TensorType> stored;
    for (const OpResult& r : op.results) stored.push_back(r.type);
    const bool declared = op.def->declares || op.is("input");
    Attributes attrs = op.attrs;
    auto inferred = infer(g_, *op.def, op.operands, attrs, declared ? stored : std::vector<TensorType>{});
    if (!inferred) return std::move(inferred).error();
    if (attrs != op.attrs) return bad_data("{}: an integer is given where a number is expected", op.kind());
    for (size_t i = 0; i < stored.size(); ++i) {
      if (identical(stored[i], (*inferred)[i])) continue;
      return bad_data("{}: %{} is {}, expected {}", op.kind(), op.results[i].name, type_text(stored[i]),
                      type_text((*inferred)[i]));
    }
    return {};
  }

  Status bounds(const Op& op) {
    for (const OpResult& r : op.results) {
      for (int i = 0; i < r.type.rank; ++i) {
        const Dim d = r.type.dim(i);
        if (d.symbol == Symbol::kNone) continue;
        const auto [first, fresh] = bounds_.emplace(d.symbol, d.value);
        if (fresh || first->second == d.value) continue;
        return bad_data("{}: %{} is {}, expected the bound {} that other values have", op.kind(), r.name,
                        type_text(r.type), first->second);
      }
    }
    return {};
  }

  Status weight(const Op& op) {
    const auto [first, fresh] = weights_.emplace(op.attrs.text("name"), &op.results[0]);
    if (!fresh && !identical(first->second->type, op.results[0].type)) {
      return bad_data("weight: \"{}\" is declared as {} and as {}", op.attrs.text("name"),
                      type_text(first->second->type), type_text(op.results[0].type));
    }
    return {};
  }

  Status cache(OpId id) {
    const int64_t index = g_.op(id).attrs.i64("index");
    if (!caches_.emplace(index, id).second) return bad_data("kv_cache: index {} is declared twice", index);
    return {};
  }

  Status embed(const Op& op) {
    const int64_t rows = g_.type(op.operands[0]).dim(0).value, vocabulary = g_.module.i64("vocab_size", 0);
    if (rows < vocabulary)
      return bad_data("embed: the table has {} rows, expected at least vocab_size {}", rows, vocabulary);
    return {};
  }

  Status written_once(int64_t index, OpId cache) {
    int64_t writes = 0;
    for (const Use use : g_.uses({cache, 0})) {
      if (use.op == kNoOp) return bad_data("kv_cache {} is returned, expected logits f32[R,V]", index);
      writes += g_.op(use.op).results.size() > 0 && is_write(g_.op(use.op));
    }
    if (writes == 0) return bad_data("kv_cache {} is never written", index);
    if (writes > 1) return bad_data("kv_cache {} is written twice; declare another kv_cache", index);
    const OpId write = g_.uses({cache, 0})[0].op;
    const Value after{write, static_cast<int32_t>(g_.op(write).results.size()) - 1};
    for (const Use use : g_.uses(after)) {
      if (use.op != kNoOp && is_write(g_.op(use.op))) {
        return bad_data("kv_cache {} is written twice; declare another kv_cache", index);
      }
    }
    return {};
  }
  // kv_write and its fused forms: a cache goes in and comes out last.
  bool is_write(const Op& op) const {
    const auto is_cache = [&](Value v) { return is_kv(g_.type(v)); };
    return std::any_of(op.operands.begin(), op.operands.end(), is_cache) && is_kv(op.results.back().type);
  }

  Status result() {
    const Value v = g_.result();
    if (!v || !g_.alive(v.op)) return bad_data("the graph returns nothing, expected logits f32[R,V]");
    const TensorType& t = g_.type(v);
    if (t.dtype != DType::kF32 || t.rank != 2 || t.dim(0).symbol != Symbol::kR) {
      return bad_data("the graph returns %{}, {}, expected logits f32[R,V]", g_.name(v), type_text(t));
    }
    if (g_.def(v).is("slice")) return bad_data("the graph returns %{}, a slice, expected a computed value", g_.name(v));
    const Attribute* vocabulary = g_.module.find("vocab_size");
    if (vocabulary != nullptr && t.last().value != g_.module.i64("vocab_size", -1)) {
      return bad_data("the graph returns %{}, {}, expected [R,{}] (vocab_size)", g_.name(v), type_text(t),
                      attribute_text(*vocabulary));
    }
    return {};
  }

  const Graph& g_;
  std::vector<bool> seen_;
  std::map<std::string_view, const OpResult*> weights_;
  std::map<int64_t, OpId> caches_;
  std::map<Symbol, int64_t> bounds_;  // of T, R and S; 0 while not known
};

}  // namespace

Status verify(const Graph& graph) { return Verifier(graph).run(); }

}  // namespace ll::ir
