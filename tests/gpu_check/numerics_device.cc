// The numerics suite on a GPU: every family's cases with the device's own instructions and with those of sm_75,
// compared with the scalar reference. The same cases as kernels/cuda/numerics_test.cc runs on the emulator.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "kernels/cuda/device_cases.h"
#include "kernels/cuda/prim/attention_item.h"
#include "kernels/quant/layouts.h"
#include "tests/gpu_check/device.h"

namespace ll::cuda {
static void PrintTo(const Family& family, std::ostream* out) { *out << family.kernel; }
}  // namespace ll::cuda

namespace ll::numerics {
namespace {

using cuda::Family;
using cuda::KernelLaunch;
using gpu_check::Gpu;
using gpu_check::Memory;

constexpr std::byte kPoison{0xff};  // NaN as f32, f16 and scale
constexpr std::byte kGuard{0xa5};

// An operand on the device, rows at their distance, guard bytes between them.
class DeviceTensor {
 public:
  DeviceTensor(Gpu& gpu, const Tensor& t) : type_(t.type), rows_(rows_of(t.type)), dense_(dense_row_bytes(t.type)) {
    if (t.type.layout != Layout::kRows) {
      dense_ = *tensor_bytes(t.type.dtype, t.type.layout, rows_, t.type.last().value);
      rows_ = 1;
    }
    distance_ = std::max(t.row_bytes, dense_);
    std::vector<std::byte> bytes(static_cast<size_t>(rows_ > 0 ? (rows_ - 1) * distance_ + dense_ : 0), kGuard);
    const std::vector<std::byte> held = as_gpus_hold(t.type, t.bytes);
    for (int64_t r = 0; r < rows_; ++r) {
      std::byte* row = bytes.data() + r * distance_;
      if (held.empty()) {
        std::fill_n(row, dense_, kPoison);
      } else {
        std::copy_n(held.data() + r * dense_, dense_, row);
      }
    }
    memory_ = std::make_unique<Memory>(gpu, bytes);
  }
  void* data() const { return memory_->data(); }
  // Rows, one after another, as CPUs hold them; sets `guards_hold`.
  std::vector<std::byte> contents(bool& guards_hold) const {
    const std::vector<std::byte> bytes = memory_->contents();
    std::vector<std::byte> all(static_cast<size_t>(rows_ * dense_));
    for (int64_t r = 0; r < rows_; ++r) {
      const std::byte* row = bytes.data() + r * distance_;
      std::copy_n(row, dense_, all.data() + r * dense_);
      if (r + 1 < rows_) {
        guards_hold &= std::all_of(row + dense_, row + distance_, [](std::byte b) { return b == kGuard; });
      }
    }
    return as_cpus_hold(type_, std::move(all));
  }

 private:
  TensorType type_;
  int64_t rows_, dense_, distance_ = 0;
  std::unique_ptr<Memory> memory_;
};

Result<Outputs> run(Gpu& gpu, const std::vector<KernelLaunch>& launches, const Case& c) {
  std::vector<DeviceTensor> in, out;
  for (const Tensor& t : c.in) in.emplace_back(gpu, t);
  for (size_t i = 0; i < c.out.size(); ++i) {
    const int shared = shared_input(c, i);
    out.emplace_back(gpu, shared < 0 ? c.out[i] : c.in[static_cast<size_t>(shared)]);
  }
  cuda::Args args{};
  for (size_t i = 0; i < in.size(); ++i) args.in[i] = in[i].data();
  for (size_t i = 0; i < out.size(); ++i) {
    args.out[i] = out[i].data();
    const int shared = shared_input(c, i);
    if (shared >= 0) args.in[shared] = args.out[i];
  }
  size_t workspace_bytes = 0, zeroed = 0;
  for (const KernelLaunch& l : launches) {
    workspace_bytes = std::max<size_t>(workspace_bytes, l.workspace);
    zeroed = std::max<size_t>(zeroed, l.workspace_zeroed);
  }
  std::vector<std::byte> bytes(workspace_bytes, kPoison);
  std::fill_n(bytes.begin(), zeroed, std::byte{0});
  const Memory workspace(gpu, bytes);
  args.workspace = workspace.data();
  std::vector<std::byte> items;
  if (launches.front().instance.function == "attention") items = attention_work_of(c, launches.front().grid[0]);
  const Memory work(gpu, items);
  args.work = work.data();
  const cuda::StepSizes sizes{size_of(c, Symbol::kT), size_of(c, Symbol::kR), size_of(c, Symbol::kS),
                              static_cast<int>(items.size() / sizeof(cuda::AttentionItem))};
  bytes.resize(sizeof sizes);
  std::memcpy(bytes.data(), &sizes, sizeof sizes);
  const Memory step(gpu, bytes);
  args.step = static_cast<const cuda::StepSizes*>(step.data());

  for (const KernelLaunch& l : launches) TRY(gpu.launch(l, args));

  Outputs outputs;
  bool guards = true;
  for (const DeviceTensor& t : out) outputs.push_back(t.contents(guards));
  EXPECT_TRUE(guards) << "wrote between the rows of an output";
  for (size_t i = 0; i < in.size(); ++i) {
    bool intact = true;
    EXPECT_TRUE(in[i].contents(intact) == c.in[i].bytes && intact) << "changed input " << i;
  }
  const std::vector<std::byte> left = workspace.contents();
  EXPECT_TRUE(std::all_of(left.begin(), left.begin() + static_cast<ptrdiff_t>(zeroed),
                          [](std::byte b) { return b == std::byte{0}; }))
      << "left the first " << zeroed << " bytes of the workspace other than 0";
  return outputs;
}

class DeviceNumerics : public testing::TestWithParam<std::tuple<Family, int>> {};

TEST_P(DeviceNumerics, MatchesReference) {
  const auto& [family, isa] = GetParam();
  const auto gpu = Gpu::get(isa);
  if (!gpu) GTEST_SKIP() << gpu.error().message;
  const Kernel* const kernel = find_kernel(family.kernel);
  ASSERT_NE(kernel, nullptr) << "the catalog has no kernel '" << family.kernel << "'";
  const std::vector<Case> cases = device_cases(*kernel);
  std::vector<std::vector<KernelLaunch>> launches(cases.size());
  std::vector<cuda::Instance> instances;
  for (size_t i = 0; i < cases.size(); ++i) {
    const Status lowered = family.lower(DeviceSpec(cases[i]).view(), (*gpu)->target(), {}, launches[i]);
    if (!lowered) {
      ASSERT_EQ(lowered.error().code, Code::kUnsupported) << cases[i].name << ": " << lowered.error().message;
      launches[i].clear();
    }
    for (const KernelLaunch& l : launches[i]) instances.push_back(l.instance);
  }
  ASSERT_FALSE(instances.empty()) << "none of the cases has a kernel";
  const Status prepared = (*gpu)->prepare(instances);
  ASSERT_TRUE(prepared) << prepared.error().message;
  for (size_t i = 0; i < cases.size(); ++i) {
    if (launches[i].empty()) continue;
    const Case& c = cases[i];
    SCOPED_TRACE(c.name);
    const Outputs want = numerics::run(*kernel, Isa::kScalar, c, 1);
    const Result<Outputs> got = run(**gpu, launches[i], c);
    if (!got && got.error().code == Code::kRetry) {
      // Nothing that follows in this process can run.
      fmt::print("[  FAILED  ] {} {}: {}\n", family.kernel, c.name, got.error().message);
      std::exit(75);
    }
    ASSERT_TRUE(got) << got.error().message;
    expect_near(c, c.tolerance_cuda.empty() ? c.tolerance : c.tolerance_cuda, *got, want);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, DeviceNumerics,
                         testing::Combine(testing::ValuesIn(cuda::families().begin(), cuda::families().end()),
                                          testing::Values(75, 0)),
                         [](const auto& p) {
                           return fmt::format("{}_{}", std::get<0>(p.param).kernel,
                                              std::get<1>(p.param) == 0 ? "native" : "sm_75");
                         });

}  // namespace
}  // namespace ll::numerics
