// The emulator finds what it says it finds. Each case is a small source with one mistake.
#include "kernels/cuda/emulator/emulator.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <numeric>
#include <optional>
#include <vector>

#include "kernels/cuda/prologue.h"

namespace ll::cuda {
namespace {

class EmulatorTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("llcuda_emulator_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
    std::filesystem::create_directory_symlink(LLCUDA_SOURCE_DIR "/kernels/cuda/prim", folder_ / "prim");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // Compiles `body` as the kernel "probe" and runs it over words of memory.
  Status run(const std::string& body, uint64_t seed = 0, int threads = 64, uint32_t blocks = 1) {
    std::ofstream(folder_ / "probe.cuh") << "#pragma once\n#include \"prim/block.cuh\"\n#include \"prim/memory.cuh\"\n"
                                            "#include \"prim/mma.cuh\"\nnamespace ll::cuda {\n"
                                            "template <class C> __device__ void probe(const Args& args) {\n"
                                            "  u32* out = static_cast<u32*>(args.out[0]);\n"
                                         << body << "\n}\n}\n";
    Result<Emulator> emulator = Emulator::open(folder_, folder_);
    if (!emulator) return emulator.error();
    KernelLaunch launch;
    launch.instance = {"probe.cuh", "probe", {{"kAnswer", 42}}, threads, 1};
    launch.grid = {blocks, 1, 1};
    Args args{};
    args.out[0] = words_.data();
    return emulator->launch(launch, args, seed);
  }
  // Seeds until one finds the mistake; empty when none does.
  std::string message(const std::string& body, uint64_t seed = 0) {
    const Status status = run(body, seed);
    return status ? "" : status.error().message;
  }

  std::filesystem::path folder_;
  std::vector<uint32_t> words_ = std::vector<uint32_t>(4096);
};

#define NEEDS_COMPILER()                                                 \
  if (const Result<Emulator> e = Emulator::open(folder_, folder_); !e) { \
    GTEST_SKIP() << e.error().message;                                   \
  }

TEST_F(EmulatorTest, RunsThreadsAndBlocks) {
  NEEDS_COMPILER();
  const std::string body =
      "SHARED(u32, all, 64);\n"
      "all[threadIdx.x] = threadIdx.x + blockIdx.x; sync_block();\n"
      "out[blockIdx.x * 64 + threadIdx.x] = all[63 - threadIdx.x] * C::kAnswer;";
  for (const uint64_t seed : {0, 1, 2, 3}) {
    ASSERT_TRUE(run(body, seed, 64, 5));
    for (uint32_t i = 0; i < 320; ++i) ASSERT_EQ(words_[i], (63 - i % 64 + i / 64) * 42) << i << " seed " << seed;
  }
}

TEST_F(EmulatorTest, WordsOfAWarp) {
  NEEDS_COMPILER();
  ASSERT_TRUE(
      run("out[threadIdx.x] = shuffle_xor(threadIdx.x, 5);\n"
          "out[64 + threadIdx.x] = ballot(lane() % 3 == 0);\n"
          "out[128 + threadIdx.x] = shuffle_up(threadIdx.x, 2);\n"
          "out[192 + threadIdx.x] = static_cast<u32>(block_sum<64>(static_cast<float>(threadIdx.x)));\n"
          "out[256 + threadIdx.x] = static_cast<u32>(warp_sum<8>(lane()));\n"));
  for (uint32_t i = 0; i < 64; ++i) {
    EXPECT_EQ(words_[i], i ^ 5u);
    EXPECT_EQ(words_[64 + i], 0x49249249u);
    EXPECT_EQ(words_[128 + i], i % 32 < 2 ? i : i - 2);
    EXPECT_EQ(words_[192 + i], 63u * 32u);
    EXPECT_EQ(words_[256 + i], 8 * (i % 32 / 8 * 8) + 28);
  }
}

// a[i][k] = i + k, b[k][j] = (k == j): the identity gives a back, and so shows where each element lies.
TEST_F(EmulatorTest, FragmentsOfAMatrixProduct) {
  NEEDS_COMPILER();
  ASSERT_TRUE(
      run("const int g = lane() / 4, t = lane() % 4;\n"
          "float d[4] = {0, 0, 0, 0};\n"
          "const auto pair = [](int row, int k) {\n"
          "  return pack_f16(static_cast<float>(16 * row + k), static_cast<float>(16 * row + k + 1)); };\n"
          "mma_m16n8k8_f16(d, pair(g, 2 * t), pair(g + 8, 2 * t), pack_f16(2 * t == g, 2 * t + 1 == g));\n"
          "for (int i = 0; i < 4; ++i) out[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = static_cast<u32>(d[i]);\n"
          "SHARED(u16, tile, 64);\n"
          "for (int i = lane(); i < 64; i += 32) tile[i] = i;\n"
          "sync_warp();\n"
          "u32 m[1]; load_matrix_x1(m, tile + lane() % 8 * 8);\n"
          "out[128 + g * 4 + t] = m[0];\n"
          "int e[2] = {1000, 1000};\n"
          "mma_m8n8k16_ss(e, 0x01010101u * (lane() + 1), lane() == 0 ? 0xff000000u : 0);\n"
          "out[256 + g * 8 + 2 * t] = e[0];\n",
          0, 32));
  for (uint32_t row = 0; row < 16; ++row) {
    for (uint32_t k = 0; k < 8; ++k) EXPECT_EQ(words_[row * 8 + k], 16 * row + k);
  }
  for (uint32_t i = 0; i < 32; ++i) EXPECT_EQ(words_[128 + i], 2 * i | (2 * i + 1) << 16);
  // b has -1 in row 3 of column 0 alone; a[row][3] is the byte of lane 4 * row.
  for (uint32_t row = 0; row < 8; ++row) EXPECT_EQ(words_[256 + row * 8], 1000 - (4 * row + 1));
}

TEST_F(EmulatorTest, ABarrierThatNotAllReach) {
  NEEDS_COMPILER();
  EXPECT_NE(message("if (threadIdx.x < 32) sync_block();").find("have returned, 32 wait in sync_block"),
            std::string::npos);
  EXPECT_NE(
      message("if (threadIdx.x == 3) return; shuffle_xor(1u, 1);").find("33 have returned, 31 wait in shuffle_xor"),
      std::string::npos);
  const std::string mixed = message("if (lane() < 16) shuffle_xor(1u, 1); else ballot(true);");
  EXPECT_NE(mixed.find("expected the whole warp at one place"), std::string::npos) << mixed;
}

TEST_F(EmulatorTest, AccessesOutside) {
  NEEDS_COMPILER();
  const std::string shared =
      message("SHARED(u32, a, 64); u32* p = a; p[threadIdx.x + 1] = 1; out[threadIdx.x] = p[threadIdx.x];");
  EXPECT_NE(shared.find("thread (63,0,0): access to"), std::string::npos) << shared;
  const std::string index = message("u32 a[4] = {}; a[threadIdx.x] = 1; out[threadIdx.x] = a[threadIdx.x / 2];");
  EXPECT_NE(index.find("an index outside its array"), std::string::npos) << index;
  const std::string null = message("out = nullptr; out[threadIdx.x] = 1;");
  EXPECT_NE(null.find("access to 0x0"), std::string::npos) << null;
  EXPECT_NE(message("load_once(reinterpret_cast<const U32x4*>(out + threadIdx.x));").find("not aligned"),
            std::string::npos);
  EXPECT_NE(message("SHARED(u32, a, 13000); a[0] = 1;").find("static shared memory"), std::string::npos);
}

TEST_F(EmulatorTest, WaitingForEver) {
  NEEDS_COMPILER();
  EXPECT_NE(message("while (load_acquire(out + 4000) == 0) sleep(100);").find("waits for ever"), std::string::npos);
}

// A neighbour's value without a barrier: what is read depends on who ran first.
TEST_F(EmulatorTest, ARaceDependsOnTheSeed) {
  NEEDS_COMPILER();
  const std::string body =
      "SHARED(u32, a, 64); a[threadIdx.x] = threadIdx.x; out[threadIdx.x] = a[(threadIdx.x + 1) % 64];";
  bool differs = false;
  ASSERT_TRUE(run(body, 0));
  const std::vector<uint32_t> first = words_;
  for (uint64_t seed = 1; seed < 4; ++seed) {
    ASSERT_TRUE(run(body, seed));
    differs = differs || words_ != first;
  }
  EXPECT_TRUE(differs);
  EXPECT_EQ(first[0], 0xffffffffu) << "thread 0 ran first and read what nobody had written";
}

TEST_F(EmulatorTest, SourcesThatDoNotCompile) {
  NEEDS_COMPILER();
  const std::string text = message("out[0] = no_such_word();");
  EXPECT_NE(text.find("no_such_word"), std::string::npos) << text;
}

TEST(Prologue, NamesFollowTheInstance) {
  const Instance a{"a.cuh", "a", {{"kK", 3}, {"kBig", int64_t{1} << 40}}, 128, 2};
  Instance b = a;
  EXPECT_EQ(kernel_name(a), kernel_name(b));
  b.constants[0].second = 4;
  EXPECT_NE(kernel_name(a), kernel_name(b));
  const std::string text = prologue(a);
  EXPECT_NE(text.find("static constexpr int kK = 3;"), std::string::npos) << text;
  EXPECT_NE(text.find("static constexpr long long kBig = 1099511627776;"), std::string::npos) << text;
  EXPECT_NE(text.find("__launch_bounds__(128, 2)"), std::string::npos) << text;
}

}  // namespace
}  // namespace ll::cuda
