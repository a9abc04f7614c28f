#include "runtime/base/read_bandwidth.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace ll {
namespace {

TEST(ReadBandwidth, IsMeasuredAgainAndAgain) {
  for (const int threads : {1, 2, 3}) {
    auto reader = ReadBandwidth::open(1 << 20, threads);
    ASSERT_TRUE(reader) << reader.error().message;
    for (const int passes : {1, 2, 5}) {
      const double rate = (*reader)->measure(passes);
      EXPECT_TRUE(std::isfinite(rate) && rate > 0) << rate;
    }
  }
}

TEST(ReadBandwidth, WhoMeasuresRunsWhereItRanBefore) {
  const CpuSet here = CpuSet::of_this_thread();
  const std::vector<int> first(1, here.cpus().front());
  const std::vector<CpuSet> cpus(2, CpuSet(first));
  auto reader = ReadBandwidth::open(1 << 20, 2, cpus);
  ASSERT_TRUE(reader) << reader.error().message;
  EXPECT_GT((*reader)->measure(), 0);
  EXPECT_EQ(CpuSet::of_this_thread().cpus(), here.cpus());
}

TEST(ReadBandwidth, MemoryThatThereIsNot) {
  const auto reader = ReadBandwidth::open(uint64_t{1} << 62, 2);
  ASSERT_FALSE(reader);
  EXPECT_EQ(reader.error().code, Code::kOutOfMemory);
}

}  // namespace
}  // namespace ll
