// Gives every activation its place in one arena. Two values share bytes when no op needs both; an op whose kernel can
// works in place when it reads that operand for the last time; a slice lies in what it is a slice of.
//
// Result: attribute `offset` (bytes, a multiple of 64) on ops whose result 0 lies in the arena, and `arena_bytes` on
// the module. The returned value has none: it is written to the program's output.
#include <algorithm>
#include <map>
#include <set>

#include "compiler/passes/passes.h"
#include "ir/type.h"
#include "kernels/kernel.h"

namespace ll {
namespace {

using ir::Graph;
using ir::Op;
using ir::OpId;
using ir::Value;

constexpr int64_t kAlignment = 64;
constexpr int64_t kMaxArena = int64_t{1} << 46;

// Free bytes below `top`, by place and by size. Best fit: the smallest hole that is large enough, of equal ones the
// lowest.
class Arena {
 public:
  int64_t allocate(int64_t bytes) {
    if (const auto hole = by_size_.lower_bound({bytes, 0}); hole != by_size_.end()) {
      const auto [size, offset] = *hole;
      remove(offset, size);
      if (size > bytes) insert(offset + bytes, size - bytes);
      return offset;
    }
    // The hole that ends at the top grows.
    int64_t offset = top_;
    if (!holes_.empty()) {
      const auto [last, size] = *holes_.rbegin();
      if (last + size == top_) {
        offset = last;
        remove(last, size);
      }
    }
    top_ = offset + bytes;
    return offset;
  }
  void release(int64_t offset, int64_t bytes) {
    const auto after = holes_.lower_bound(offset);
    if (after != holes_.begin()) {
      const auto [place, size] = *std::prev(after);
      if (place + size == offset) {
        remove(place, size);
        offset = place;
        bytes += size;
      }
    }
    if (const auto next = holes_.find(offset + bytes); next != holes_.end()) {
      const int64_t size = next->second;
      remove(offset + bytes, size);
      bytes += size;
    }
    insert(offset, bytes);
  }
  int64_t top() const { return top_; }

 private:
  void insert(int64_t offset, int64_t size) {
    holes_.emplace(offset, size);
    by_size_.emplace(size, offset);
  }
  void remove(int64_t offset, int64_t size) {
    holes_.erase(offset);
    by_size_.erase({size, offset});
  }

  std::map<int64_t, int64_t> holes_;
  std::set<std::pair<int64_t, int64_t>> by_size_;
  int64_t top_ = 0;
};

class Planner {
 public:
  explicit Planner(Graph& g) : g_(g), order_(g.order()), base_(g.id_limit(), ir::kNoOp), last_(g.id_limit(), 0) {}

  Status run() {
    lifetimes();
    for (size_t at = 0; at < order_.size(); ++at) {
      const OpId id = order_[at];
      g_.erase_attr(id, "offset");
      if (in_arena(g_, {id, 0})) TRY(place(id, at));
      if (!is_computed(g_.op(id))) continue;
      release_dead(id, at);
    }
    g_.module.set({"arena_bytes", arena_.top()});
    return {};
  }

 private:
  struct Block {
    int64_t offset, bytes;
  };

  // base_: the op whose memory an op's result 0 is a view of; last_: the last op that reads that memory, by place.
  void lifetimes() {
    for (size_t at = 0; at < order_.size(); ++at) {
      const OpId id = order_[at];
      const Op& op = g_.op(id);
      if (in_arena(g_, {id, 0})) {
        base(id) = id;
        last(id) = at;
      } else if (op.is("slice")) {
        base(id) = base(op.operands[0].op);
      }
      if (op.is("slice")) continue;  // its readers count, not the slice itself
      for (const Value v : op.operands) {
        if (const OpId b = base(v.op); v.result == 0 && b != ir::kNoOp) last(b) = at;
      }
    }
  }

  Status place(OpId id, size_t at) {
    const TensorType& type = g_.type({id, 0});
    if (type.dim(0).value < 1) {
      return usage("plan_memory: %{} is {}, expected a bound for its rows; run bind_sizes first", g_.name({id, 0}),
                   ir::type_text(type));
    }
    const int64_t bytes = (arena_bytes(type) + kAlignment - 1) / kAlignment * kAlignment;
    if (bytes > kMaxArena) {
      return unsupported("plan_memory: %{} takes {} bytes, expected at most {}", g_.name({id, 0}), bytes, kMaxArena);
    }
    const OpId shared = in_place(id, at);
    Block block{};
    if (shared != ir::kNoOp) {
      block = blocks_.at(shared);
      blocks_.erase(shared);
    } else {
      block = {arena_.allocate(bytes), bytes};
    }
    if (arena_.top() > kMaxArena) {
      return unsupported("plan_memory: the arena takes over {} bytes; choose smaller steps", kMaxArena);
    }
    blocks_.emplace(id, block);
    g_.set_attr(id, {"offset", block.offset});
    return {};
  }

  // The operand whose memory the result may take over, or none. It must be read for the last time, as a whole, through
  // this operand alone.
  OpId in_place(OpId id, size_t at) {
    const Op& op = g_.op(id);
    const Kernel* kernel = find_kernel(op.attrs.text("kernel"));
    if (kernel == nullptr || kernel->in_place < 0) return ir::kNoOp;
    const auto operand = static_cast<size_t>(kernel->in_place);
    if (operand >= op.operands.size()) return ir::kNoOp;
    const Value v = op.operands[operand];
    const OpId b = v.result == 0 ? base(v.op) : ir::kNoOp;
    if (b == ir::kNoOp || b != v.op || last(b) != at || !ir::identical(g_.type(v), g_.type({id, 0}))) return ir::kNoOp;
    for (size_t i = 0; i < op.operands.size(); ++i) {
      if (i != operand && op.operands[i].result == 0 && base(op.operands[i].op) == b) return ir::kNoOp;
    }
    return b;
  }

  void release_dead(OpId id, size_t at) {
    const auto release = [&](OpId b) {
      const auto block = blocks_.find(b);
      if (block == blocks_.end() || last(b) != at) return;
      arena_.release(block->second.offset, block->second.bytes);
      blocks_.erase(block);
    };
    for (const Value v : g_.op(id).operands) {
      if (v.result == 0 && base(v.op) != ir::kNoOp) release(base(v.op));
    }
    if (base(id) == id) release(id);  // nobody reads it
  }

  OpId& base(OpId id) { return base_[static_cast<size_t>(id)]; }
  size_t& last(OpId id) { return last_[static_cast<size_t>(id)]; }

  Graph& g_;
  std::vector<OpId> order_, base_;
  std::vector<size_t> last_;
  std::map<OpId, Block> blocks_;  // of values that live now
  Arena arena_;
};

}  // namespace

Status plan_memory(Graph& graph, PassContext& context) {
  TRY(Planner(graph).run());
  context.entry.notes.push_back(fmt::format("{} bytes of arena", graph.module.i64("arena_bytes")));
  return {};
}

}  // namespace ll
