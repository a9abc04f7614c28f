// The numerics suite on the emulator: walks families(). Each family runs every case of its catalog kernel's generator
// (kernels/numerics.h) from the same .cuh sources that GPUs run, with poisoned outputs and workspace, every operand
// ending at memory that faults, grids made for more rows than the step has, and several orders of threads and blocks;
// results are compared with the scalar reference, and with each other bit for bit.
#include "kernels/cuda/device_cases.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>

#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/emulator/emulator.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/layouts.h"

namespace ll::cuda {
static void PrintTo(const Family& family, std::ostream* out) { *out << family.kernel; }
}  // namespace ll::cuda

namespace ll::numerics {
namespace {

using cuda::Family;
using cuda::KernelLaunch;

constexpr std::byte kPoison{0xff};  // NaN as f32, f16 and scale
constexpr std::byte kGuard{0xa5};
constexpr int64_t kPage = 4096;

// Memory that ends, to 16 bytes (4 for slices), at a page that faults.
class DeviceMemory {
 public:
  DeviceMemory(int64_t bytes, int64_t alignment) : bytes_(bytes) {
    const int64_t used = (bytes + alignment - 1) / alignment * alignment;
    mapped_ = (used + kPage - 1) / kPage * kPage + 2 * kPage;
    void* memory =
        mmap(nullptr, static_cast<size_t>(mapped_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    base_ = static_cast<std::byte*>(memory);
    if (mprotect(base_, kPage, PROT_NONE) != 0 || mprotect(base_ + mapped_ - kPage, kPage, PROT_NONE) != 0)
      std::abort();
    data_ = base_ + mapped_ - kPage - used;
    std::fill(base_ + kPage, base_ + mapped_ - kPage, kGuard);
    std::fill_n(data_, bytes, kPoison);
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory() { munmap(base_, static_cast<size_t>(mapped_)); }

  std::byte* data() const { return data_; }
  bool guards_hold() const {
    return std::all_of(base_ + kPage, data_, [](std::byte b) { return b == kGuard; }) &&
           std::all_of(data_ + bytes_, base_ + mapped_ - kPage, [](std::byte b) { return b == kGuard; });
  }

 private:
  int64_t bytes_, mapped_ = 0;
  std::byte *base_ = nullptr, *data_ = nullptr;
};

// An operand on the device, rows at their distance, guard bytes between them.
class DeviceTensor {
 public:
  explicit DeviceTensor(const Tensor& t) : type_(t.type), rows_(rows_of(t.type)), dense_(dense_row_bytes(t.type)) {
    if (t.type.layout != Layout::kRows) {
      dense_ = *tensor_bytes(t.type.dtype, t.type.layout, rows_, t.type.last().value);
      rows_ = 1;
    }
    const bool slice = t.row_bytes > dense_;
    distance_ = slice ? t.row_bytes : dense_;
    memory_ = std::make_unique<DeviceMemory>(rows_ > 0 ? (rows_ - 1) * distance_ + dense_ : 0, slice ? 4 : 16);
    const std::vector<std::byte> bytes = as_gpus_hold(t.type, t.bytes);
    for (int64_t r = 0; r < rows_; ++r) {
      std::byte* row = memory_->data() + r * distance_;
      if (!bytes.empty()) std::copy_n(bytes.data() + r * dense_, dense_, row);
      if (r + 1 < rows_) std::fill(row + dense_, row + distance_, kGuard);
    }
  }
  std::byte* data() const { return memory_->data(); }
  // As CPUs hold it.
  std::vector<std::byte> contents() const {
    std::vector<std::byte> all(static_cast<size_t>(rows_ * dense_));
    for (int64_t r = 0; r < rows_; ++r) std::copy_n(data() + r * distance_, dense_, all.data() + r * dense_);
    return as_cpus_hold(type_, std::move(all));
  }
  bool guards_hold() const {
    for (int64_t r = 0; r + 1 < rows_; ++r) {
      const std::byte* row = data() + r * distance_;
      if (!std::all_of(row + dense_, row + distance_, [](std::byte b) { return b == kGuard; })) return false;
    }
    return memory_->guards_hold();
  }

 private:
  TensorType type_;
  int64_t rows_, dense_, distance_ = 0;
  std::unique_ptr<DeviceMemory> memory_;
};

// Runs the launches of one op. Reports writes outside outputs and workspace, and changed inputs, as test failures.
Result<Outputs> run(cuda::Emulator& emulator, const std::vector<KernelLaunch>& launches, const Case& c, uint64_t seed) {
  std::vector<DeviceTensor> in, out;
  for (const Tensor& t : c.in) in.emplace_back(t);
  for (size_t i = 0; i < c.out.size(); ++i) {
    const int shared = shared_input(c, i);
    out.emplace_back(shared < 0 ? c.out[i] : c.in[static_cast<size_t>(shared)]);
  }
  cuda::Args args{};
  for (size_t i = 0; i < in.size(); ++i) args.in[i] = in[i].data();
  for (size_t i = 0; i < out.size(); ++i) {
    args.out[i] = out[i].data();
    const int shared = shared_input(c, i);
    if (shared >= 0) args.in[shared] = args.out[i];
  }
  int64_t workspace_bytes = 0, zeroed = 0;
  for (const KernelLaunch& launch : launches) {
    workspace_bytes = std::max(workspace_bytes, static_cast<int64_t>(launch.workspace));
    zeroed = std::max(zeroed, static_cast<int64_t>(launch.workspace_zeroed));
  }
  const DeviceMemory workspace(workspace_bytes, 16), step_memory(sizeof(cuda::StepSizes), 16);
  std::fill_n(workspace.data(), zeroed, std::byte{0});
  args.workspace = workspace.data();
  std::vector<std::byte> items;
  if (launches.front().instance.function == "attention") items = attention_work_of(c, launches.front().grid[0]);
  const DeviceMemory work(std::ssize(items), 16);
  std::copy(items.begin(), items.end(), work.data());
  args.work = work.data();
  const cuda::StepSizes step{size_of(c, Symbol::kT), size_of(c, Symbol::kR), size_of(c, Symbol::kS),
                             static_cast<int>(items.size() / sizeof(cuda::AttentionItem))};
  std::memcpy(step_memory.data(), &step, sizeof(step));
  args.step = reinterpret_cast<const cuda::StepSizes*>(step_memory.data());

  for (const KernelLaunch& launch : launches) TRY(emulator.launch(launch, args, seed));

  Outputs outputs;
  for (const DeviceTensor& t : out) {
    EXPECT_TRUE(t.guards_hold()) << "wrote outside output " << outputs.size();
    outputs.push_back(t.contents());
  }
  for (size_t i = 0; i < in.size(); ++i) {
    EXPECT_TRUE(in[i].guards_hold() && in[i].contents() == c.in[i].bytes) << "changed input " << i;
  }
  EXPECT_TRUE(workspace.guards_hold()) << "wrote outside its " << workspace_bytes << " bytes of workspace";
  EXPECT_TRUE(std::all_of(workspace.data(), workspace.data() + zeroed, [](std::byte b) { return b == std::byte{0}; }))
      << "left the first " << zeroed << " bytes of the workspace other than 0";
  return outputs;
}

// Choices that must not change a bit: every kernel of an op accumulates each row in one order.
struct Variant {
  std::string_view kernel;
  cuda::Tuning tuning;
};
const std::vector<Variant>& variants() {
  static const std::vector<Variant> all = {
      {"norm_gated_linear_quantize", {{"linear.warps", 1}, {"linear.row_warps", 2}, {"linear.row_tiles", 16}}},
      {"norm_qkv_rope_kv_write", {{"linear.warps", 2}, {"linear.row_warps", 1}, {"linear.row_tiles", 1}}},
      {"norm_merged_linear", {{"linear.warps", 2}, {"linear.row_warps", 4}, {"linear.row_tiles", 4}}},
      {"linear_q8", {{"linear.kernel", 1}, {"linear.warps", 1}, {"linear.row_warps", 2}, {"linear.row_tiles", 2}}},
      {"attention", {{"attention.shared", 1}}},
      {"attention", {{"attention.blocks", 1}}},
      {"attention", {{"attention.shared", 1}, {"attention.blocks", 1000}}},
      {"attention", {{"attention.blocks", 1000}}},
  };
  return all;
}

Result<cuda::Emulator> open_emulator() {
  const std::string cache = std::string(LLCUDA_BINARY_DIR) + "/emulated";
  std::filesystem::create_directories(cache);
  return cuda::Emulator::open(std::string(LLCUDA_SOURCE_DIR) + "/kernels/cuda", cache);
}

class CudaNumerics : public testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    Result<cuda::Emulator> opened = open_emulator();
    if (!opened) GTEST_SKIP() << opened.error().message;
    emulator_.emplace(*std::move(opened));
  }
  std::optional<cuda::Emulator> emulator_;
};

TEST_P(CudaNumerics, MatchesReferenceInAnyOrder) {
  const Family& family = GetParam();
  const Kernel* const kernel = find_kernel(family.kernel);
  ASSERT_NE(kernel, nullptr) << "the catalog has no kernel '" << family.kernel << "'";
  const std::vector<Case> cases = device_cases(*kernel);
  std::vector<std::vector<KernelLaunch>> launches(cases.size());
  std::vector<cuda::Instance> instances;
  std::vector<std::vector<std::vector<KernelLaunch>>> others(cases.size());
  size_t supported = 0;
  for (size_t i = 0; i < cases.size(); ++i) {
    const Status lowered = family.lower(DeviceSpec(cases[i]).view(), cuda::Target{}, {}, launches[i]);
    if (!lowered) {
      ASSERT_EQ(lowered.error().code, Code::kUnsupported) << cases[i].name << ": " << lowered.error().message;
      launches[i].clear();
      continue;
    }
    ++supported;
    ASSERT_FALSE(launches[i].empty()) << cases[i].name;
    for (const KernelLaunch& launch : launches[i]) instances.push_back(launch.instance);
    for (const Variant& variant : variants()) {
      if (variant.kernel != family.kernel) continue;
      std::vector<KernelLaunch>& other = others[i].emplace_back();
      const Status varied = family.lower(DeviceSpec(cases[i]).view(), cuda::Target{}, variant.tuning, other);
      ASSERT_TRUE(varied) << cases[i].name << ": " << varied.error().message;
      for (const KernelLaunch& launch : other) instances.push_back(launch.instance);
    }
  }
  ASSERT_GT(supported, 0u) << "none of the cases has a kernel";
  const Status prepared = emulator_->prepare(instances);
  ASSERT_TRUE(prepared) << prepared.error().message;

  for (size_t i = 0; i < cases.size(); ++i) {
    if (launches[i].empty()) continue;
    const Case& c = cases[i];
    SCOPED_TRACE(c.name);
    const Outputs want = numerics::run(*kernel, Isa::kScalar, c, 1);
    Outputs first;
    for (const uint64_t seed : {0, 1, 5}) {
      const Result<Outputs> got = run(*emulator_, launches[i], c, seed);
      ASSERT_TRUE(got) << got.error().message;
      if (seed == 0) {
        expect_near(c, c.tolerance_cuda.empty() ? c.tolerance : c.tolerance_cuda, *got, want);
        first = *got;
      } else {
        EXPECT_TRUE(*got == first) << "differs when threads and blocks run in the order of seed " << seed;
      }
      if (HasFailure()) return;
    }
    for (const std::vector<KernelLaunch>& other : others[i]) {
      const Result<Outputs> got = run(*emulator_, other, c, 2);
      ASSERT_TRUE(got) << got.error().message;
      ASSERT_TRUE(*got == first) << "differs when the choice is: " << other.front().note;
    }
  }
}

// Lowers a case and runs it.
Outputs run_family(cuda::Emulator& emulator, std::string_view kernel, const Case& c) {
  std::vector<KernelLaunch> launches;
  const Status lowered = cuda::find_family(kernel)->lower(DeviceSpec(c).view(), cuda::Target{}, {}, launches);
  EXPECT_TRUE(lowered) << kernel << ": " << lowered.error().message;
  std::vector<cuda::Instance> instances;
  for (const KernelLaunch& l : launches) instances.push_back(l.instance);
  const Status prepared = emulator.prepare(instances);
  EXPECT_TRUE(prepared) << kernel << ": " << prepared.error().message;
  Result<Outputs> got = run(emulator, launches, c, 1);
  EXPECT_TRUE(got) << kernel << ": " << got.error().message;
  return got ? *std::move(got) : Outputs();
}

// The queries and the cache that a step of one token makes in one kernel are those that a longer step makes in three.
TEST(CudaLaws, QkvInOneKernelGivesTheBitsOfItsParts) {
  Result<cuda::Emulator> emulator = open_emulator();
  if (!emulator) GTEST_SKIP() << emulator.error().message;
  int compared = 0;
  for (const Case& c : make_cases(*find_kernel("norm_qkv_rope_kv_write"))) {
    if (c.in[5].type.dim(3).value % 8 != 0) continue;  // no kernel of a GPU
    SCOPED_TRACE(c.name);
    const Outputs fused = run_family(*emulator, "norm_qkv_rope_kv_write", c);
    const int64_t k = c.in[0].type.last().value;
    int64_t width = 0;
    for (const size_t w : {2, 3, 4}) width += c.in[w].type.dim(0).value;
    const Dim t = c.in[0].type.dim(0);

    const Case norm{"", {c.in[0], c.in[1]}, {output(type(DType::kQ8A, {t, k}))}, {{"eps", 1e-5}}, {}, {}};
    Tensor normed{norm.out[0].type, 0, run_family(*emulator, "norm_quantize", norm).at(0)};
    Case product{"", {normed, c.in[2], c.in[3], c.in[4]}, {}, {{"parts", int64_t{3}}}, {}, {}};
    product.in.insert(product.in.end(), c.in.begin() + 9, c.in.end());
    product.out = {output(type(DType::kF32, {t, width}))};
    Tensor qkv{product.out[0].type, 0, run_family(*emulator, "merged_linear_q8", product).at(0)};
    const Case rope{"", {c.in[5], qkv, c.in[6], c.in[7], c.in[8]}, c.out, c.attrs, {-1, 0}, {}};
    EXPECT_TRUE(run_family(*emulator, "rope_kv_write", rope) == fused);
    ++compared;
  }
  EXPECT_GT(compared, 5);
}

INSTANTIATE_TEST_SUITE_P(Families, CudaNumerics, testing::ValuesIn(cuda::families().begin(), cuda::families().end()),
                         [](const auto& p) { return std::string(p.param.kernel); });

}  // namespace
}  // namespace ll::numerics
