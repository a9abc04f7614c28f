#include "runtime/device/cpu/cpu_device.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <utility>

#include "kernels/quant/formats.h"
#include "kernels/quant/q8a_slabs.h"
#include "runtime/base/checked.h"
#include "runtime/device/cpu/anonymous_memory.h"
#include "runtime/device/cpu/machine.h"
#include "runtime/device/cpu/node_memory.h"
#include "runtime/device/cpu/team.h"
#include "runtime/device/host_sampling.h"
#include "runtime/device/launch_sums.h"

namespace ll {
namespace {

constexpr uint64_t kAlignment = 64;

// A dimension of a prepared view that this step's sizes decide.
struct Patch {
  uint32_t view;
  uint8_t dim;
  Symbol symbol;
};

// A launch with everything looked up that does not change from step to step.
struct PreparedLaunch {
  KernelFn fn = nullptr;
  std::vector<TensorView> views;  // inputs, then outputs
  size_t input_count = 0;
  Attrs attrs;
  std::vector<Patch> patches;
  bool empty = false;  // an output has no elements in this step: nothing to run
  std::string name;    // of its row among the times
};

// Steps of so many tokens have a part for each thread, unless products find their tokens in slabs: they arrange them in
// each part anew.
constexpr uint32_t kWholeTokens = 16;
// Programs that read less may have their weights in their threads' caches, where others should not take them from.
constexpr uint64_t kCachedBytes = uint64_t{64} << 20;
// A part moves so many bytes at least: what takes it from another thread costs about a microsecond. Of larger launches,
// a thread has kFewPieces, or parts of kLargePieceBytes if those are more.
constexpr uint64_t kPieceBytes = uint64_t{128} << 10, kLargePieceBytes = uint64_t{3} << 19;
constexpr int kFewPieces = 8;

// Parts of a launch for each of `threads`, in a step of few tokens. Attention stays whole: it has few heads to divide
// and does several at once.
uint8_t pieces_of_few(const Launch& launch, int threads) {
  const auto reads_weights = [](const Operand& operand) { return operand.space == Space::kWeight; };
  if (std::none_of(launch.inputs.begin(), launch.inputs.end(), reads_weights)) return 1;
  const uint64_t bytes = launch.cost.bytes / static_cast<uint64_t>(threads);
  const uint64_t wanted = std::max(std::min<uint64_t>(bytes / kPieceBytes, kFewPieces), bytes / kLargePieceBytes);
  return static_cast<uint8_t>(std::clamp<uint64_t>(wanted, 1, kMaxPieces));
}

// The same of many tokens in slabs: large products have parts of as many columns as they do at once. Threads of small
// ones take tokens of their own.
uint8_t pieces_of_many(const Launch& launch, int threads) {
  constexpr int64_t kColumns = 256;
  constexpr uint64_t kLargeWeights = uint64_t{1} << 22;
  const Operand& x = launch.inputs[0];
  if (!is_q8a(x.type.dtype) || x.type.dim(0).value < kSlabTokens) return 1;
  if (launch.cost.operations / static_cast<uint64_t>(2 * x.type.dim(0).value) < kLargeWeights) return 1;
  const int64_t wanted = launch.outputs[0].type.last().value / (kColumns * threads);
  return static_cast<uint8_t>(std::clamp<int64_t>(wanted, 1, kFewPieces));
}

// Parts of each launch for each of `threads`. Threads that read memory side by side do not get the same share of it,
// nor does the system or a neighbour slow them alike: whoever is done takes from the others.
std::vector<uint8_t> pieces_of(const Program& program, int threads, bool slabs) {
  uint64_t all = 0;
  for (const Launch& launch : program.launches) all += launch.cost.bytes;
  const bool few = program.max_tokens < kWholeTokens && all >= kCachedBytes;
  const bool many = slabs && has_slabs(program.max_tokens);
  std::vector<uint8_t> pieces;
  for (const Launch& launch : program.launches) {
    pieces.push_back(threads == 1 ? 1
                     : few        ? pieces_of_few(launch, threads)
                     : many       ? pieces_of_many(launch, threads)
                                  : 1);
  }
  return pieces;
}

int64_t launch_clock_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// The kernel and, of products, the types of the weights.
std::string time_name(const Launch& launch) {
  std::string name(launch.kernel->name);
  for (const Operand& operand : launch.inputs) {
    const TensorType& type = operand.type;
    if (operand.space == Space::kWeight && type.rank == 2) {
      name += fmt::format(" {}[{}, {}]", find_format(type.dtype)->name, type.dim(0).value, type.dim(1).value);
    }
  }
  return name;
}

struct PreparedProgram {
  std::vector<PreparedLaunch> launches;
  bool slabs = false;           // KernelCall::slabs
  std::vector<uint8_t> pieces;  // of each, as Team::run takes them
  std::vector<uint8_t> whole;   // one of each, for steps of more than few tokens that are too few for slabs
};

// Sizes of a step.
struct Sizes {
  int64_t tokens, rows, sequences;
  int64_t of(Symbol symbol) const {
    switch (symbol) {
      case Symbol::kT:
        return tokens;
      case Symbol::kR:
        return rows;
      case Symbol::kS:
        return sequences;
      case Symbol::kNone:
        break;
    }
    return 0;
  }
};

// The parts of a device's working memory, as offsets into one mapping, each aligned.
class WorkingLayout {
 public:
  WorkingLayout(const Plan& plan, int threads) {
    uint64_t max_tokens = 0, max_sequences = 0;
    for (const Program& program : plan.programs) {
      max_tokens = std::max<uint64_t>(max_tokens, program.max_tokens);
      max_sequences = std::max<uint64_t>(max_sequences, program.max_sequences);
    }
    arena = add(plan.arena_bytes);
    logits = add(sizeof(float) * plan.max_rows * uint64_t{plan.model.vocab_size});
    for (const StepInput& input : step_inputs()) {
      const uint64_t columns = input.rank == 2 ? plan.pages_per_sequence : 1;
      const uint64_t rows = input.symbol == Symbol::kT   ? max_tokens
                            : input.symbol == Symbol::kS ? max_sequences
                                                         : plan.max_rows;
      inputs.push_back(add(sizeof(int32_t) * rows * columns));
    }
    for (int thread = 0; thread < threads; ++thread) scratch.push_back(add(plan.scratch_bytes));
  }

  uint64_t arena = 0, logits = 0;
  std::vector<uint64_t> inputs;   // by step input
  std::vector<uint64_t> scratch;  // by thread
  uint64_t size = 0;              // saturates

 private:
  uint64_t add(uint64_t bytes) {
    const uint64_t offset = size;
    const auto end = checked_add(size, bytes);
    size = end ? checked_align_up(*end, kAlignment).value_or(UINT64_MAX) : UINT64_MAX;
    return offset;
  }
};

class CpuDevice final : public Device {
 public:
  CpuDevice(const Plan& plan, Weights weights, Isa isa, const CpuOptions& options)
      : plan_(plan),
        weights_(std::move(weights)),
        isa_(isa),
        timed_(options.timed),
        deterministic_(options.deterministic),
        sums_(plan.programs.size()) {}
  ~CpuDevice() override;

  Status allocate(int threads, std::vector<NodeShare> shares);
  void prepare();

  DeviceInfo info() const override {
    return {.name = "cpu",
            .isa = isa_name(isa_),
            .threads = team_->size(),
            .working_bytes = working_.size(),
            .kv_on_demand = true,
            .shares = shares_,
            .thread_placement = thread_placement_,
            .memory_placement = memory_placement_};
  }
  Result<std::span<const float>> run(size_t program, const Step& step) override;
  Status copy_pages(std::span<const PageCopy> copies) override;

 protected:
  Result<std::unique_ptr<HostSampling>> make_sampling() override { return std::make_unique<HostSampling>(*team_); }

 private:
  // KernelCall::slabs.
  bool slabs(const Program& program) const {
    return isa_ >= Isa::kAvx512 && !deterministic_ &&
           std::any_of(program.launches.begin(), program.launches.end(), [](const Launch& launch) {
             return !launch.inputs.empty() && is_q8a(launch.inputs[0].type.dtype);
           });
  }
  TensorView view(const Operand& operand) const;
  void upload(const Step& step);
  std::string place_memory_on_nodes(const WorkingLayout& layout);

  const Plan& plan_;
  Weights weights_;
  Isa isa_;
  bool timed_, deterministic_;
  std::vector<LaunchSums> sums_;  // by program
  std::vector<NodeShare> shares_;
  std::string thread_placement_, memory_placement_;
  std::unique_ptr<Team> team_;
  AnonymousMemory kv_, working_;
  // Parts of working_.
  std::byte* arena_ = nullptr;
  std::byte* logits_ = nullptr;
  std::vector<std::byte*> inputs_;   // by step input
  std::vector<std::byte*> scratch_;  // by thread
  std::vector<PreparedProgram> programs_;
};

CpuDevice::~CpuDevice() {
  for (size_t i = 0; i < sums_.size(); ++i) {
    const std::string table = sums_[i].table();
    if (!table.empty()) fmt::print(stderr, "program {}: {}", plan_.programs[i].name, table);
  }
}

Status CpuDevice::allocate(int threads, std::vector<NodeShare> shares) {
  shares_ = std::move(shares);
  TRY_ASSIGN(team_, Team::create(threads, shares_));
  TRY_ASSIGN(kv_, AnonymousMemory::map(plan_.kv_pool_bytes, "the KV pool"));
  const WorkingLayout layout(plan_, threads);
  TRY_ASSIGN(working_, AnonymousMemory::map(layout.size, "the arena, logits and scratch"));
  arena_ = working_.data() + layout.arena;
  logits_ = working_.data() + layout.logits;
  for (const uint64_t offset : layout.inputs) inputs_.push_back(working_.data() + offset);
  for (const uint64_t offset : layout.scratch) scratch_.push_back(working_.data() + offset);
  if (shares_.empty()) return {};
  memory_placement_ = place_memory_on_nodes(layout);
  const int refused = team_->binding_error();
  thread_placement_ = refused == 0 ? "on their nodes"
                                   : fmt::format("anywhere: the system refuses to bind them ({})", strerror(refused));
  return {};
}

// What all threads use goes to their nodes in turn, a thread's scratch to its own. Where that is refused, pages lie
// where they are first touched.
std::string CpuDevice::place_memory_on_nodes(const WorkingLayout& layout) {
  const auto elsewhere = [](int reason) {
    return fmt::format("where it is first touched: the system refuses memory policies ({})", strerror(reason));
  };
  const MemoryPolicy policy = memory_policy_of_this_thread();
  if (policy.error != 0) return elsewhere(policy.error);
  if (policy.own) return "by the policy that the process was started with";
  const std::vector<int> nodes = memory_nodes(shares_);
  int refused = place_memory({kv_.data(), kv_.size()}, nodes);
  if (refused == 0) refused = place_memory({working_.data(), working_.size()}, nodes);
  size_t thread = 0;
  for (const NodeShare& share : shares_) {
    const size_t next = thread + static_cast<size_t>(share.threads);
    const uint64_t begin = layout.scratch[thread],
                   end = next < layout.scratch.size() ? layout.scratch[next] : layout.size;
    if (refused == 0 && share.has_memory)
      refused = place_memory({working_.data() + begin, end - begin}, {&share.node, 1});
    thread = next;
  }
  return refused == 0 ? "on the threads' nodes" : elsewhere(refused);
}

TensorView CpuDevice::view(const Operand& operand) const {
  TensorView view;
  switch (operand.space) {
    // Views of weights are inputs, which kernels read only.
    case Space::kWeight:
    case Space::kConstant:
      view.data = const_cast<std::byte*>(weights_.data(operand.index));
      break;
    case Space::kArena:
      view.data = arena_;
      break;
    case Space::kInput:
      view.data = inputs_[operand.index];
      break;
    case Space::kKv:
      view.data = kv_.data() + plan_.kv_caches[operand.index].offset;
      break;
    case Space::kOutput:
      view.data = logits_;
      break;
  }
  view.data += operand.offset;
  view.row_bytes = operand.row_bytes;
  view.dtype = operand.type.dtype;
  view.layout = operand.type.layout;
  view.rank = operand.type.rank;
  for (int i = 0; i < view.rank; ++i) view.dims[static_cast<size_t>(i)] = operand.type.dim(i).value;
  return view;
}

void CpuDevice::prepare() {
  for (const Program& program : plan_.programs) {
    PreparedProgram& prepared = programs_.emplace_back();
    prepared.slabs = slabs(program);
    prepared.pieces = pieces_of(program, team_->size(), prepared.slabs);
    prepared.whole.assign(program.launches.size(), 1);
    for (const Launch& launch : program.launches) {
      PreparedLaunch& p = prepared.launches.emplace_back();
      p.fn = kernel_fn(*launch.kernel, isa_);
      p.attrs = Attrs(launch.attrs);
      p.name = time_name(launch);
      p.input_count = launch.inputs.size();
      for (const auto* operands : {&launch.inputs, &launch.outputs}) {
        for (const Operand& operand : *operands) {
          const auto index = static_cast<uint32_t>(p.views.size());
          p.views.push_back(view(operand));
          for (int i = 0; i < operand.type.rank; ++i) {
            const Dim dim = operand.type.dim(i);
            if (dim.symbol != Symbol::kNone) p.patches.push_back({index, static_cast<uint8_t>(i), dim.symbol});
          }
        }
      }
    }
  }
}

void CpuDevice::upload(const Step& step) {
  // In the order of step_inputs(). The last, inverse_temperatures, stays 0: nobody asks a CPU for shortlists.
  const std::vector<int32_t>* const values[] = {&step.tokens, &step.positions,   &step.sequences,
                                                &step.slots,  &step.block_table, &step.rows};
  assert(std::size(values) + 1 == inputs_.size());
  for (size_t i = 0; i < std::size(values); ++i) {
    if (!values[i]->empty()) std::memcpy(inputs_[i], values[i]->data(), values[i]->size() * sizeof(int32_t));
  }
}

Result<std::span<const float>> CpuDevice::run(size_t number, const Step& step) {
  const Program& program = plan_.programs[number];
  if (step.token_count() > program.max_tokens || step.sequence_count > program.max_sequences ||
      step.row_count() > program.max_rows) {
    return error(Code::kInternal,
                 "a step of {} tokens, {} sequences and {} rows does not fit program '{}' of {}, {} and {}",
                 step.token_count(), step.sequence_count, step.row_count(), program.name, program.max_tokens,
                 program.max_sequences, program.max_rows);
  }
  upload(step);
  const Sizes sizes = {step.token_count(), step.row_count(), step.sequence_count};
  std::vector<PreparedLaunch>& launches = programs_[number].launches;
  for (PreparedLaunch& launch : launches) {
    for (const Patch& patch : launch.patches) launch.views[patch.view].dims[patch.dim] = sizes.of(patch.symbol);
    launch.empty = false;
    for (size_t i = launch.input_count; i < launch.views.size(); ++i) {
      const TensorView& out = launch.views[i];
      for (int d = 0; d < out.rank; ++d) launch.empty |= out.dim(d) == 0;
    }
  }
#ifndef NDEBUG
  // NaNs, so that whatever reads memory no launch of this step wrote shows in the logits.
  if (program.arena_bytes != 0) std::memset(arena_, 0xFF, program.arena_bytes);
#endif
  const int threads = team_->size();
  // When the last part of a launch returned. A launch begins when the one before has ended.
  std::vector<std::atomic<int64_t>> ends(timed_ ? launches.size() : 0);
  const int64_t begin = timed_ ? launch_clock_ns() : 0;
  const bool whole = program.max_tokens >= kWholeTokens && !has_slabs(step.token_count());
  const std::vector<uint8_t>& pieces = whole ? programs_[number].whole : programs_[number].pieces;
  team_->run(pieces, [&](uint32_t index, int part, int thread) {
    const PreparedLaunch& launch = launches[index];
    if (launch.empty) return;
    const std::span<const TensorView> views = launch.views;
    KernelCall call;
    call.in = views.first(launch.input_count);
    call.out = views.subspan(launch.input_count);
    call.attrs = launch.attrs;
    call.thread = part;
    call.threads = threads * pieces[index];
    call.scratch = {scratch_[static_cast<size_t>(thread)], plan_.scratch_bytes};
    call.deterministic = deterministic_;
    call.slabs = programs_[number].slabs;
    call.pieces = pieces[index];
    launch.fn(call);
    if (timed_) {
      const int64_t now = launch_clock_ns();
      int64_t last = ends[index].load(std::memory_order_relaxed);
      while (last < now && !ends[index].compare_exchange_weak(last, now, std::memory_order_relaxed)) {
      }
    }
  });
  if (timed_) {
    int64_t before = begin;
    for (size_t i = 0; i < launches.size(); ++i) {
      const int64_t end = ends[i].load(std::memory_order_relaxed);
      if (end == 0) continue;  // was empty
      sums_[number].add(launches[i].name, 1e-3 * static_cast<double>(end - before));
      before = end;
    }
    sums_[number].end_step();
  }
  const size_t count = size_t{step.row_count()} * plan_.model.vocab_size;
  return std::span<const float>(reinterpret_cast<const float*>(logits_), count);
}

Status CpuDevice::copy_pages(std::span<const PageCopy> copies) {
  for (const PageCopy& copy : copies) {
    if (copy.from >= plan_.pages || copy.to >= plan_.pages) {
      return error(Code::kInternal, "a copy of page {} to {} of {}", copy.from, copy.to, plan_.pages);
    }
    for (const KvCache& cache : plan_.kv_caches) {
      const uint64_t bytes = cache.bytes / plan_.pages;
      std::byte* const pages = kv_.data() + cache.offset;
      if (copy.from != copy.to) std::memcpy(pages + copy.to * bytes, pages + copy.from * bytes, bytes);
    }
  }
  return {};
}

}  // namespace

uint64_t working_bytes(const Plan& plan, int threads) { return WorkingLayout(plan, threads).size; }

Result<std::unique_ptr<Device>> open_cpu_device(const Plan& plan, Weights weights, const CpuOptions& options) {
  Isa isa = options.isa.value_or(best_isa());
  if (!has_isa(isa)) {
    return unsupported("instruction set '{}' is not available: this machine's best is '{}'", isa_name(isa),
                       isa_name(best_isa()));
  }
  if (plan.reference_kernels) isa = Isa::kScalar;
  auto device = std::make_unique<CpuDevice>(plan, std::move(weights), isa, options);
  TRY(device->allocate(options.threads == 0 ? default_threads(read_machine()) : options.threads, options.shares));
  device->prepare();
  return std::unique_ptr<Device>(std::move(device));
}

}  // namespace ll
