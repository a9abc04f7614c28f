#include "runtime/base/cpu_affinity.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <thread>

namespace ll {
namespace {

using Cpus = std::vector<int>;

TEST(CpuSet, HoldsWhatItWasGiven) {
  const Cpus cpus = {0, 3, 1023, 1024, kMaxCpus - 1};
  EXPECT_EQ(CpuSet(cpus).cpus(), cpus);
  EXPECT_EQ(CpuSet(Cpus{5, -1, 2, kMaxCpus, 5}).cpus(), Cpus({2, 5}));
  EXPECT_TRUE(CpuSet().empty());
  EXPECT_FALSE(CpuSet(cpus).empty());
}

TEST(CpuSet, Contains) {
  const CpuSet some(Cpus{1, 2000});
  EXPECT_TRUE(some.contains(some));
  EXPECT_TRUE(some.contains(CpuSet(Cpus{2000})));
  EXPECT_TRUE(some.contains(CpuSet()));
  EXPECT_FALSE(some.contains(CpuSet(Cpus{1, 3})));
}

TEST(BoundThread, IsKeptThereAndLetGo) {
  const Cpus before = CpuSet::of_this_thread().cpus();
  ASSERT_FALSE(before.empty());
  const Cpus last = {before.back()};
  {
    const BoundThread bound((CpuSet(last)));
    EXPECT_EQ(bound.error(), 0);
    EXPECT_EQ(CpuSet::of_this_thread().cpus(), last);
    Cpus child;
    std::thread([&] { child = CpuSet::of_this_thread().cpus(); }).join();
    EXPECT_EQ(child, last);
    const BoundThread wider((CpuSet(before)));  // holds where it is kept already
    EXPECT_EQ(CpuSet::of_this_thread().cpus(), last);
  }
  EXPECT_EQ(CpuSet::of_this_thread().cpus(), before);
}

TEST(BoundThread, CpusThatAreNotThereChangeNothing) {
  const Cpus before = CpuSet::of_this_thread().cpus();
  const BoundThread bound(CpuSet(Cpus{kMaxCpus - 1}));
  EXPECT_EQ(bound.error(), EINVAL);
  EXPECT_EQ(CpuSet::of_this_thread().cpus(), before);
}

}  // namespace
}  // namespace ll
