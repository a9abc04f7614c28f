#include "ir/graph.h"

#include <algorithm>
#include <cassert>

#include "ir/ops.h"

namespace ll::ir {

int64_t Attributes::i64(std::string_view key, int64_t missing) const {
  const Attribute* a = find(key);
  const auto* i = a != nullptr ? std::get_if<int64_t>(a) : nullptr;
  return i != nullptr ? *i : missing;
}

double Attributes::f64(std::string_view key, double missing) const {
  const Attribute* a = find(key);
  if (a == nullptr) return missing;
  if (const auto* f = std::get_if<double>(a)) return *f;
  if (const auto* i = std::get_if<int64_t>(a)) return static_cast<double>(*i);
  return missing;
}

std::string_view Attributes::text(std::string_view key, std::string_view missing) const {
  const Attribute* a = find(key);
  const auto* s = a != nullptr ? std::get_if<std::string>(a) : nullptr;
  return s != nullptr ? std::string_view(*s) : missing;
}

std::string_view Op::kind() const { return def->name; }

// ---- Building

Result<OpId> Graph::create(OpId before, std::string_view kind, std::vector<Value> operands, Attributes attrs,
                           std::span<const std::string> names, std::span<const TensorType> declared) {
  const OpDef* def = find_op(kind);
  if (def == nullptr) return bad_data("unknown op {}", kind);
  if (ops_.size() >= static_cast<size_t>(kMaxOps))
    return bad_data("{} ops, expected at most {}", ops_.size() + 1, kMaxOps);
  if (operands.size() > kMaxOperands) {
    return bad_data("{}: {} operands, expected at most {}", kind, operands.size(), kMaxOperands);
  }
  for (size_t i = 0; i < operands.size(); ++i) {
    const Value v = operands[i];
    if (!alive(v.op) || v.result < 0 || static_cast<size_t>(v.result) >= op(v.op).results.size()) {
      return bad_data("{}: operand {} is not a value of the graph", kind, i);
    }
  }
  TRY_ASSIGN(const std::vector<TensorType> types, infer(*this, *def, operands, attrs, declared));

  const OpId id = static_cast<OpId>(ops_.size());
  Op& created = ops_.emplace_back();
  created.def = def;
  created.operands = std::move(operands);
  created.attrs = std::move(attrs);
  for (size_t i = 0; i < types.size(); ++i) {
    const std::string name = fresh_name(i < names.size() ? std::string_view(names[i]) : std::string_view());
    names_.emplace(name, Value{id, static_cast<int32_t>(i)});
    created.results.push_back({types[i], name, {}});
  }
  for (size_t i = 0; i < created.operands.size(); ++i) {
    created.use_slots_.push_back(add_use(created.operands[i], Use{id, static_cast<int32_t>(i)}));
  }
  link_before(id, before);
  return id;
}

Result<Value> Graph::insert(OpId before, std::string_view kind, std::vector<Value> operands, Attributes attrs,
                            std::string_view name) {
  const std::string names[] = {std::string(name)};
  TRY_ASSIGN(const OpId id, create(before, kind, std::move(operands), std::move(attrs), names));
  return Value{id, 0};
}

Result<Value> Graph::add(std::string_view kind, std::vector<Value> operands, Attributes attrs, std::string_view name) {
  return insert(kNoOp, kind, std::move(operands), std::move(attrs), name);
}

Result<Value> Graph::input(std::string_view name) { return add("input", {}, {{"name", name}}, name); }

Result<Value> Graph::weight(std::string_view tensor_name, const TensorType& type, std::string_view name) {
  std::string hint(name);
  if (hint.empty()) {  // blk.0.attn_q.weight is %w.blk.0.attn_q
    std::string_view stem = tensor_name;
    if (stem.ends_with(".weight")) stem.remove_suffix(7);
    hint = "w." + std::string(stem);
  }
  const std::string names[] = {hint};
  const TensorType types[] = {type};
  TRY_ASSIGN(const OpId id, create(kNoOp, "weight", {}, {{"name", tensor_name}}, names, types));
  return Value{id, 0};
}

Result<Value> Graph::constant(std::vector<float> values, std::string_view name) {
  return add("constant", {}, {{"values", std::move(values)}}, name);
}

Result<Value> Graph::kv_cache(int64_t index, DType dtype, int64_t kv_heads, int64_t head_dim, std::string_view name) {
  if (kv_heads < 1 || kv_heads > kMaxDim) return bad_data("kv_cache: {} heads, expected 1 to {}", kv_heads, kMaxDim);
  const std::string names[] = {name.empty() ? fmt::format("kv{}", index) : std::string(name)};
  const TensorType types[] = {kv_type(dtype, kv_heads, head_dim)};
  TRY_ASSIGN(const OpId id, create(kNoOp, "kv_cache", {}, {{"index", index}}, names, types));
  return Value{id, 0};
}

void Graph::set_result(Value value) {
  if (result_) remove_use(result_, result_slot_);
  result_ = value;
  if (value) result_slot_ = add_use(value, Use{});
}

// ---- Reading

std::vector<OpId> Graph::order() const {
  std::vector<OpId> ids;
  ids.reserve(live_);
  for (OpId id = first_; id != kNoOp; id = next(id)) ids.push_back(id);
  return ids;
}

Value Graph::find(std::string_view name) const {
  const auto it = names_.find(std::string(name));
  return it == names_.end() ? Value{} : it->second;
}

// ---- Changing

void Graph::set_operand(OpId id, int operand, Value value) {
  Op& o = slot(id);
  const auto i = static_cast<size_t>(operand);
  remove_use(o.operands[i], o.use_slots_[i]);
  o.operands[i] = value;
  o.use_slots_[i] = add_use(value, Use{id, operand});
}

void Graph::replace_all_uses(Value from, Value to) {
  assert(!(from == to));
  while (!uses(from).empty()) {
    const Use use = uses(from).back();
    if (use.op == kNoOp) {
      set_result(to);
    } else {
      set_operand(use.op, use.operand, to);
    }
  }
}

void Graph::rename(Value v, std::string_view hint) {
  if (name(v) == hint) return;
  names_.erase(name(v));
  at(v).name = fresh_name(hint);
  names_.emplace(at(v).name, v);
}

void Graph::erase(OpId id) {
  Op& o = slot(id);
  for (size_t i = 0; i < o.operands.size(); ++i) remove_use(o.operands[i], o.use_slots_[i]);
  for (const OpResult& r : o.results) {
    assert(r.uses.empty());
    names_.erase(r.name);
  }
  unlink(id);
  o = Op{};
  o.erased_ = true;
}

void Graph::move_before(OpId id, OpId before) {
  if (id == before) return;
  unlink(id);
  link_before(id, before);
}

Status Graph::restore_order() {
  enum : uint8_t { kWaiting, kOpen, kPlaced };
  std::vector<uint8_t> state(ops_.size(), kWaiting);
  std::vector<OpId> placed;
  placed.reserve(live_);
  std::vector<std::pair<OpId, size_t>> stack;  // an op and the operand to look at next
  for (OpId root = first_; root != kNoOp; root = next(root)) {
    if (state[static_cast<size_t>(root)] != kWaiting) continue;
    stack.emplace_back(root, 0);
    state[static_cast<size_t>(root)] = kOpen;
    while (!stack.empty()) {
      auto& [id, at_operand] = stack.back();
      if (at_operand == op(id).operands.size()) {
        state[static_cast<size_t>(id)] = kPlaced;
        placed.push_back(id);
        stack.pop_back();
        continue;
      }
      const OpId operand = op(id).operands[at_operand++].op;
      uint8_t& seen = state[static_cast<size_t>(operand)];
      if (seen == kOpen) return error(Code::kInternal, "%{} depends on itself", op(operand).results[0].name);
      if (seen == kWaiting) {
        seen = kOpen;
        stack.emplace_back(operand, 0);
      }
    }
  }
  first_ = last_ = kNoOp;
  live_ = 0;
  for (const OpId id : placed) link_before(id, kNoOp);
  return {};
}

// ---- The list, the uses, the names

void Graph::link_before(OpId id, OpId before) {
  Op& o = slot(id);
  o.next_ = before;
  o.previous_ = before == kNoOp ? last_ : slot(before).previous_;
  (o.previous_ == kNoOp ? first_ : slot(o.previous_).next_) = id;
  (before == kNoOp ? last_ : slot(before).previous_) = id;
  ++live_;
}

void Graph::unlink(OpId id) {
  const Op& o = slot(id);
  (o.previous_ == kNoOp ? first_ : slot(o.previous_).next_) = o.next_;
  (o.next_ == kNoOp ? last_ : slot(o.next_).previous_) = o.previous_;
  --live_;
}

int32_t Graph::add_use(Value v, Use use) {
  auto& uses = at(v).uses;
  uses.push_back(use);
  return static_cast<int32_t>(uses.size() - 1);
}

void Graph::remove_use(Value v, int32_t place) {
  auto& uses = at(v).uses;
  const Use moved = uses.back();
  uses[static_cast<size_t>(place)] = moved;
  uses.pop_back();
  if (static_cast<size_t>(place) == uses.size()) return;
  (moved.op == kNoOp ? result_slot_ : slot(moved.op).use_slots_[static_cast<size_t>(moved.operand)]) = place;
}

std::string Graph::fresh_name(std::string_view hint) {
  std::string base;
  for (const char c : hint.substr(0, kMaxNameLength)) {
    const bool allowed =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
    base += allowed ? c : '_';
  }
  if (!base.empty() && !names_.contains(base)) return base;
  // x, then x.1, x.2 ...; without a hint 0, 1, ...
  base.resize(std::min(base.size(), kMaxNameLength - 24));
  int64_t& suffix = suffixes_[base];
  for (;;) {
    std::string name = base.empty() ? fmt::format("{}", suffix++) : fmt::format("{}.{}", base, ++suffix);
    if (!names_.contains(name)) return name;
  }
}

bool same(const Graph& a, const Graph& b) {
  if (a.module != b.module || a.size() != b.size()) return false;
  const auto same_value = [&](Value x, Value y) { return x && y ? a.name(x) == b.name(y) : !x && !y; };
  for (OpId x = a.first(), y = b.first(); x != kNoOp; x = a.next(x), y = b.next(y)) {
    const Op &p = a.op(x), &q = b.op(y);
    if (p.def != q.def || p.attrs != q.attrs || p.operands.size() != q.operands.size()) return false;
    for (size_t i = 0; i < p.operands.size(); ++i) {
      if (!same_value(p.operands[i], q.operands[i])) return false;
    }
    for (size_t i = 0; i < p.results.size(); ++i) {
      if (p.results[i].name != q.results[i].name || !identical(p.results[i].type, q.results[i].type)) return false;
    }
  }
  return same_value(a.result(), b.result());
}

}  // namespace ll::ir
