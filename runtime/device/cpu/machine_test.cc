#include "runtime/device/cpu/machine.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace ll {
namespace {

using Cpus = std::vector<int>;

TEST(Machine, ReadsCpuLists) {
  EXPECT_EQ(parse_cpu_list("0-3,8\n"), Cpus({0, 1, 2, 3, 8}));
  EXPECT_EQ(parse_cpu_list("5"), Cpus({5}));
  EXPECT_EQ(parse_cpu_list(""), Cpus());
  EXPECT_EQ(parse_cpu_list("x,2,3-,4-99999999,1"), Cpus({2, 1}));
}

TEST(Machine, ThisOneHasAtLeastOneCore) {
  const Machine machine = read_machine();
  EXPECT_GE(machine.allowed_cpus, 1);
  EXPECT_GE(machine.allowed_cores, 1);
  EXPECT_LE(machine.allowed_cores, machine.allowed_cpus);
  EXPECT_GT(machine.memory_bytes, 0U);
  EXPECT_GE(default_threads(machine), 1);
  EXPECT_LE(default_threads(machine), machine.allowed_cores);
}

// A /proc and /sys of our own.
class Fake : public testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::path(testing::TempDir()) / ("machine_" + std::to_string(getpid()));
    std::filesystem::remove_all(root_);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  Machine read() { return read_machine(root_.string()); }
  void four_cpus_two_cores() {
    write("sys/devices/system/cpu/online", "0-3\n");
    for (const int cpu : {0, 1, 2, 3}) {
      write("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list",
            cpu % 2 == 0 ? "0,2\n" : "1,3\n");
    }
  }

  std::filesystem::path root_;
};

TEST_F(Fake, NothingReadableIsOneCore) {
  const Machine machine = read();
  EXPECT_EQ(machine.allowed_cores, 1);
  EXPECT_EQ(default_threads(machine), 1);
}

TEST_F(Fake, SiblingsAreOneCore) {
  four_cpus_two_cores();
  EXPECT_EQ(read().allowed_cpus, 4);
  EXPECT_EQ(default_threads(read()), 2);
}

TEST_F(Fake, ASingleCoreLendsItsSiblings) {
  write("sys/devices/system/cpu/online", "0-1\n");
  for (const char* cpu : {"cpu0", "cpu1"}) {
    write(std::string("sys/devices/system/cpu/") + cpu + "/topology/thread_siblings_list", "0-1\n");
  }
  EXPECT_EQ(read().allowed_cores, 1);
  EXPECT_EQ(default_threads(read()), 2);
  write("proc/self/cgroup", "0::/a\n");
  write("sys/fs/cgroup/a/cpu.max", "100000 100000\n");
  EXPECT_EQ(default_threads(read()), 1);
}

TEST_F(Fake, TheTightestCgroupCounts) {
  four_cpus_two_cores();
  write("proc/self/cgroup", "0::/a/b\n");
  write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  write("sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  write("sys/fs/cgroup/a/memory.max", "1048576\n");
  write("sys/fs/cgroup/a/b/memory.max", "max\n");
  EXPECT_DOUBLE_EQ(read().cgroup_cpus, 1.5);
  EXPECT_EQ(read().cgroup_memory_bytes, 1048576U);
  EXPECT_EQ(default_threads(read()), 1);
  write("sys/fs/cgroup/a/cpu.max", "50000 100000\n");
  EXPECT_EQ(default_threads(read()), 1);
}

TEST_F(Fake, CgroupsOfVersionOne) {
  four_cpus_two_cores();
  write("proc/self/cgroup", "4:memory:/x\n3:cpu,cpuacct:/x\n");
  write("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "100000\n");
  write("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_DOUBLE_EQ(read().cgroup_cpus, 1);
  EXPECT_EQ(read().cgroup_memory_bytes, 0U);
}

class Nodes : public Fake {
 protected:
  void SetUp() override {
    Fake::SetUp();
    four_cpus_two_cores();  // 0 and 2, 1 and 3
    write("sys/devices/system/node/online", "0-1\n");
    node(0, "0,2\n", 1024);
    node(1, "1,3\n", 2048);
  }
  void node(int id, const std::string& cpus, int kilobytes) {
    const std::string number = std::to_string(id), folder = "sys/devices/system/node/node" + number + "/";
    write(folder + "cpulist", cpus);
    write(folder + "meminfo", "\nNode " + number + " MemTotal:  " + std::to_string(kilobytes) + " kB\n");
  }
};

TEST_F(Nodes, CpusMemoryAndDistances) {
  write("sys/devices/system/node/node0/distance", "10 21\n");
  write("sys/devices/system/node/node1/distance", "21 10\n");
  const auto nodes = read().nodes;
  ASSERT_EQ(nodes.size(), 2U);
  EXPECT_EQ(nodes[0].cpus, Cpus({0, 2}));
  EXPECT_EQ(nodes[0].cores, 1);
  EXPECT_EQ(nodes[0].memory_bytes, 1U << 20);
  EXPECT_EQ(nodes[1].id, 1);
  EXPECT_EQ(nodes[1].cpus, Cpus({1, 3}));
  EXPECT_EQ(nodes[1].memory_bytes, 2U << 20);
  EXPECT_EQ(nodes[1].distances, Cpus({21, 10}));
  EXPECT_EQ(default_threads(read(), nodes[1]), 2);  // a single core
}

TEST_F(Nodes, OneNodeOrNoneIsNotListed) {
  for (const char* online : {"0\n", "", "0,0\n", "garbage\n", "-\n", "5000-6000\n", "0-1", "0,7"}) {
    write("sys/devices/system/node/online", online);
    EXPECT_EQ(read().nodes.size(), std::string(online) == "0-1" ? 2U : 0U) << online;
  }
}

TEST_F(Nodes, TheCpusetLimitsCpusAndMemory) {
  write("proc/self/status", "Name:\tx\nCpus_allowed_list:\t1-2\nMems_allowed_list:\t1\n");
  const auto nodes = read().nodes;
  ASSERT_EQ(nodes.size(), 2U);
  EXPECT_EQ(nodes[0].cpus, Cpus({2}));
  EXPECT_EQ(nodes[0].memory_bytes, 0U);
  EXPECT_EQ(nodes[1].cpus, Cpus({1}));
  EXPECT_EQ(nodes[1].memory_bytes, 2U << 20);
  EXPECT_EQ(read().allowed_cpus, 2);
  // Neither CPUs nor memory: it is as if it were not there.
  write("proc/self/status", "Cpus_allowed_list:\t1,3\nMems_allowed_list:\t1\n");
  EXPECT_TRUE(read().nodes.empty());
}

TEST_F(Nodes, OddContents) {
  // A CPU in two lists is the first one's; what is offline or unreadable belongs nowhere.
  node(0, "0,2,0-2,77,x\n", 1024);
  node(1, "1,3\n", 2048);
  write("sys/devices/system/node/node0/distance", "10\n");
  write("sys/devices/system/node/node1/distance", "21 ten\n");
  auto nodes = read().nodes;
  ASSERT_EQ(nodes.size(), 2U);
  EXPECT_EQ(nodes[0].cpus, Cpus({0, 1, 2}));
  EXPECT_EQ(nodes[0].cores, 2);
  EXPECT_EQ(nodes[1].cpus, Cpus({3}));
  EXPECT_TRUE(nodes[0].distances.empty());
  EXPECT_TRUE(nodes[1].distances.empty());
  // Memory alone, CPUs alone.
  node(0, "\n", 1024);
  node(1, "0-3\n", 0);
  nodes = read().nodes;
  ASSERT_EQ(nodes.size(), 2U);
  EXPECT_TRUE(nodes[0].cpus.empty());
  EXPECT_EQ(nodes[0].cores, 0);
  EXPECT_EQ(nodes[1].memory_bytes, 0U);
  // A node that is online without a folder, between two that have one.
  write("sys/devices/system/node/online", "0-2\n");
  node(2, "0-1\n", 64);
  std::filesystem::remove_all(root_ / "sys/devices/system/node/node1");
  write("sys/devices/system/node/node2/distance", "21 31 10\n");
  nodes = read().nodes;
  ASSERT_EQ(nodes.size(), 2U);
  EXPECT_EQ(nodes[1].id, 2);
  EXPECT_EQ(nodes[1].distances, Cpus({21, 10}));
}

TEST_F(Fake, MemoryCachesAndHugePages) {
  four_cpus_two_cores();
  write("proc/meminfo", "MemTotal:       1024 kB\nMemFree:  1 kB\nMemAvailable:    512 kB\n");
  write("proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n");
  write("sys/devices/system/cpu/cpu0/cache/index0/size", "32K\n");
  write("sys/devices/system/cpu/cpu0/cache/index3/size", "36M\n");
  write("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
  const Machine machine = read();
  EXPECT_EQ(machine.memory_bytes, 1U << 20);
  EXPECT_EQ(machine.available_bytes, 512U << 10);
  EXPECT_EQ(machine.cpu, "Some CPU @ 2 GHz");
  EXPECT_EQ(machine.l3_bytes, 36U << 20);
  EXPECT_EQ(machine.transparent_huge_pages, "madvise");
}

}  // namespace
}  // namespace ll
