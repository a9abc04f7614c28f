#include "runtime/device/cpu/team.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <xmmintrin.h>

#include <array>
#include <atomic>
#include <cerrno>
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

TEST(Team, EveryPartOfEveryLaunchRunsOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    const auto team = make(threads);
    EXPECT_EQ(team->size(), threads);
    std::vector<uint8_t> pieces;
    std::vector<std::vector<int>> runs;
    for (int i = 0; i < 50; ++i) {
      pieces.push_back(static_cast<uint8_t>(1 + 5 * i % kMaxPieces));
      runs.emplace_back(static_cast<size_t>(threads) * pieces.back(), 0);
    }
    for (int call = 0; call < 20; ++call) {
      team->run(pieces, [&](uint32_t launch, int part, int thread) {
        ++runs[launch][static_cast<size_t>(part)];
        EXPECT_GE(thread, 0);
        EXPECT_LT(thread, threads);
      });
    }
    for (const auto& launch : runs) EXPECT_EQ(launch, std::vector<int>(launch.size(), 20));
    team->run({}, [](uint32_t, int, int) { FAIL(); });
  }
}

// Each launch reads what all parts of the one before wrote: plain memory, so that TSan judges the order too.
TEST(Team, LaunchesSeeWhatTheOnesBeforeWrote) {
  for (const int threads : {2, 3, 7}) {
    const auto team = make(threads);
    constexpr uint8_t kPieces = 3;
    const auto n = static_cast<size_t>(threads) * kPieces;
    constexpr uint32_t kLaunches = 200;
    const std::vector<uint8_t> pieces(kLaunches, kPieces);
    std::vector<uint64_t> even(n, 1), odd(n, 0), want(n, 1);
    const auto next = [](const std::vector<uint64_t>& from, size_t part) {
      return std::accumulate(from.begin(), from.end(), uint64_t{0}) * 31 + part;
    };
    for (int call = 0; call < 5; ++call) {
      team->run(pieces, [&](uint32_t launch, int part, int) {
        const auto p = static_cast<size_t>(part);
        if (launch % 2 == 0) {
          odd[p] = next(even, p);
        } else {
          even[p] = next(odd, p);
        }
      });
      for (uint32_t launch = 0; launch < kLaunches; ++launch) {
        std::vector<uint64_t> after(n);
        for (size_t p = 0; p < n; ++p) after[p] = next(want, p);
        want = after;
      }
    }
    EXPECT_EQ(even, want);
  }
}

// A thread that is late for its parts, as when the system runs something else there, holds nobody up; it may not run a
// part of a launch that is over, nor one of a later run with the arguments of an earlier one.
TEST(Team, OthersTakeThePartsOfALateThread) {
  const auto team = make(3);
  std::atomic<uint32_t> running = 0;
  std::atomic<int> parts = 0;
  for (int call = 0; call < 200; ++call) {
    constexpr uint32_t kLaunches = 7;
    const std::vector<uint8_t> pieces(kLaunches, call % 2 == 0 ? 1 : 2);
    team->run(pieces, [&](uint32_t launch, int, int thread) {
      uint32_t before = running.exchange(launch);
      EXPECT_TRUE(before == launch || before + 1 == launch || (launch == 0 && before == kLaunches - 1)) << before;
      ++parts;
      if (thread == 1 && launch % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
    });
    EXPECT_EQ(parts.exchange(0), pieces[0] * 3 * static_cast<int>(kLaunches));
  }
}

TEST(Team, ThreadsStartWithTheDefaultRoundingAndTheCallerKeepsItsOwn) {
  constexpr unsigned kFlushToZero = 0x8000;
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | kFlushToZero);
  const auto team = make(3);
  std::array<unsigned, 3> seen{};
  // A part each, on a thread each: nobody is done before all have begun.
  std::atomic<int> begun = 0;
  team->run([&](uint32_t, int part, int) {
    seen[static_cast<size_t>(part)] = _mm_getcsr();
    ++begun;
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(200);
    while (begun < 3 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  });
  EXPECT_NE(_mm_getcsr() & kFlushToZero, 0U);
  _mm_setcsr(before);
  for (const unsigned word : seen) EXPECT_EQ(word & kFlushToZero, 0U);
}

// Two shares, of this machine's first allowed CPU and its last.
TEST(Team, ThreadsStayOnTheCpusOfTheirShare) {
  const std::vector<int> all = CpuSet::of_this_thread().cpus();
  ASSERT_FALSE(all.empty());
  const std::vector<NodeShare> shares = {{0, 2, {all.front()}}, {1, 3, {all.back()}}};
  auto team = Team::create(5, shares);
  ASSERT_TRUE(team);
  EXPECT_EQ((*team)->binding_error(), 0);
  EXPECT_EQ(CpuSet::of_this_thread().cpus(), all);
  std::array<std::vector<int>, 5> seen;
  (*team)->run(std::vector<uint8_t>(1000, 1), [&](uint32_t, int, int thread) {
    auto& cpus = seen[static_cast<size_t>(thread)];
    if (cpus.empty()) cpus = CpuSet::of_this_thread().cpus();
  });
  EXPECT_EQ(CpuSet::of_this_thread().cpus(), all);
  EXPECT_FALSE(seen[0].empty() && seen[1].empty() && seen[2].empty() && seen[3].empty() && seen[4].empty());
  for (size_t i = 0; i < seen.size(); ++i) {
    if (seen[i].empty()) continue;  // a late thread's parts are others'
    EXPECT_EQ(seen[i], shares[i < 2 ? 0 : 1].cpus) << i;
  }
}

TEST(Team, CpusThatAreNotThereLeaveThreadsUnbound) {
  const std::vector<NodeShare> shares = {{0, 2, {kMaxCpus - 1}}};
  auto team = Team::create(2, shares);
  ASSERT_TRUE(team);
  EXPECT_EQ((*team)->binding_error(), EINVAL);
  std::atomic<int> parts = 0;
  (*team)->run(std::vector<uint8_t>(10, 1), [&](uint32_t, int, int) { ++parts; });
  EXPECT_EQ(parts, 20);
}

TEST(Team, AnIdleTeamUsesNoProcessorTime) {
  const auto team = make(4);
  team->run(std::vector<uint8_t>(3, 1), [](uint32_t, int, int) {});
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
