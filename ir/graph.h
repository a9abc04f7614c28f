// The typed op graph: what front ends build, passes rewrite and code generation lowers.
//
// SSA: every value is one result of one op and is computed once. The graph is a list of ops; the order of the list is
// the schedule, and an operand is defined before its use. Which ops exist, with their operands, attributes and result
// types, is the table in ir/ops.h. Copying a Graph clones it: ids, order and names stay the same.
//
//   Graph g;
//   TRY_ASSIGN(Value tokens, g.input("tokens"));
//   TRY_ASSIGN(Value table, g.weight("token_embd.weight", matrix(DType::kQ8_0, 4096, 256)));
//   TRY_ASSIGN(Value x, g.add("embed", {table, tokens}));
//   TRY_ASSIGN(Value n, g.add("rms_norm", {x, w}, {{"eps", 1e-5}}, "attn_norm.0"));
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "ir/type.h"
#include "kernels/type.h"
#include "runtime/base/result.h"

namespace ll::ir {

struct OpDef;  // a row of the ops table: ir/ops.h

// Attribute of an op or of the module. Numbers are finite and lists hold at least one element (checked by the
// verifier).
using Attribute = std::variant<int64_t, double, std::string, std::vector<float>, std::vector<int64_t>>;
// Built from int, double, text or a list: {{"eps", 1e-5}, {"heads", 32}, {"act", "silu"}}.
class Attributes {
 public:
  struct Item {
    std::string key;
    Attribute value;
    Item(std::string k, Attribute v) : key(std::move(k)), value(std::move(v)) {}
    Item(std::string k, int v) : key(std::move(k)), value(int64_t{v}) {}
    Item(std::string k, int64_t v) : key(std::move(k)), value(v) {}
    Item(std::string k, double v) : key(std::move(k)), value(v) {}
    Item(std::string k, const char* v) : key(std::move(k)), value(std::string(v)) {}
    Item(std::string k, std::string v) : key(std::move(k)), value(std::move(v)) {}
    Item(std::string k, std::string_view v) : key(std::move(k)), value(std::string(v)) {}
    Item(std::string k, std::vector<float> v) : key(std::move(k)), value(std::move(v)) {}
    Item(std::string k, std::vector<int64_t> v) : key(std::move(k)), value(std::move(v)) {}
  };
  Attributes() = default;
  Attributes(std::initializer_list<Item> items) {
    for (const Item& i : items) map_.insert_or_assign(i.key, i.value);
  }

  const Attribute* find(std::string_view key) const {
    const auto it = map_.find(key);
    return it == map_.end() ? nullptr : &it->second;
  }
  bool has(std::string_view key) const { return find(key) != nullptr; }
  // The value, or `missing` when the key is absent or of another kind. f64 also accepts an integer.
  int64_t i64(std::string_view key, int64_t missing = 0) const;
  double f64(std::string_view key, double missing = 0) const;
  std::string_view text(std::string_view key, std::string_view missing = "") const;

  void set(Item item) { map_.insert_or_assign(std::move(item.key), std::move(item.value)); }
  void erase(std::string_view key) {
    if (const auto it = map_.find(key); it != map_.end()) map_.erase(it);
  }
  const std::map<std::string, Attribute, std::less<>>& all() const { return map_; }
  bool operator==(const Attributes&) const = default;

 private:
  std::map<std::string, Attribute, std::less<>> map_;  // ordered by key: that is also the order of the text
};

// Ops and values are named by small numbers that stay valid until the op is erased and are never reused.
using OpId = int32_t;
inline constexpr OpId kNoOp = -1;

// A reference to result `result` of op `op`.
struct Value {
  OpId op = kNoOp;
  int32_t result = 0;
  explicit operator bool() const { return op != kNoOp; }
  auto operator<=>(const Value&) const = default;
};

// One place that reads a value: operand `operand` of `op`, or the graph's return (op == kNoOp).
struct Use {
  OpId op = kNoOp;
  int32_t operand = 0;
  auto operator<=>(const Use&) const = default;
};

struct OpResult {
  TensorType type;
  std::string name;       // unique in the graph; letters, digits, '_', '.', '-'; printed as %name
  std::vector<Use> uses;  // in no meaningful order
};

struct Op {
  const OpDef* def = nullptr;
  std::vector<Value> operands;
  Attributes attrs;
  std::vector<OpResult> results;

  std::string_view kind() const;
  bool is(std::string_view name) const { return kind() == name; }

 private:
  friend class Graph;
  std::vector<int32_t> use_slots_;  // per operand: where its Use stands in the operand's list of uses
  OpId previous_ = kNoOp, next_ = kNoOp;
  bool erased_ = false;
};

// Limits that keep hostile graphs small. Beyond them is an error, never a wrap or a long wait.
inline constexpr int64_t kMaxOps = 1 << 20;
inline constexpr int64_t kMaxOperands = 64;
inline constexpr int64_t kMaxDim = int64_t{1} << 28;
inline constexpr int64_t kMaxListLength = 1 << 20;  // elements of one list attribute
inline constexpr size_t kMaxNameLength = 255;

class Graph {
 public:
  // Facts about the model: architecture, name, context_length, vocab_size, bos_token, eos_tokens ...
  Attributes module;

  // ---- Building. Types are inferred; errors say what was found and what the op expects.

  // Appends an op and returns its first result. `name` is a hint; a taken or empty name gets a number.
  Result<Value> add(std::string_view kind, std::vector<Value> operands, Attributes attrs = {},
                    std::string_view name = "");
  // A step input of kernels/kernel.h: tokens, positions, sequences, slots, block_table or rows.
  Result<Value> input(std::string_view name);
  // A tensor of the model file: [n, k], row by row along k, or [n].
  Result<Value> weight(std::string_view tensor_name, const TensorType& type, std::string_view name = "");
  Result<Value> constant(std::vector<float> values, std::string_view name = "");
  // The KV cache of one layer. `index` is unique in the graph.
  Result<Value> kv_cache(int64_t index, DType dtype, int64_t kv_heads, int64_t head_dim, std::string_view name = "");

  // The general form. `declared` holds the result types of ops whose types cannot be inferred (input, weight,
  // kv_cache); for others it is empty, or must equal what is inferred. `names` has one hint per result or is empty.
  // Inserts before op `before`, or appends for kNoOp.
  Result<OpId> create(OpId before, std::string_view kind, std::vector<Value> operands, Attributes attrs,
                      std::span<const std::string> names = {}, std::span<const TensorType> declared = {});
  // Like `add`, but before op `before`.
  Result<Value> insert(OpId before, std::string_view kind, std::vector<Value> operands, Attributes attrs = {},
                       std::string_view name = "");

  // The value a step computes: f32 [R, vocabulary].
  void set_result(Value value);
  Value result() const { return result_; }

  // ---- Reading.

  // Ids of all ops in list order, as a snapshot: the graph may change while it is walked.
  std::vector<OpId> order() const;
  OpId first() const { return first_; }
  OpId next(OpId op) const { return slot(op).next_; }
  size_t size() const { return live_; }
  // Ids are below this number.
  size_t id_limit() const { return ops_.size(); }
  bool alive(OpId op) const { return op >= 0 && static_cast<size_t>(op) < ops_.size() && !slot(op).erased_; }

  const Op& op(OpId id) const { return slot(id); }
  const Op& def(Value v) const { return slot(v.op); }
  const TensorType& type(Value v) const { return at(v).type; }
  const std::string& name(Value v) const { return at(v).name; }
  const std::vector<Use>& uses(Value v) const { return at(v).uses; }
  // The value called `name`, or an empty value.
  Value find(std::string_view name) const;

  // ---- Changing.

  void set_operand(OpId op, int operand, Value value);
  // Every reader of `from` (and the return) reads `to` instead.
  void replace_all_uses(Value from, Value to);
  void set_attr(OpId op, Attributes::Item item) { slot(op).attrs.set(std::move(item)); }
  void erase_attr(OpId op, std::string_view key) { slot(op).attrs.erase(key); }
  void set_type(Value v, const TensorType& type) { at(v).type = type; }
  // Gives `v` a name like the hint; the name actually given is unique.
  void rename(Value v, std::string_view hint);
  // Removes an op none of whose results is used.
  void erase(OpId op);
  void move_before(OpId op, OpId before);  // kNoOp: to the end
  // Replaces the list's order by the nearest one in which operands are defined before their uses: walks the list and
  // puts before each op those of its operands that are still missing. kInternal when values depend on themselves.
  Status restore_order();

 private:
  Op& slot(OpId id) { return ops_[static_cast<size_t>(id)]; }
  const Op& slot(OpId id) const { return ops_[static_cast<size_t>(id)]; }
  OpResult& at(Value v) { return slot(v.op).results[static_cast<size_t>(v.result)]; }
  const OpResult& at(Value v) const { return slot(v.op).results[static_cast<size_t>(v.result)]; }
  void link_before(OpId op, OpId before);
  void unlink(OpId op);
  int32_t add_use(Value v, Use use);
  void remove_use(Value v, int32_t place);
  std::string fresh_name(std::string_view hint);

  std::vector<Op> ops_;
  OpId first_ = kNoOp, last_ = kNoOp;
  size_t live_ = 0;
  Value result_;
  int32_t result_slot_ = 0;
  std::unordered_map<std::string, Value> names_;       // looked up, never walked
  std::unordered_map<std::string, int64_t> suffixes_;  // next number to try for a taken hint
};

// Equal in everything the text shows, order and names included; symbols' bounds too.
bool same(const Graph& a, const Graph& b);

}  // namespace ll::ir
