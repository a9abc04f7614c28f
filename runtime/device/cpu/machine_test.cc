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
