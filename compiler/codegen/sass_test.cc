// Gates on the machine code of the matrix products: instructions a weight byte, registers, spills, shared memory.
#include "compiler/codegen/sass.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <set>

#include "compiler/codegen/nvrtc.h"
#include "compiler/codegen/targets.h"
#include "kernels/cuda/families.h"
#include "kernels/cuda/linear_shapes.h"
#include "kernels/cuda/prologue.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/tile8.h"
#include "kernels/shortlist.h"
#include "runtime/plan/cubin.h"

namespace ll {
namespace {

struct Static {
  int registers = 0;
  uint32_t shared = 0, local = 0;
  SassReport sass;
};

Static compile(const Nvrtc& nvrtc, const cuda::Instance& instance, const cuda::Target& target) {
  const std::string name = cuda::kernel_name(instance);
  const auto code = nvrtc.compile(cuda::prologue(instance), name, target, false);
  EXPECT_TRUE(code) << (code ? "" : code.error().message);
  if (!code) return {};
  const auto cubin = read_cubin(std::as_bytes(std::span(code->cubin)));
  EXPECT_TRUE(cubin) << (cubin ? "" : cubin.error().message);
  if (!cubin || cubin->find(name) == nullptr) return {};
  const CubinKernel& k = *cubin->find(name);
  return {static_cast<int>(k.registers), k.shared_bytes, k.local_bytes, read_sass(k.code, cubin->sm)};
}

cuda::Target target(std::string_view name, std::string_view isa = "") { return parse_targets(name, isa)->gpus.at(0); }

std::vector<cuda::KernelLaunch> lower(const cuda::LinearShape& shape, int64_t tokens, const cuda::Target& t,
                                      const cuda::Tuning& tuning = {}) {
  const cuda::LinearLaunch launch(shape, tokens);
  std::vector<cuda::KernelLaunch> launches;
  const Status lowered = cuda::find_family(shape.kernel)->lower(launch.view(), t, tuning, launches);
  EXPECT_TRUE(lowered) << (lowered ? "" : lowered.error().message);
  return launches;
}

// Largest lane instructions a weight byte in GEMV's inner loop: goals for the formats that models are made of, what was
// reached for the others.
double most_instructions(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
    case DType::kQ8_0:
      return 2.1;
    case DType::kQ4_1:
      return 2.2;
    case DType::kQ4_K:
      return 2.5;
    case DType::kQ5_K:
    case DType::kQ6_K:
    case DType::kQ5_0:
    case DType::kQ5_1:
      return 3.5;
    case DType::kQ3_K:
      return 4.7;
    case DType::kQ2_K:
      return 5.2;
    default:
      return 6.6;  // the tables of iq4_nl and iq4_xs
  }
}

// LLCUDA_PRINT=1 prints what was found as rows of a table.
TEST(Sass, GemvKeepsToItsInstructionsAByte) {
  const cuda::Target targets[] = {target("t4"), target("sm_90")};
  for (const cuda::Target& t : targets) {
    const auto opened = Nvrtc::open("", t.sm);
    if (!opened) GTEST_SKIP() << opened.error().message;
    for (const Format& f : formats()) {
      if (f.kind != FormatKind::kQuantized) continue;
      const cuda::LinearPart parts[] = {{f.dtype, 4096}};
      const cuda::LinearShape shape{"", "", "linear_q8", parts, 4096};
      const auto launches = lower(shape, 1, t, {{"linear.ahead", 1}});
      ASSERT_EQ(launches.size(), 1u);
      const Static s = compile(**opened, launches[0].instance, t);
      const double units = f.dtype == DType::kQ8_0 ? 4 : 2;  // of a tile; a lane takes an eighth of one at a time
      const double bytes = static_cast<double>(tile8_bytes(f.dtype)) / 8 / units;
      const double each = s.sass.hottest.instructions / bytes;
      if (std::getenv("LLCUDA_PRINT") != nullptr) {
        fmt::print("| {} | {} | {} | {:.1f} | {:.2f} | {} | {} |\n", f.name, t.name, s.sass.hottest.instructions, bytes,
                   each, s.registers, s.shared);
      }
      SCOPED_TRACE(fmt::format("{} for {}", f.name, t.name));
      EXPECT_GT(s.sass.hottest.dots, 0);
      EXPECT_LE(each, most_instructions(f.dtype));
      // 64 on sm_75. Newer assemblers use what the launch bounds leave them, which for blocks of 256 threads is more
      // than the 72 that the blocks were counted by.
      const cuda::Instance& i = launches[0].instance;
      EXPECT_LE(s.registers, t.sm == 75 ? 64 : std::min(96, (64 << 10) / (i.threads * i.blocks_per_sm)));
      EXPECT_EQ(s.local, 0u);
      EXPECT_EQ(s.sass.local_accesses, 0);
    }
  }
}

TEST(Sass, ProductsOfModelsSpillNothing) {
  const cuda::Target targets[] = {target("t4"), target("sm_90", "sm_75")};
  for (const cuda::Target& t : targets) {
    const auto opened = Nvrtc::open("", t.sm);
    if (!opened) GTEST_SKIP() << opened.error().message;
    std::set<std::string> seen;
    for (const cuda::LinearShape& shape : cuda::linear_shapes()) {
      if (shape.model != "llama-3.1-8b") continue;
      for (const int64_t tokens : {1, 8, 64, 512}) {
        for (const cuda::KernelLaunch& launch : lower(shape, tokens, t)) {
          if (!seen.insert(cuda::kernel_name(launch.instance)).second) continue;
          SCOPED_TRACE(fmt::format("{} T={} for {} as {}: {}", shape.name, tokens, t.name, t.isa, launch.note));
          const Static s = compile(**opened, launch.instance, t);
          if (std::getenv("LLCUDA_PRINT") != nullptr) {
            fmt::print("| {} | {} | {} | {} | {} | {} | {} | {} |\n", shape.name, tokens, t.name,
                       s.sass.hottest.instructions, s.sass.hottest.dots + s.sass.hottest.mmas,
                       s.sass.hottest.float_operations, s.registers, s.shared);
          }
          EXPECT_GT(s.sass.hottest.dots + s.sass.hottest.mmas, 0);
          EXPECT_EQ(s.local, 0u);
          EXPECT_EQ(s.sass.local_accesses, 0);
          EXPECT_LE(s.shared, 48u << 10);
          EXPECT_LE(s.registers * launch.instance.threads * launch.instance.blocks_per_sm, 64 << 10);
        }
      }
    }
  }
}

TEST(Sass, ShortlistsSpillNothing) {
  for (const cuda::Target& t : {target("t4"), target("sm_90")}) {
    const auto opened = Nvrtc::open("", t.sm);
    if (!opened) GTEST_SKIP() << opened.error().message;
    for (const int64_t vocab : {32000, 128256, 151657, 1 << 20}) {
      const Dim rows(Symbol::kR, 64);
      const TensorType in[] = {{.rank = 2, .dims = {rows, Dim(vocab)}}, {.rank = 1, .dims = {rows}}};
      const TensorType out[] = {{.rank = 2, .dims = {rows, Dim(kShortlistWords)}}};
      const int64_t row_bytes[] = {4 * vocab, 4};
      std::vector<cuda::KernelLaunch> launches;
      ASSERT_TRUE(cuda::lower_shortlist({{in, out, {}}, row_bytes}, t, {}, launches));
      for (const cuda::KernelLaunch& launch : launches) {
        SCOPED_TRACE(fmt::format("{} of {} for {}", launch.instance.function, vocab, t.name));
        const Static s = compile(**opened, launch.instance, t);
        if (std::getenv("LLCUDA_PRINT") != nullptr) {
          fmt::print("| {} | {} | {} | {} | {} | {} |\n", launch.instance.function, vocab, t.name, s.registers,
                     s.shared, s.sass.instructions);
        }
        EXPECT_GT(s.registers, 0);
        EXPECT_EQ(s.local, 0u);
        EXPECT_EQ(s.sass.local_accesses, 0);
        EXPECT_LE(s.shared, 48u << 10);
      }
    }
  }
}

// A loop of three instructions, the middle one a dp4a, by hand: 0x947 at 32 goes back to 0.
TEST(Sass, FindsALoopOfEitherEncoding) {
  for (const uint32_t sm : {75u, 90u}) {
    uint64_t code[8] = {0x981, 0, 0x226, 0, 0, 0, 0x918, 0};
    const int64_t offset = -48;
    if (sm == 75) {
      code[4] = 0x947 | static_cast<uint64_t>(offset) << 32;
      code[5] = 0x3ffff;
    } else {
      code[4] = 0x947 | (static_cast<uint64_t>(offset / 4) & 0xff) << 16 | static_cast<uint64_t>(-1) << 34;
      code[5] = 0x3ffff;
    }
    const SassReport report = read_sass(std::as_bytes(std::span(code)), sm);
    EXPECT_EQ(report.instructions, 4) << sm;
    EXPECT_EQ(report.hottest.instructions, 3) << sm;
    EXPECT_EQ(report.hottest.dots, 1) << sm;
  }
  EXPECT_EQ(read_sass({}, 75).hottest.instructions, 0);
}

}  // namespace
}  // namespace ll
