#include "runtime/device/cuda/cuda_device.h"

#include <algorithm>
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <numeric>
#include <optional>
#include <thread>
#include <utility>

#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/prim/args.h"
#include "runtime/base/checked.h"
#include "runtime/device/cuda/launch_times.h"
#include "runtime/device/cuda/step_dump.h"
#include "runtime/device/cuda/upload.h"
#include "runtime/device/host_sampling.h"
#include "runtime/device/shortlist_words.h"
#include "runtime/plan/weights.h"

namespace ll {
namespace {

using cuda::Args;
using cuda::CuHandle;
using cuda::CuPointer;
using cuda::Driver;

constexpr uint32_t kTokenTile = 64;  // the most tokens of a block's tile (kMmaTiles of kernels/cuda/linear.cc)
constexpr uint32_t kSharedWithoutAsking = 48 << 10;  // dynamic shared memory that every kernel may have

std::string gib(uint64_t bytes) { return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / 0x1p30); }

// One kernel of a program with everything looked up.
struct Node {
  CuHandle function = nullptr;
  const GpuKernel* kernel = nullptr;
  const GpuNode* shape = nullptr;
  size_t launch = 0;
  Args args{};
};

struct PreparedGraph {
  bool ready = false;
  std::optional<cuda::AttentionShape> attention;  // of its attention launches; absent: it has none
  std::vector<Node> nodes;
  CuHandle exec = nullptr;                   // with LaunchMode::kGraphs and kTimed
  std::unique_ptr<cuda::LaunchTimes> times;  // with kTimed
};

class CudaDevice final : public Device {
 public:
  CudaDevice(const Plan& plan, const GpuTarget& target, bool from_ptx, std::shared_ptr<Driver> driver,
             cuda::DeviceFacts facts, const CudaOptions& options)
      : plan_(plan),
        target_(target),
        from_ptx_(from_ptx),
        driver_(std::move(driver)),
        d_(*driver_),
        facts_(std::move(facts)),
        mode_(options.mode),
        dump_folder_(options.dump_folder),
        memory_(plan, target),
        functions_(target.kernels.size(), nullptr),
        programs_(plan.programs.size()) {}
  ~CudaDevice() override;

  Status open(const ValidatedPlan& plan, const CudaOptions& options);

  DeviceInfo info() const override {
    return {.name = facts_.name,
            .isa = fmt::format("{} code on sm_{}", target_.name, facts_.sm),
            .working_bytes = memory_.working_bytes(),
            .token_tile = kTokenTile};
  }
  Result<std::span<const float>> run(size_t program, const Step& step) override;
  Result<std::span<const SampledToken>> run_sampled(size_t program, const Step& step,
                                                    std::span<const RowSampling> rows) override;
  Status copy_pages(std::span<const PageCopy> copies) override;

 private:
  Status allocate();
  Status load_weights(const ValidatedPlan& plan, const CudaOptions& options);
  Status prepare(size_t program);
  Status load_function(uint32_t kernel, uint32_t dynamic_shared);
  Status build_graph(size_t program);
  bool graphs() const { return mode_ == LaunchMode::kGraphs || mode_ == LaunchMode::kTimed; }
  Status launch_plain(size_t program, const Step& step);
  Status dump(const Launch& launch, const Step& step, StepDump& file);
  Status fits(size_t program, const Step& step) const;
  Status start(size_t program, const Step& step);
  Status finish(size_t program);
  Status copy_logits(std::vector<uint32_t>& rows);
  Status read_lists();
  Result<uint64_t> fill_inputs(size_t program, const Step& step);
  CuPointer address(const Operand& operand) const;
  Args arguments(const Launch& launch, const GpuNode& node) const;
  std::string where(size_t program, const Node& node) const;
  Status fail(Status status);
  Status check(cuda::CuResult result, std::string_view what) { return fail(d_.check(result, what)); }

  const Plan& plan_;
  const GpuTarget& target_;
  const bool from_ptx_;
  const std::shared_ptr<Driver> driver_;
  const Driver& d_;
  const cuda::DeviceFacts facts_;
  const LaunchMode mode_;
  const std::string dump_folder_;
  const GpuMemory memory_;
  cuda::CuDevice device_ = 0;
  CuHandle context_ = nullptr, stream_ = nullptr;
  CuPointer base_ = 0;
  std::byte* inputs_ = nullptr;  // pinned, as on the device
  float* logits_ = nullptr;      // pinned
  float* list_words_ = nullptr;  // pinned; null where no program has shortlists
  std::vector<CuHandle> modules_;
  std::vector<CuHandle> functions_;  // by kernel; null until used
  std::vector<PreparedGraph> programs_;
  std::vector<cuda::AttentionItem> items_;  // of the step, as are the following
  std::vector<float> asked_;                // inverse temperatures, by row; 0: no shortlist is wanted
  std::vector<uint32_t> whole_, late_;      // rows whose logits are copied, with the shortlists and after them
  std::vector<Shortlist> lists_;            // by row; without candidates where none was wanted
  std::vector<Candidate> candidates_;       // of lists_, kShortlist a row
  uint64_t dumped_ = 0;                     // steps
  std::optional<Error> lost_;
};

CudaDevice::~CudaDevice() {
  if (context_ == nullptr) return;
  for (size_t i = 0; i < programs_.size(); ++i) {
    const std::string table = programs_[i].times == nullptr ? "" : programs_[i].times->table();
    if (!table.empty()) fmt::print(stderr, "{}: {}", plan_.programs[i].name, table);
  }
  d_.context_set(context_);
  if (stream_ != nullptr) d_.stream_wait(stream_);
  for (PreparedGraph& p : programs_) {
    if (p.exec != nullptr) d_.exec_destroy(p.exec);
    p.times.reset();
  }
  for (CuHandle module : modules_) d_.module_unload(module);
  if (base_ != 0) d_.free(base_);
  if (inputs_ != nullptr) d_.host_free(inputs_);
  if (logits_ != nullptr) d_.host_free(logits_);
  if (list_words_ != nullptr) d_.host_free(list_words_);
  if (stream_ != nullptr) d_.stream_destroy(stream_);
  d_.context_release(device_);
}

// A lost device stays lost: what follows says so instead of failing in its own way.
Status CudaDevice::fail(Status status) {
  if (!status && status.error().code == Code::kRetry && !lost_) {
    lost_ = error(Code::kRetry, "the GPU is lost to this process, restart it: {}", status.error().message);
    return *lost_;
  }
  return status;
}

Status CudaDevice::open(const ValidatedPlan& plan, const CudaOptions& options) {
  TRY(check(d_.device_get(&device_, options.ordinal), "cuDeviceGet"));
  TRY(check(d_.context_retain(&context_, device_), "cuDevicePrimaryCtxRetain"));
  TRY(check(d_.context_set(context_), "cuCtxSetCurrent"));
  TRY(allocate());
  // Code is loaded while threads read weights.
  Status loaded;
  std::thread weights([&] { loaded = load_weights(plan, options); });
  Status prepared = prepare(0);
  weights.join();
  TRY(fail(std::move(loaded)));
  TRY(std::move(prepared));
  return check(d_.stream_wait(stream_), "cuStreamSynchronize");
}

Status CudaDevice::allocate() {
  size_t free = 0, total = 0;
  TRY(check(d_.memory_info(&free, &total), "cuMemGetInfo"));
  if (memory_.needed_bytes() > free) {
    return error(
        Code::kOutOfMemory,
        "the plan needs {} of GPU memory ({} weights, {} KV pages, {} working memory) and {} more for code and "
        "graphs, but {} has {} free; llcc compile --ctx-size, --max-batch or --kv-type q8 make the KV pages "
        "smaller",
        gib(memory_.total), gib(memory_.weight_bytes), gib(memory_.kv_bytes), gib(memory_.working_bytes()),
        gib(kGpuReserve), facts_.name, gib(free));
  }
  TRY(check(d_.stream_create(&stream_, 1), "cuStreamCreate"));
  TRY(check(d_.allocate(&base_, memory_.total), fmt::format("cuMemAlloc of {}", gib(memory_.total))));
  void* pinned = nullptr;
  TRY(check(d_.host_allocate(&pinned, memory_.input_bytes, 0), "cuMemHostAlloc for step inputs"));
  inputs_ = static_cast<std::byte*>(pinned);
  std::memset(inputs_, 0, memory_.input_bytes);
  const uint64_t logits = std::max<uint64_t>(sizeof(float) * plan_.max_rows * uint64_t{plan_.model.vocab_size}, 4);
  TRY(check(d_.host_allocate(&pinned, logits, 0), "cuMemHostAlloc for logits"));
  logits_ = static_cast<float*>(pinned);
  if (memory_.shortlist_bytes > 0) {
    TRY(check(d_.host_allocate(&pinned, memory_.shortlist_bytes, 0), "cuMemHostAlloc for shortlists"));
    list_words_ = static_cast<float*>(pinned);
  }
  // KV pages are zeroed so that rows of a page beyond a sequence's end, which kernels may load but not use, are finite.
  TRY(check(d_.set_bytes(base_ + memory_.kv, 0, memory_.kv_bytes, stream_), "cuMemsetD8Async of the KV pool"));
  if (memory_.workspace_zeroed > 0) {
    TRY(check(d_.set_bytes(base_ + memory_.workspace, 0, memory_.workspace_zeroed, stream_), "cuMemsetD8Async"));
  }
  return check(d_.set_bytes(base_ + memory_.inputs, 0, memory_.input_bytes, stream_), "cuMemsetD8Async");
}

Status CudaDevice::load_weights(const ValidatedPlan& plan, const CudaOptions& options) {
  std::vector<UploadPiece> pieces;
  for (const WeightRun& run : memory_.runs) {
    cut({nullptr, plan_.weights_offset + run.file_offset, base_ + run.device_offset, run.bytes}, pieces);
  }
  std::optional<Weights> weights;  // repacked from source files
  if (!plan_.sources.empty()) {
    TRY_ASSIGN(weights, Weights::load(plan, options.model_dir, options.threads));
    for (size_t i = 0; i < plan_.tensors.size(); ++i) {
      const PlanTensor& t = plan_.tensors[i];
      if (t.source < 0 || memory_.tensors[i] == UINT64_MAX) continue;
      cut({weights->data(i), 0, base_ + memory_.tensors[i], t.bytes}, pieces);
    }
  }
  return upload(d_, context_, plan_.file, pieces, std::min(options.threads, 8));
}

CuPointer CudaDevice::address(const Operand& o) const {
  switch (o.space) {
    case Space::kWeight:
    case Space::kConstant:
      return base_ + memory_.tensors[o.index];
    case Space::kArena:
      return base_ + memory_.arena + o.offset;
    case Space::kInput:
      return base_ + memory_.inputs + memory_.step_inputs[o.index];
    case Space::kKv:
      return base_ + memory_.kv + plan_.kv_caches[o.index].offset;
    case Space::kOutput:
      return base_ + (o.index == kShortlists ? memory_.shortlists : memory_.logits);
  }
  return 0;
}

Args CudaDevice::arguments(const Launch& launch, const GpuNode& node) const {
  const auto pointer = [](CuPointer p) { return reinterpret_cast<void*>(p); };
  Args args{};
  for (size_t i = 0; i < launch.inputs.size(); ++i) args.in[i] = pointer(address(launch.inputs[i]));
  for (size_t i = 0; i < launch.outputs.size(); ++i) args.out[i] = pointer(address(launch.outputs[i]));
  // Zeroed bytes end where the undefined ones begin.
  const uint64_t zeroed = checked_align_up(node.workspace_zeroed, 256).value();
  args.workspace =
      pointer(base_ + memory_.workspace + memory_.workspace_zeroed - std::min(zeroed, memory_.workspace_zeroed));
  args.step = static_cast<const cuda::StepSizes*>(pointer(base_ + memory_.inputs + memory_.sizes));
  args.work = pointer(base_ + memory_.inputs + memory_.work);
  return args;
}

std::string CudaDevice::where(size_t program, const Node& node) const {
  const Launch& l = plan_.programs[program].launches[node.launch];
  return fmt::format("{}: launch {}: kernel {} ({}) computing %{}", plan_.programs[program].name, node.launch,
                     node.kernel->function, l.kernel->name, l.op);
}

Status CudaDevice::load_function(uint32_t index, uint32_t dynamic_shared) {
  const GpuKernel& k = target_.kernels[index];
  CuHandle& function = functions_[index];
  if (function == nullptr) {
    CuHandle module = nullptr;
    const void* image = from_ptx_ ? static_cast<const void*>(k.ptx.data()) : k.code.data();
    TRY(check(d_.module_load(&module, image), fmt::format("cuModuleLoadData of kernel {}", k.function)));
    modules_.push_back(module);
    TRY(check(d_.module_function(&function, module, k.function.data()),
              fmt::format("cuModuleGetFunction of kernel {}", k.function)));
  }
  if (dynamic_shared == 0 || dynamic_shared + k.shared_bytes <= kSharedWithoutAsking) return {};
  if (dynamic_shared + k.shared_bytes > static_cast<uint64_t>(facts_.shared_per_block)) {
    return unsupported("kernel {} wants {} bytes of shared memory, {} has {}", k.function,
                       dynamic_shared + k.shared_bytes, facts_.name, facts_.shared_per_block);
  }
  return check(d_.function_set(function, static_cast<int>(cuda::FunctionAttribute::kMaxDynamicShared),
                               static_cast<int>(dynamic_shared)),
               fmt::format("cuFuncSetAttribute of kernel {}", k.function));
}

// What the work list of a program's steps is made for.
std::optional<cuda::AttentionShape> attention_shape(const Program& program,
                                                    const std::vector<std::vector<GpuNode>>& launches) {
  for (size_t i = 0; i < launches.size(); ++i) {
    const Launch& l = program.launches[i];
    if (l.kernel->op != "attention") continue;
    return cuda::AttentionShape{static_cast<int>(launches[i][0].grid[0]),
                                static_cast<int>(Attrs(l.attrs).i64("heads", 1)),
                                static_cast<int>(l.inputs[1].type.dim(1).value / 2)};
  }
  return std::nullopt;
}

// Loads the code of a program and makes its graph, once.
Status CudaDevice::prepare(size_t number) {
  PreparedGraph& prepared = programs_[number];
  if (prepared.ready) return {};
  const Program& program = plan_.programs[number];
  const auto& launches = target_.programs[number];
  std::vector<uint32_t> shared(target_.kernels.size(), 0);
  for (const auto& nodes : launches) {
    for (const GpuNode& n : nodes) shared[n.kernel] = std::max(shared[n.kernel], n.dynamic_shared);
  }
  const char* fault = std::getenv("LLRT_CUDA_FAULT");
  const long broken = fault == nullptr ? -1 : std::strtol(fault, nullptr, 10);
  prepared.nodes.clear();
  prepared.attention = attention_shape(program, launches);
  for (size_t i = 0; i < launches.size(); ++i) {
    for (const GpuNode& n : launches[i]) {
      TRY(load_function(n.kernel, shared[n.kernel]));
      Node node{functions_[n.kernel], &target_.kernels[n.kernel], &n, i, arguments(program.launches[i], n)};
      if (broken == static_cast<long>(i)) node.args.out[0] = reinterpret_cast<void*>(uintptr_t{256});
      prepared.nodes.push_back(node);
    }
  }
  if (graphs()) TRY(build_graph(number));
  prepared.ready = true;
  return {};
}

// A chain: each launch reads what those before it wrote, and one at a time fills the device.
Status CudaDevice::build_graph(size_t number) {
  PreparedGraph& prepared = programs_[number];
  CuHandle graph = nullptr;
  TRY(check(d_.graph_create(&graph, 0), "cuGraphCreate"));
  CuHandle before = nullptr;
  Status status;
  if (mode_ == LaunchMode::kTimed) {
    prepared.times = std::make_unique<cuda::LaunchTimes>(d_);
    status = prepared.times->add_node(graph, before, "");
  }
  for (Node& n : prepared.nodes) {
    if (!status) break;
    void* parameters[] = {&n.args};
    const auto& grid = n.shape->grid;
    const cuda::KernelNodeParams p = {n.function,        grid[0], grid[1], grid[2],
                                      n.kernel->threads, 1,       1,       n.shape->dynamic_shared,
                                      parameters,        nullptr, nullptr, nullptr};
    CuHandle node = nullptr;
    const cuda::CuResult r = d_.graph_add_kernel(&node, graph, &before, before == nullptr ? 0 : 1, &p);
    if (r != 0) {
      status = d_.failed(r, fmt::format("cuGraphAddKernelNode: {}", where(number, n)));
      break;
    }
    before = node;
    if (prepared.times == nullptr) continue;
    const std::string_view kernel = plan_.programs[number].launches[n.launch].kernel->name;
    status = prepared.times->add_node(graph, before, fmt::format("{} {} grid {}", kernel, n.kernel->function, grid[0]));
  }
  if (status) {
    status = d_.check(d_.graph_instantiate(&prepared.exec, graph, 0),
                      fmt::format("cuGraphInstantiate of {} kernels", prepared.nodes.size()));
  }
  d_.graph_destroy(graph);
  TRY(fail(std::move(status)));
  return check(d_.exec_upload(prepared.exec, stream_), "cuGraphUpload");
}

Status CudaDevice::launch_plain(size_t number, const Step& step) {
  const Program& program = plan_.programs[number];
  std::vector<Node>& nodes = programs_[number].nodes;
  std::optional<StepDump> file;
  if (mode_ == LaunchMode::kDumped) {
    TRY_ASSIGN(StepDump created, StepDump::create(dump_folder_, dumped_++, program, step));
    file.emplace(std::move(created));
  }
  for (size_t i = 0; i < nodes.size(); ++i) {
    Node& n = nodes[i];
    void* parameters[] = {&n.args};
    const auto& grid = n.shape->grid;
    const cuda::CuResult r = d_.launch(n.function, grid[0], grid[1], grid[2], n.kernel->threads, 1, 1,
                                       n.shape->dynamic_shared, stream_, parameters, nullptr);
    if (r != 0) return fail(d_.failed(r, fmt::format("cuLaunchKernel: {}", where(number, n))));
    if (mode_ == LaunchMode::kPlain) continue;
    if (const cuda::CuResult w = d_.stream_wait(stream_); w != 0) return fail(d_.failed(w, where(number, n)));
    const bool last = i + 1 == nodes.size() || nodes[i + 1].launch != n.launch;
    if (file && last) TRY(dump(program.launches[n.launch], step, *file));
  }
  if (file) return file->commit();
  return {};
}

Status CudaDevice::dump(const Launch& launch, const Step& step, StepDump& file) {
  std::vector<std::byte> bytes;
  for (const Operand& o : launch.outputs) {
    bytes.resize(StepDump::bytes(o, step));
    if (bytes.empty()) continue;
    TRY(check(d_.copy_to_host(bytes.data(), address(o), bytes.size(), stream_), "cuMemcpyDtoHAsync of a dump"));
    TRY(check(d_.stream_wait(stream_), "cuStreamSynchronize"));
    TRY(file.append(bytes));
  }
  return {};
}

// Returns the bytes that the step needs copied.
Result<uint64_t> CudaDevice::fill_inputs(size_t program, const Step& step) {
  items_.clear();
  if (const auto& shape = programs_[program].attention) {
    cuda::attention_work(*shape, step.positions, step.sequences, items_);
    const uint64_t bytes = items_.size() * sizeof(cuda::AttentionItem);
    if (bytes > memory_.work_bytes) {
      return error(Code::kInternal, "{} attention items for {} tokens, more than there is room for", items_.size(),
                   step.token_count());
    }
    std::memcpy(inputs_ + memory_.work, items_.data(), bytes);
  }
  const cuda::StepSizes sizes = {static_cast<int>(step.token_count()), static_cast<int>(step.row_count()),
                                 static_cast<int>(step.sequence_count), static_cast<int>(items_.size())};
  std::memcpy(inputs_ + memory_.sizes, &sizes, sizeof sizes);
  // In the order of step_inputs().
  const auto bytes = [](const auto& values) { return std::as_bytes(std::span(values)); };
  const std::span<const std::byte> inputs[] = {bytes(step.tokens), bytes(step.positions),   bytes(step.sequences),
                                               bytes(step.slots),  bytes(step.block_table), bytes(step.rows),
                                               bytes(asked_)};
  assert(std::size(inputs) == memory_.step_inputs.size());
  uint64_t end = 0;
  for (size_t i = 0; i < std::size(inputs); ++i) {
    std::copy(inputs[i].begin(), inputs[i].end(), inputs_ + memory_.step_inputs[i]);
    end = std::max(end, memory_.step_inputs[i] + inputs[i].size());
  }
  return end;
}

Status CudaDevice::fits(size_t number, const Step& step) const {
  if (lost_) return *lost_;
  const Program& program = plan_.programs[number];
  if (step.token_count() <= program.max_tokens && step.sequence_count <= program.max_sequences &&
      step.row_count() <= program.max_rows) {
    return {};
  }
  return error(Code::kInternal,
               "a step of {} tokens, {} sequences and {} rows does not fit program '{}' of {}, {} and {}",
               step.token_count(), step.sequence_count, step.row_count(), program.name, program.max_tokens,
               program.max_sequences, program.max_rows);
}

// Everything up to the logits; asked_ says which rows are to have shortlists too.
Status CudaDevice::start(size_t number, const Step& step) {
  TRY(check(d_.context_set(context_), "cuCtxSetCurrent"));
  TRY(prepare(number));
  TRY_ASSIGN(const uint64_t bytes, fill_inputs(number, step));
  TRY(check(d_.copy_to_device(base_ + memory_.inputs, inputs_, bytes, stream_), "cuMemcpyHtoDAsync of step inputs"));
  if (!graphs()) return launch_plain(number, step);
  return check(d_.exec_launch(programs_[number].exec, stream_),
               fmt::format("cuGraphLaunch of {}", plan_.programs[number].name));
}

Status CudaDevice::finish(size_t number) {
  if (const cuda::CuResult r = d_.stream_wait(stream_); r != 0) {
    return fail(d_.failed(r, fmt::format("{}: one of {} kernels failed (checked launches say which)",
                                         plan_.programs[number].name, programs_[number].nodes.size())));
  }
  if (programs_[number].times != nullptr) TRY(programs_[number].times->collect());
  return {};
}

// To the same rows of logits_, ascending. A copy costs about as much as 100 KB, so neighbours go together, and with
// most rows the others between them, which join `rows`.
Status CudaDevice::copy_logits(std::vector<uint32_t>& rows) {
  if (2 * rows.size() > asked_.size()) {
    const uint32_t first = rows.front();
    rows.resize(rows.back() - first + 1);
    std::iota(rows.begin(), rows.end(), first);
  }
  const uint64_t row_bytes = sizeof(float) * uint64_t{plan_.model.vocab_size};
  for (size_t begin = 0, end = 0; begin < rows.size(); begin = end) {
    end = begin + 1;
    while (end < rows.size() && rows[end] == rows[end - 1] + 1) ++end;
    const uint64_t offset = rows[begin] * row_bytes, bytes = (end - begin) * row_bytes;
    TRY(check(d_.copy_to_host(reinterpret_cast<std::byte*>(logits_) + offset, base_ + memory_.logits + offset, bytes,
                              stream_),
              "cuMemcpyDtoHAsync of logits"));
  }
  return {};
}

Status CudaDevice::read_lists() {
  lists_.assign(asked_.size(), {});
  candidates_.resize(asked_.size() * kShortlist);
  for (size_t i = 0; i < asked_.size(); ++i) {
    if (asked_[i] == 0) continue;
    const std::span<const float> words(list_words_ + i * kShortlistWords, kShortlistWords);
    auto list =
        read_shortlist(words, plan_.model.vocab_size, std::span(candidates_).subspan(i * kShortlist, kShortlist));
    if (!list) return std::move(list).error().in(fmt::format("row {}", i));
    lists_[i] = *list;
  }
  return {};
}

Result<std::span<const float>> CudaDevice::run(size_t number, const Step& step) {
  TRY(fits(number, step));
  asked_.assign(step.row_count(), 0.0F);
  TRY(start(number, step));
  whole_.resize(step.row_count());
  std::iota(whole_.begin(), whole_.end(), 0U);
  TRY(copy_logits(whole_));
  TRY(finish(number));
  return std::span<const float>(logits_, size_t{step.row_count()} * plan_.model.vocab_size);
}

// Rows are decided by their shortlists where these suffice. Which rows need their logits follows from the parameters,
// and those are copied at once, or, for a few, from the list: they cost a second copy.
Result<std::span<const SampledToken>> CudaDevice::run_sampled(size_t number, const Step& step,
                                                              std::span<const RowSampling> rows) {
  if (!plan_.programs[number].has_shortlists) return Device::run_sampled(number, step, rows);
  TRY(fits(number, step));
  if (rows.size() != step.row_count()) {
    return error(Code::kInternal, "{} rows to sample, the step has {}", rows.size(), step.row_count());
  }
  asked_.clear();
  whole_.clear();
  for (const RowSampling& row : rows) {
    asked_.push_back(shortlist_factor(row, plan_.model.vocab_size));
    if (asked_.back() == 0) whole_.push_back(static_cast<uint32_t>(asked_.size() - 1));
  }
  TRY_ASSIGN(HostSampling* const host, sampling());
  TRY(start(number, step));
  if (whole_.size() < rows.size()) {
    TRY(check(d_.copy_to_host(list_words_, base_ + memory_.shortlists, sizeof(float) * kShortlistWords * rows.size(),
                              stream_),
              "cuMemcpyDtoHAsync of shortlists"));
  }
  TRY(copy_logits(whole_));
  TRY(finish(number));
  TRY(read_lists());
  const std::span<const uint32_t> rest = host->sample_lists(lists_, rows);
  late_.clear();
  std::set_difference(rest.begin(), rest.end(), whole_.begin(), whole_.end(), std::back_inserter(late_));
  if (!late_.empty()) {
    TRY(copy_logits(late_));
    TRY(check(d_.stream_wait(stream_), "cuStreamSynchronize"));
  }
  return host->sample_rest({logits_, rows.size() * plan_.model.vocab_size}, rows);
}

Status CudaDevice::copy_pages(std::span<const PageCopy> copies) {
  if (lost_) return *lost_;
  TRY(check(d_.context_set(context_), "cuCtxSetCurrent"));
  for (const PageCopy& copy : copies) {
    if (copy.from >= plan_.pages || copy.to >= plan_.pages) {
      return error(Code::kInternal, "a copy of page {} to {} of {}", copy.from, copy.to, plan_.pages);
    }
    if (copy.from == copy.to) continue;
    for (const KvCache& cache : plan_.kv_caches) {
      const uint64_t bytes = cache.bytes / plan_.pages;
      const CuPointer pages = base_ + memory_.kv + cache.offset;
      TRY(check(d_.copy_on_device(pages + copy.to * bytes, pages + copy.from * bytes, bytes, stream_),
                "cuMemcpyDtoDAsync of a KV page"));
    }
  }
  return {};
}

}  // namespace

const GpuTarget* find_target(const Plan& plan, int sm) {
  const GpuTarget* best = nullptr;
  for (const GpuTarget& t : plan.gpu_targets) {
    if (static_cast<int>(t.sm) == sm) return &t;
    const bool ptx = !t.kernels.empty() &&
                     std::all_of(t.kernels.begin(), t.kernels.end(), [](const GpuKernel& k) { return !k.ptx.empty(); });
    if (ptx && t.sm != 0 && static_cast<int>(t.sm) < sm) best = &t;
  }
  return best;
}

Result<const GpuTarget*> choose_target(const Plan& plan, const cuda::DeviceFacts& device, int driver_version) {
  const GpuTarget* target = find_target(plan, device.sm);
  if (target == nullptr) {
    return unsupported("the plan is for {}, and the GPU found is {} (sm_{}); compile it with --target sm_{}",
                       plan.target, device.name, device.sm, device.sm);
  }
  // A driver compiles PTX of its own toolkit and older ones; it says so itself.
  const bool own_code = static_cast<int>(target->sm) == device.sm;
  if (own_code && driver_version < static_cast<int>(target->driver)) {
    return unsupported("the plan's code for {} needs a CUDA driver of {}.{} or newer, this one is {}.{}", target->name,
                       target->driver / 1000, target->driver % 1000 / 10, driver_version / 1000,
                       driver_version % 1000 / 10);
  }
  return target;
}

Result<std::unique_ptr<Device>> open_cuda_device(const ValidatedPlan& plan, const CudaOptions& options) {
  assert(plan->backend == Backend::kGpu);
  TRY_ASSIGN(auto driver, Driver::open());
  if (options.ordinal < 0 || options.ordinal >= driver->devices()) {
    return unsupported("GPU {}, but the driver finds {}", options.ordinal, driver->devices());
  }
  TRY_ASSIGN(cuda::DeviceFacts facts, cuda::device_facts(*driver, options.ordinal));
  TRY_ASSIGN(const GpuTarget* const target, choose_target(*plan, facts, driver->version()));
  const bool from_ptx = static_cast<int>(target->sm) != facts.sm;
  auto device = std::make_unique<CudaDevice>(*plan, *target, from_ptx, std::move(driver), std::move(facts), options);
  TRY(device->open(plan, options));
  return std::unique_ptr<Device>(std::move(device));
}

}  // namespace ll
