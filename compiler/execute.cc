#include "compiler/execute.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "compiler/passes/launch_spec.h"
#include "compiler/passes/passes.h"
#include "ir/type.h"
#include "ir/verifier.h"
#include "kernels/kernel.h"
#include "kernels/kv_layout.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/layouts.h"
#include "kernels/quant/q8a.h"
#include "kernels/quant/tile8.h"
#include "runtime/base/checked.h"
#include "runtime/plan/plan.h"

namespace ll {
namespace {

constexpr size_t kAlignment = 64;

struct Free {
  void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{kAlignment}); }
};
using Memory = std::unique_ptr<std::byte[], Free>;

Memory allocate(size_t bytes) {
  Memory memory(new (std::align_val_t{kAlignment}) std::byte[std::max<size_t>(bytes, 1)]);
  std::memset(memory.get(), 0, bytes);
  return memory;
}

class Executor {
 public:
  Executor(const ir::Graph& graph, const WeightSource& weights, std::span<const int32_t> tokens)
      : g_(graph), weights_(weights), tokens_(tokens), slots_(graph.id_limit()) {}

  Result<std::vector<float>> run() {
    for (const ir::OpId id : g_.order()) {
      const ir::Op& op = g_.op(id);
      Slot& slot = slots_[static_cast<size_t>(id)];
      for (const ir::OpResult& r : op.results) slot.readers += r.uses.size();
      if (Status s = step(op, slot); !s) return std::move(s).error().in(fmt::format("%{}", op.results[0].name));
      for (const ir::Value v : op.operands) done_with(v.op);
      if (slot.readers == 0) slot.memory.reset();
    }
    const TensorView& logits = views(g_.result().op)[static_cast<size_t>(g_.result().result)];
    std::vector<float> values(static_cast<size_t>(logits.dim(0) * logits.last()));
    for (int64_t r = 0; r < logits.dim(0); ++r) {
      std::memcpy(values.data() + r * logits.last(), logits.row<float>(r),
                  static_cast<size_t>(logits.last()) * sizeof(float));
    }
    return values;
  }

 private:
  // Results of one op. Views and in-place results borrow the memory of the op they name, which lives as long as they
  // do.
  struct Slot {
    std::vector<TensorView> views;
    Memory memory;
    ir::OpId lender = ir::kNoOp;
    size_t readers = 0;
  };

  std::vector<TensorView>& views(ir::OpId id) { return slots_[static_cast<size_t>(id)].views; }

  // A reader has run. Without further ones the memory goes, and with it the loan of another's.
  void done_with(ir::OpId id) {
    while (id != ir::kNoOp) {
      Slot& slot = slots_[static_cast<size_t>(id)];
      if (--slot.readers > 0) return;
      slot.memory.reset();
      id = slot.lender;
    }
  }
  void borrow(Slot& slot, ir::OpId lender) {
    if (slot.readers == 0) return;
    slot.lender = lender;
    ++slots_[static_cast<size_t>(lender)].readers;
  }

  static TensorView view(const TensorType& type, std::byte* data) {
    TensorView v{data, dense_row_bytes(type), type.dtype, type.layout, type.rank, {}};
    for (int i = 0; i < type.rank; ++i) v.dims[static_cast<size_t>(i)] = type.dim(i).value;
    return v;
  }

  static Result<size_t> bytes_of(const TensorType& t) {
    std::optional<uint64_t> bytes;
    if (t.rank == 2 && t.layout != Layout::kRows) {
      const auto padded = tensor_bytes(t.dtype, t.layout, t.dim(0).value, t.dim(1).value);
      if (padded) bytes = static_cast<uint64_t>(*padded);
    } else {
      uint64_t factors[kMaxRank] = {static_cast<uint64_t>(dense_row_bytes(t)), 1, 1, 1};
      const int outer = t.rank == 1 ? 1 : t.rank - 1;
      for (int i = 0; i < outer; ++i) factors[i + 1] = static_cast<uint64_t>(t.dim(i).value);
      bytes = checked_product(factors);
    }
    if (!bytes || *bytes > uint64_t{1} << 46) return unsupported("{} is too large", ir::type_text(t));
    return static_cast<size_t>(*bytes);
  }

  Status step(const ir::Op& op, Slot& slot) {
    const TensorType& type = op.results[0].type;
    if (op.is("slice")) {
      TensorView v = views(op.operands[0].op)[static_cast<size_t>(op.operands[0].result)];
      v.data += op.attrs.i64("start") * static_cast<int64_t>(sizeof(float));
      v.dims[1] = op.attrs.i64("size");
      slot.views = {v};
      borrow(slot, op.operands[0].op);
      return {};
    }
    if (!op.operands.empty()) return launch(op, slot);
    TRY_ASSIGN(const size_t bytes, bytes_of(type));
    slot.memory = allocate(bytes);
    slot.views = {view(type, slot.memory.get())};
    if (op.is("weight")) return weight(op, type, slot.memory.get());
    if (op.is("input")) return input(op.attrs.text("name"), slot.views[0]);
    if (op.is("constant")) {
      std::memcpy(slot.memory.get(), std::get<std::vector<float>>(*op.attrs.find("values")).data(), bytes);
    }
    return {};
  }

  Status weight(const ir::Op& op, const TensorType& type, std::byte* to) {
    const std::string_view name = op.attrs.text("name");
    TRY_ASSIGN(const WeightBytes source, weights_(name, type));
    const int64_t rows = type.rank == 2 ? type.dim(0).value : 1, k = type.last().value;
    const auto per_row = checked_row_bytes(source.dtype, k);
    if (!per_row || source.bytes.size() != static_cast<uint64_t>(*per_row) * static_cast<uint64_t>(rows)) {
      return bad_data("weight \"{}\" comes as {} bytes of {}, expected {}", name, source.bytes.size(),
                      dtype_name(source.dtype), ir::type_text(type));
    }
    if (source.dtype == type.dtype && type.layout == Layout::kRows) {
      std::memcpy(to, source.bytes.data(), source.bytes.size());
    } else if (source.dtype == type.dtype && type.layout == Layout::kTile8) {
      const int64_t row_tile = tile8_row_tile_bytes(type.dtype, k);
      for (int64_t r = 0; r < rows; r += kTile8Rows) {
        repack_rows_to_tile8(type.dtype, source.bytes.data() + r * *per_row, std::min(kTile8Rows, rows - r), k,
                             to + r / kTile8Rows * row_tile);
      }
    } else if (source.dtype == type.dtype) {
      const int64_t panel = x16_panel_bytes(type.dtype, k);
      for (int64_t r = 0; r < rows; r += kPanelRows) {
        repack_rows_to_x16(type.dtype, source.bytes.data() + r * *per_row, std::min(kPanelRows, rows - r), k,
                           to + r / kPanelRows * panel);
      }
    } else if (type.dtype == DType::kF32 && find_format(source.dtype)->kind == FormatKind::kFloat) {
      for (int64_t r = 0; r < rows; ++r) {
        find_format(source.dtype)
            ->dequantize(source.bytes.data() + r * *per_row, k, reinterpret_cast<float*>(to) + r * k);
      }
    } else {
      return bad_data("weight \"{}\" comes as {}, expected {}", name, dtype_name(source.dtype), ir::type_text(type));
    }
    return {};
  }

  // One sequence: token i at position i, in slot i, its logits wanted, pages in order.
  Status input(std::string_view name, const TensorView& v) {
    auto* values = reinterpret_cast<int32_t*>(v.data);
    const int64_t count = v.rank == 2 ? v.dim(0) * v.last() : v.dim(0);
    for (int64_t i = 0; i < count; ++i) {
      values[i] = name == "tokens"      ? tokens_[static_cast<size_t>(i)]
                  : name == "sequences" ? 0
                                        : static_cast<int32_t>(i);
    }
    return {};
  }

  Status launch(const ir::Op& op, Slot& slot) {
    if (op.is("embed")) {
      const int64_t rows = g_.type(op.operands[0]).dim(0).value;
      for (const int32_t t : tokens_) {
        if (t < 0 || t >= rows) return bad_data("token {} has no row in the table of {}", t, rows);
      }
    }
    OpLaunch types(g_, op);
    std::vector<TensorView> in;
    for (const ir::Value v : op.operands) in.push_back(views(v.op)[static_cast<size_t>(v.result)]);
    // Integer kernels read interleaved weights. Before choose_layouts there are none, and a product of quantized
    // activations is that of their values.
    Memory values;
    if (is_q8a(types.in[0].dtype) && !op.attrs.has("kernel") && reads_rows(op)) {
      values = dequantize(in[0]);
      types.in[0].dtype = DType::kF32;
    }
    TRY_ASSIGN(const Kernel* kernel, kernel_for(op, types));
    size_t total = 0;
    std::vector<size_t> offsets;
    for (const TensorType& t : types.out) {
      offsets.push_back(total);
      if (ir::is_kv(t)) continue;  // the cache that goes in, updated
      TRY_ASSIGN(const size_t bytes, bytes_of(t));
      total += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    }
    slot.memory = allocate(total);
    ir::OpId cache = ir::kNoOp;
    TensorView cache_view;
    for (size_t i = 0; i < op.operands.size(); ++i) {
      if (!ir::is_kv(types.in[i])) continue;
      cache = op.operands[i].op;
      cache_view = in[i];
    }
    for (size_t r = 0; r < types.out.size(); ++r) {
      const bool updated = ir::is_kv(types.out[r]);
      slot.views.push_back(updated ? cache_view : view(types.out[r], slot.memory.get() + offsets[r]));
      if (updated) borrow(slot, cache);
    }
    const size_t scratch_bytes = kernel->scratch != nullptr ? static_cast<size_t>(kernel->scratch(types.spec())) : 0;
    const Memory scratch = allocate(scratch_bytes);
    kernel->fn[0]({in, slot.views, Attrs(types.attrs), 0, 1, {scratch.get(), scratch_bytes}});
    return {};
  }

  bool reads_rows(const ir::Op& op) const {
    return std::any_of(op.operands.begin(), op.operands.end(), [&](ir::Value v) {
      return g_.def(v).is("weight") && g_.type(v).rank == 2 && g_.type(v).layout == Layout::kRows;
    });
  }

  // Replaces a q8a view by one of the f32 values that its codes stand for.
  static Memory dequantize(TensorView& x) {
    const int64_t rows = x.dim(0), k = x.last();
    Memory memory = allocate(static_cast<size_t>(rows * k) * sizeof(float));
    for (int64_t r = 0; r < rows; ++r) {
      q8a_dequantize_row(x.row<std::byte>(r), k, reinterpret_cast<float*>(memory.get()) + r * k);
    }
    x.data = memory.get();
    x.row_bytes = k * static_cast<int64_t>(sizeof(float));
    x.dtype = DType::kF32;
    return memory;
  }

  const ir::Graph& g_;
  const WeightSource& weights_;
  std::span<const int32_t> tokens_;
  std::vector<Slot> slots_;  // by op id
};

}  // namespace

Result<std::vector<float>> execute(const ir::Graph& graph, const WeightSource& weights,
                                   std::span<const int32_t> tokens) {
  const auto count = static_cast<int64_t>(tokens.size());
  if (count < 1 || count > kMaxExecutedTokens) return usage("{} tokens, expected 1 to {}", count, kMaxExecutedTokens);
  TRY(ir::verify(graph));
  ir::Graph bound = graph;
  const int64_t pages = (count + kKvPageSize - 1) / kKvPageSize;
  PassOptions options;
  options.sizes = {.tokens = count, .rows = count, .sequences = 1, .pages_per_sequence = pages, .pages = pages};
  const Pass* const bind[] = {find_pass("bind_sizes")};
  TRY(run_passes(bound, bind, options));
  return Executor(bound, weights, tokens).run();
}

}  // namespace ll
