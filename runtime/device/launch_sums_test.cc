#include "runtime/device/launch_sums.h"

#include <gtest/gtest.h>

namespace ll {
namespace {

TEST(LaunchSums, NothingWithoutAStep) {
  LaunchSums sums;
  EXPECT_EQ(sums.table(), "");
  sums.add("norm", 2);
  EXPECT_EQ(sums.table(), "");
}

TEST(LaunchSums, LongestFirstAveragedOverSteps) {
  LaunchSums sums;
  for (int step = 0; step < 2; ++step) {
    sums.add("norm", 1);
    sums.add("linear", 10);
    sums.add("linear", 4);
    sums.add("linear", 10);
    sums.end_step();
  }
  EXPECT_EQ(sums.table(),
            "2 steps of 25.0 us\n"
            "      24.0 us  96.0 %    3.0 x      8.00 us  linear\n"
            "       1.0 us   4.0 %    1.0 x      1.00 us  norm\n");
}

}  // namespace
}  // namespace ll
