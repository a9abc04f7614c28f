// Families at the shapes of real models, compiled for sm_75 and sm_90: no local memory (stack and spills), shared
// memory and registers within what the launch needs. Products: sass_test.cc.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "compiler/codegen/gpu.h"
#include "compiler/codegen/targets.h"
#include "kernels/cuda/prologue.h"
#include "kernels/kv_layout.h"
#include "kernels/quant/formats.h"
#include "runtime/plan/cubin.h"

namespace ll {
namespace {

constexpr int64_t kShared = 64 << 10, kRegisters = 64 << 10;

TensorType tensor(DType dtype, std::initializer_list<Dim> dims, Layout layout = Layout::kRows) {
  TensorType t{.dtype = dtype, .layout = layout, .rank = static_cast<int>(dims.size()), .dims = {}};
  std::copy(dims.begin(), dims.end(), t.dims.begin());
  return t;
}

struct Op {
  std::string_view kernel;
  std::string name;
  std::vector<TensorType> in, out;
  std::vector<Attr> attrs;
};

struct Heads {
  int64_t heads, kv_heads, head_dim;
};
// Qwen2.5-0.5B, Llama-3.1-8B, Phi-2's 80-wide heads, Gemma 2 2B.
constexpr Heads kHeads[] = {{14, 2, 64}, {32, 8, 128}, {32, 32, 80}, {8, 4, 256}};
constexpr DType kKvTypes[] = {DType::kF16, DType::kI8};

std::vector<Op> attention_ops(const Heads& h, DType kv_type) {
  std::vector<Op> ops;
  const TensorType kv = tensor(kv_type, {1024, 2 * h.kv_heads, kKvPageSize, h.head_dim});
  for (const int64_t tokens : {1, 512}) {
    const Dim t(Symbol::kT, tokens), s(Symbol::kS, std::min<int64_t>(tokens, 64));
    const TensorType q = tensor(DType::kF32, {t, h.heads * h.head_dim}), i = tensor(DType::kI32, {t});
    const std::string name = fmt::format("T={} heads={}/{} head_dim={} kv dtype {}", tokens, h.heads, h.kv_heads,
                                         h.head_dim, static_cast<int>(kv_type));
    ops.push_back({"attention",
                   name,
                   {q, kv, i, i, tensor(DType::kI32, {s, 128})},
                   {q},
                   {{"heads", h.heads},
                    {"kv_heads", h.kv_heads},
                    {"head_dim", h.head_dim},
                    {"scale", 0.1},
                    {"window", int64_t{0}}}});
    const TensorType qkv = tensor(DType::kF32, {t, (h.heads + 2 * h.kv_heads) * h.head_dim});
    ops.push_back({"rope_kv_write",
                   name,
                   {kv, qkv, i, i, tensor(DType::kF32, {h.head_dim / 2})},
                   {q, kv},
                   {{"heads", h.heads},
                    {"kv_heads", h.kv_heads},
                    {"head_dim", h.head_dim},
                    {"style", std::string_view("half")},
                    {"mscale", 1.0}}});
  }
  const TensorType rows = tensor(DType::kF32, {Dim(Symbol::kT, 64), h.kv_heads * h.head_dim});
  ops.push_back({"kv_write", "T=64", {kv, rows, rows, tensor(DType::kI32, {Dim(Symbol::kT, 64)})}, {kv}, {}});
  return ops;
}

std::vector<Op> row_ops() {
  std::vector<Op> ops;
  const Dim t(Symbol::kT, 64);
  for (const int64_t columns : {896, 2048, 4096, 8192, 14336}) {
    const TensorType x = tensor(DType::kF32, {t, columns}), w = tensor(DType::kF32, {columns}),
                     y = tensor(DType::kQ8A, {t, columns});
    const std::string name = fmt::format("{} columns", columns);
    ops.push_back({"rms_norm", name, {x, w}, {x}, {{"eps", 1e-5}}});
    ops.push_back({"norm_quantize", name, {x, w}, {y}, {{"eps", 1e-5}}});
    ops.push_back({"quantize", name, {x}, {y}, {}});
    ops.push_back({"add", name, {x, x}, {x}, {}});
    ops.push_back({"mul", name, {x, x}, {x}, {}});
  }
  const TensorType x = tensor(DType::kF32, {t, 4096});
  for (const std::string_view act : {"silu", "gelu", "gelu_tanh", "relu"}) {
    ops.push_back({"activation", std::string(act), {x}, {x}, {{"act", act}}});
  }
  ops.push_back({"gather_rows",
                 "",
                 {x, tensor(DType::kI32, {Dim(Symbol::kR, 8)})},
                 {tensor(DType::kF32, {Dim(Symbol::kR, 8), 4096})},
                 {}});
  ops.push_back({"rope",
                 "",
                 {x, tensor(DType::kI32, {t}), tensor(DType::kF32, {64})},
                 {x},
                 {{"head_dim", int64_t{128}}, {"style", std::string_view("half")}, {"mscale", 1.0}}});
  return ops;
}

struct Group {
  std::string name;
  std::vector<Op> ops;
};
void PrintTo(const Group& group, std::ostream* out) { *out << group.name; }
std::vector<Group> groups() {
  std::vector<Group> all = {{"rows", row_ops()}};
  for (const Heads& h : kHeads) {
    for (const DType kv : kKvTypes) {
      all.push_back({fmt::format("heads_{}_{}_{}_kv_{}", h.heads, h.kv_heads, h.head_dim, static_cast<int>(kv)),
                     attention_ops(h, kv)});
    }
  }
  return all;
}

class GpuKernels : public testing::TestWithParam<Group> {};

TEST_P(GpuKernels, KeepToTheirLimits) {
  for (const std::string_view name : {"sm_75", "sm_90"}) {
    const cuda::Target target = parse_targets(name, "")->gpus.at(0);
    SCOPED_TRACE(name);
    const auto nvrtc = Nvrtc::open("", target.sm);
    if (!nvrtc) GTEST_SKIP() << nvrtc.error().message;
    std::vector<cuda::KernelLaunch> launches;
    std::vector<std::string> names;
    std::vector<cuda::Instance> instances;
    for (const Op& op : GetParam().ops) {
      std::vector<int64_t> distances;
      for (const TensorType& t : op.in) {
        distances.push_back(t.rank == 4   ? kv_row_bytes(t.dtype, t.last().value)
                            : t.rank == 1 ? row_bytes(t.dtype, 1)
                                          : row_bytes(t.dtype, t.last().value));
      }
      std::vector<cuda::KernelLaunch> out;
      const Status lowered =
          cuda::find_family(op.kernel)->lower({{op.in, op.out, Attrs(op.attrs)}, distances}, target, {}, out);
      ASSERT_TRUE(lowered) << op.kernel << " " << op.name << ": " << lowered.error().message;
      for (cuda::KernelLaunch& l : out) {
        if (std::find(instances.begin(), instances.end(), l.instance) == instances.end()) {
          instances.push_back(l.instance);
          launches.push_back(l);
          names.push_back(fmt::format("{} {}", op.kernel, op.name));
        }
      }
    }
    GpuOptions options;
    options.cache_folder = std::string(LLCUDA_BINARY_DIR) + "/cubins";
    std::filesystem::create_directories(options.cache_folder);
    const auto compiled = compile_instances(instances, target, options);
    if (!compiled && compiled.error().code == Code::kUnsupported) GTEST_SKIP() << compiled.error().message;
    ASSERT_TRUE(compiled) << compiled.error().message;
    ASSERT_EQ(compiled->size(), instances.size());
    for (size_t i = 0; i < compiled->size(); ++i) {
      const CompiledInstance& c = (*compiled)[i];
      SCOPED_TRACE(names[i]);
      const auto cubin = read_cubin(std::as_bytes(std::span(c.code.cubin)));
      ASSERT_TRUE(cubin) << cubin.error().message;
      const CubinKernel* const k = cubin->find(c.name);
      ASSERT_NE(k, nullptr);
      EXPECT_EQ(k->local_bytes, 0u) << "stack or spills, at " << k->registers << " registers";
      // Registers are given out in eights; sm_90 reserves 1 KiB of shared memory a block.
      const int64_t blocks = c.instance.blocks_per_sm, threads = c.instance.threads;
      EXPECT_LE((k->registers + 7) / 8 * 8 * threads * blocks, kRegisters);
      EXPECT_LE(threads * blocks, 1024);
      EXPECT_LE(k->shared_bytes + launches[i].dynamic_shared, kShared + (target.sm >= 90 ? 1024 : 0));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, GpuKernels, testing::ValuesIn(groups()), [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace ll
