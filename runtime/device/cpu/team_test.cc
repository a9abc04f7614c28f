#include "runtime/device/cpu/team.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <xmmintrin.h>

#include <array>
#include <chrono>
#include <numeric>

namespace ll {
namespace {

std::unique_ptr<Team> make(int threads) {
  auto team = Team::create(threads);
  EXPECT_TRUE(team);
  return std::move(*team);
}

TEST(Team, SizesOutOfRangeAreUsageErrors) {
  for (const int threads : {0, -1, kMaxThreads + 1}) {
    const auto team = Team::create(threads);
    ASSERT_FALSE(team);
    EXPECT_EQ(team.error().code, Code::kUsage);
  }
}

TEST(Team, StartsAndStopsWithoutWork) {
  for (int i = 0; i < 50; ++i) make(1 + i % 5);
}

TEST(Team, EveryThreadRunsOncePerCall) {
  for (const int threads : {1, 2, 3, 8}) {
    const auto team = make(threads);
    EXPECT_EQ(team->size(), threads);
    std::vector<int> runs(static_cast<size_t>(threads), 0);
    for (int i = 0; i < 100; ++i) team->run([&](int thread) { ++runs[static_cast<size_t>(thread)]; });
    EXPECT_EQ(runs, std::vector<int>(static_cast<size_t>(threads), 100));
  }
}

// What any thread writes before a barrier every thread reads after it: plain memory, so that TSan judges the barrier
// too.
TEST(Team, BarriersOrderMemory) {
  for (const int threads : {2, 3, 7}) {
    const auto team = make(threads);
    constexpr int kRounds = 200;
    std::vector<int> a(static_cast<size_t>(threads), 0), sums(a);
    for (int call = 0; call < 5; ++call) {
      team->run([&](int thread) {
        const auto me = static_cast<size_t>(thread);
        for (int round = 0; round < kRounds; ++round) {
          a[me] = round + thread;
          team->barrier();
          sums[me] += std::accumulate(a.begin(), a.end(), 0);
          team->barrier();
        }
      });
    }
    const int expected = 5 * (threads * kRounds * (kRounds - 1) / 2 + kRounds * threads * (threads - 1) / 2);
    EXPECT_EQ(sums, std::vector<int>(static_cast<size_t>(threads), expected));
  }
}

TEST(Team, ThreadsStartWithTheDefaultRoundingAndTheCallerKeepsItsOwn) {
  const auto team = make(3);
  constexpr unsigned kFlushToZero = 0x8000;
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | kFlushToZero);
  std::array<unsigned, 3> seen{};
  team->run([&](int thread) { seen[static_cast<size_t>(thread)] = _mm_getcsr(); });
  EXPECT_NE(_mm_getcsr() & kFlushToZero, 0U);
  _mm_setcsr(before);
  for (const unsigned word : seen) EXPECT_EQ(word & kFlushToZero, 0U);
}

TEST(Team, AnIdleTeamUsesNoProcessorTime) {
  const auto team = make(4);
  team->run([](int) {});
  const auto cpu = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto ms = [](timeval t) { return t.tv_sec * 1000 + t.tv_usec / 1000; };
    return ms(usage.ru_utime) + ms(usage.ru_stime);
  };
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const auto before = cpu();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(cpu() - before, 100);
}

}  // namespace
}  // namespace ll
