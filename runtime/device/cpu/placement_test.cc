#include "runtime/device/cpu/placement.h"

#include <gtest/gtest.h>

#include <numeric>

namespace ll {
namespace {

using Ints = std::vector<int>;

// Nodes one after another with these cores, one CPU each.
Machine machine_of(const Ints& cores) {
  Machine machine;
  int cpu = 0;
  for (const int count : cores) {
    NumaNode node{.id = static_cast<int>(machine.nodes.size()), .cores = count, .memory_bytes = 1 << 30};
    for (int i = 0; i < count; ++i) node.cpus.push_back(cpu++);
    machine.nodes.push_back(node);
  }
  machine.cpus = machine.allowed_cpus = machine.allowed_cores = cpu;
  return machine;
}

Placement placed(const Machine& machine, int threads, const NumaChoice& choice = {}, int current_cpu = -1) {
  auto placement = place(machine, threads, choice, current_cpu);
  EXPECT_TRUE(placement) << placement.error().message;
  return placement ? *placement : Placement{};
}

std::string where(const Machine& machine, int threads, const NumaChoice& choice = {}, int current_cpu = -1) {
  return describe(placed(machine, threads, choice, current_cpu).shares);
}

TEST(Placement, ReadsTheChoice) {
  for (const char* text : {"", "auto"}) {
    const auto choice = parse_numa(text);
    ASSERT_TRUE(choice);
    EXPECT_FALSE(choice->off || choice->node);
  }
  EXPECT_TRUE(parse_numa("off")->off);
  EXPECT_EQ(parse_numa("12")->node, 12);
  for (const char* text : {"on", "-1", "1,2", "0x1", "1 ", "99999999999"}) {
    const auto choice = parse_numa(text);
    ASSERT_FALSE(choice) << text;
    EXPECT_EQ(choice.error().code, Code::kUsage);
    EXPECT_NE(choice.error().message.find("expected auto, off or"), std::string::npos);
  }
}

TEST(Placement, OneNodeIsNotPlaced) {
  Machine machine = machine_of({4});
  machine.nodes.clear();
  EXPECT_TRUE(placed(machine, 0).shares.empty());
  EXPECT_EQ(placed(machine, 0).threads, 4);
  EXPECT_EQ(placed(machine, 9).threads, 9);
  EXPECT_TRUE(placed(machine, 2, {.node = 0}).shares.empty());
  const auto absent = place(machine, 2, {.node = 1}, -1);
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().code, Code::kUsage);
}

TEST(Placement, MemoryWithoutCpusIsNoPlaceToRun) {
  Machine machine = machine_of({4, 0});
  EXPECT_TRUE(placed(machine, 0).shares.empty());
  const auto absent = place(machine, 2, {.node = 1}, -1);
  ASSERT_FALSE(absent);
  EXPECT_NE(absent.error().message.find("may use: 0"), std::string::npos);
}

TEST(Placement, ThreadsThatFitShareANode) {
  const Machine machine = machine_of({8, 8});
  EXPECT_EQ(where(machine, 8), "8 threads on node 0");
  EXPECT_EQ(where(machine, 1), "1 thread on node 0");
  EXPECT_EQ(where(machine_of({4, 8, 8}), 3), "3 threads on node 1");
  const Placement placement = placed(machine, 8);
  EXPECT_EQ(placement.shares[0].cpus, Ints({0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(memory_nodes(placement.shares), Ints({0}));
}

TEST(Placement, OfEqualNodesItIsTheOpeningThreads) {
  EXPECT_EQ(where(machine_of({8, 8}), 4, {}, 11), "4 threads on node 1");
  EXPECT_EQ(where(machine_of({8, 6}), 4, {}, 11), "4 threads on node 0");
  EXPECT_EQ(where(machine_of({8, 8}), 4, {}, 99), "4 threads on node 0");
}

TEST(Placement, MoreThreadsTakeMoreNodesByTheirCores) {
  EXPECT_EQ(where(machine_of({8, 8}), 0), "8 threads on node 0, 8 on node 1");
  EXPECT_EQ(where(machine_of({8, 8}), 9), "4 threads on node 0, 5 on node 1");
  EXPECT_EQ(where(machine_of({8, 4}), 9), "6 threads on node 0, 3 on node 1");
  EXPECT_EQ(where(machine_of({4, 4, 4, 4}), 8), "4 threads on node 0, 4 on node 1");
  EXPECT_EQ(where(machine_of({2, 2}), 64), "32 threads on node 0, 32 on node 1");
  EXPECT_EQ(memory_nodes(placed(machine_of({8, 8}), 0).shares), Ints({0, 1}));
}

TEST(Placement, NoNodeGetsMoreThreadsThanCores) {
  const Machine machine = machine_of({5, 1, 7, 3});
  for (int threads = 1; threads <= 16; ++threads) {
    int sum = 0;
    for (const NodeShare& share : placed(machine, threads).shares) {
      EXPECT_GE(share.threads, 1);
      EXPECT_LE(share.threads, machine.nodes[static_cast<size_t>(share.node)].cores);
      sum += share.threads;
    }
    EXPECT_EQ(sum, threads);
  }
}

TEST(Placement, FurtherNodesAreNearTheFirst) {
  Machine machine = machine_of({4, 4, 4, 4});
  machine.nodes[2].distances = {32, 32, 10, 12};
  EXPECT_EQ(where(machine, 8, {}, 8), "4 threads on node 2, 4 on node 3");
}

TEST(Placement, NodesWithoutMemoryComeLast) {
  Machine machine = machine_of({8, 4});
  machine.nodes[0].memory_bytes = 0;
  EXPECT_EQ(where(machine, 4), "4 threads on node 1");
  EXPECT_EQ(memory_nodes(placed(machine, 12).shares), Ints({1}));
}

TEST(Placement, TheQuotaCountsAndSiblingsDoNot) {
  Machine machine = machine_of({8, 8});
  machine.cgroup_cpus = 6.5;
  EXPECT_EQ(where(machine, 0), "6 threads on node 0");
  machine.cgroup_cpus = 0;
  for (NumaNode& node : machine.nodes) node.cores = 4;
  machine.allowed_cores = 8;
  EXPECT_EQ(where(machine, 6), "3 threads on node 0, 3 on node 1");
}

TEST(Placement, OffAndANodeOfOnesOwn) {
  const Machine machine = machine_of({8, 8});
  EXPECT_TRUE(placed(machine, 4, {.off = true}).shares.empty());
  EXPECT_EQ(placed(machine, 0, {.off = true}).threads, 16);
  EXPECT_EQ(where(machine, 0, {.node = 1}), "8 threads on node 1");
  EXPECT_EQ(where(machine, 20, {.node = 1}, 0), "20 threads on node 1");
  const auto absent = place(machine, 0, {.node = 2}, -1);
  ASSERT_FALSE(absent);
  EXPECT_NE(absent.error().message.find("numa is node 2, expected one whose CPUs this process may use: 0 or 1"),
            std::string::npos);
}

}  // namespace
}  // namespace ll
