// The words of prim/ on the emulator: independent of the order of threads, and right where the host can say so.
#include "kernels/cuda/prim_check.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <filesystem>

#include "kernels/cuda/emulator/emulator.h"
#include "kernels/quant/half.h"

namespace ll::cuda {
namespace {

TEST(PrimCheck, OnTheEmulator) {
  const std::string cache = std::string(LLCUDA_BINARY_DIR) + "/emulated";
  std::filesystem::create_directories(cache);
  Result<Emulator> emulator = Emulator::open(LLCUDA_SOURCE_DIR "/kernels/cuda", cache);
  if (!emulator) GTEST_SKIP() << emulator.error().message;
  const uint64_t threads = prim_check_threads();
  const auto rows = prim_check_rows();
  const auto run = [&](uint64_t order) {
    std::vector<uint32_t> in = prim_check_inputs(1), out(rows.size() * threads + 4, 0xa5a5a5a5u), work(4 * threads);
    Args args{};
    alignas(16) static uint32_t aligned[8 * 1024];
    std::copy(in.begin(), in.end(), aligned);
    args.in[0] = aligned;
    args.out[0] = out.data();
    args.workspace = work.data();
    const Status launched = emulator->launch(prim_check_launch(), args, order);
    EXPECT_TRUE(launched) << launched.error().message;
    EXPECT_TRUE(std::all_of(work.begin(), work.end(), [](uint32_t w) { return w == 0; }));
    for (uint64_t i = rows.size() * threads; i < out.size(); ++i)
      EXPECT_EQ(out[i], 0xa5a5a5a5u) << "more rows than names";
    EXPECT_NE(out[rows.size() * threads - 1], 0xa5a5a5a5u) << "fewer rows than names";
    return out;
  };
  const std::vector<uint32_t> want = run(0);
  EXPECT_EQ(prim_check_differences(run(7), want), "");

  std::vector<uint32_t> wrong = want;
  wrong[threads + 5] ^= 1u;
  EXPECT_NE(prim_check_differences(wrong, want).find("fma: 1 of 1024 threads differ; thread 5"), std::string::npos);

  const std::vector<uint32_t> in = prim_check_inputs(1);
  const auto row = [&](std::string_view name) {
    const auto found = std::find(rows.begin(), rows.end(), name);
    EXPECT_NE(found, rows.end()) << name;
    return want.data() + static_cast<uint64_t>(found - rows.begin()) * threads;
  };
  const auto within = [](uint32_t random, float reach) {
    return static_cast<float>(static_cast<int32_t>(random)) * 0x1p-31f * reach;
  };
  const auto ulps = [](uint32_t got, double exact) {
    const float rounded = static_cast<float>(exact);
    return std::fabs(std::bit_cast<float>(got) - exact) /
           (std::nextafter(std::fabs(rounded), INFINITY) - std::fabs(rounded));
  };
  for (uint64_t t = 0; t < threads; ++t) {
    const uint32_t* r = in.data() + 8 * t;
    const float x = within(r[0], 140.0f) - 12.0f;
    if (x >= -126 && x < 128) {
      EXPECT_LE(ulps(row("exp2")[t], std::exp2(double{x})), 2.0) << x;
    }
    const float y = within(r[1], 95.0f);
    if (y > -87 && y < 88) {
      EXPECT_LE(ulps(row("exp")[t], std::exp(double{y})), 3.0) << y;
    }
    const double angle = within(r[2], 0x1p22f);
    EXPECT_LE(ulps(row("sine_cosine sine")[t], std::sin(angle)), 0.501) << angle;
    EXPECT_LE(ulps(row("sine_cosine cosine")[t], std::cos(angle)), 0.501) << angle;
    const float number = std::bit_cast<float>((r[0] & 0x7fffffu) | (111 + (r[0] >> 23 & 31u)) << 23);
    EXPECT_LE(ulps(row("reciprocal")[t], 1.0 / number), 2.0) << number;
    EXPECT_EQ(row("f16_from_f32")[t], f32_to_f16(within(r[0], 70000.0f)));
    EXPECT_EQ(row("round_to_int")[t], static_cast<uint32_t>(std::lrint(within(r[0], 1000.0f))));
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace ll::cuda
