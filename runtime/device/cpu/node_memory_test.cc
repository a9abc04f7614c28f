#include "runtime/device/cpu/node_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "runtime/base/mapped_file.h"
#include "runtime/device/cpu/anonymous_memory.h"

namespace ll {
namespace {

constexpr uint64_t kPage = 4096;

// Of the memory at `address`, or without one of the calling thread.
int mode_of(const std::byte* address) {
  int mode = -1;
  const unsigned long flags = address == nullptr ? 0 : MPOL_F_ADDR;
  if (syscall(SYS_get_mempolicy, &mode, nullptr, 0UL, address, flags) != 0) return -1;
  return mode;
}

// Some node whose memory this process may take; this machine may be a container in which policies are forbidden.
class NodeMemory : public testing::Test {
 protected:
  void SetUp() override {
    const MemoryPolicy policy = memory_policy_of_this_thread();
    if (policy.error != 0) GTEST_SKIP() << "the system refuses memory policies: " << strerror(policy.error);
    if (policy.own) GTEST_SKIP() << "the process came with a memory policy";
    unsigned long allowed[16] = {};
    ASSERT_EQ(syscall(SYS_get_mempolicy, nullptr, allowed, 1024UL, nullptr, static_cast<long>(MPOL_F_MEMS_ALLOWED)), 0);
    for (int node = 0; node < 1024 && node_ < 0; ++node) {
      if ((allowed[node / 64] >> node % 64 & 1) != 0) node_ = node;
    }
    ASSERT_GE(node_, 0);
    auto memory = AnonymousMemory::map(8 * kPage, "a test");
    ASSERT_TRUE(memory);
    memory_ = *std::move(memory);
  }
  std::span<std::byte> part(uint64_t begin, uint64_t end) { return {memory_.data() + begin, end - begin}; }

  int node_ = -1;
  AnonymousMemory memory_;
};

TEST_F(NodeMemory, IsPreferredOnOneNode) {
  const int nodes[] = {node_};
  EXPECT_EQ(place_memory(part(0, 8 * kPage), nodes), 0);
  EXPECT_EQ(mode_of(memory_.data()), MPOL_PREFERRED);
  EXPECT_EQ(mode_of(memory_.data() + 8 * kPage - 1), MPOL_PREFERRED);
  std::memset(memory_.data(), 1, memory_.size());
}

TEST_F(NodeMemory, PagesThatReachOutKeepTheirPolicy) {
  const int nodes[] = {node_};
  EXPECT_EQ(place_memory(part(kPage + 1, 4 * kPage - 1), nodes), 0);
  for (const uint64_t page : {0, 1, 2, 3, 4}) {
    EXPECT_EQ(mode_of(memory_.data() + page * kPage), page == 2 ? MPOL_PREFERRED : MPOL_DEFAULT) << page;
  }
  // Nothing whole, nothing at all, nowhere.
  EXPECT_EQ(place_memory(part(5 * kPage + 1, 6 * kPage), nodes), 0);
  EXPECT_EQ(place_memory({}, nodes), 0);
  EXPECT_EQ(place_memory(part(5 * kPage, 6 * kPage), {}), 0);
  EXPECT_EQ(mode_of(memory_.data() + 5 * kPage), MPOL_DEFAULT);
}

TEST_F(NodeMemory, NodesThatAreNotThereAreRefused) {
  const int nodes[] = {1000, 1001};
  EXPECT_EQ(place_memory(part(0, kPage), nodes), EINVAL);
  EXPECT_EQ(mode_of(memory_.data()), MPOL_DEFAULT);
}

TEST_F(NodeMemory, PagesOfAFileThatWasJustWrittenAreCached) {
  const std::string path = testing::TempDir() + "node_memory_" + std::to_string(getpid());
  std::ofstream(path) << std::string(3 * kSampledPages * kPage, 'x');
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const auto file = MappedFile::open(path);
  std::filesystem::remove(path);
  ASSERT_TRUE(file);
  const CachedPages found = cached_pages(file->bytes(), fd);
  const CachedPages part = cached_pages(file->bytes().subspan(100, 5 * kPage), fd);
  const CachedPages nothing = cached_pages({}, fd);
  close(fd);
  EXPECT_EQ(cached_pages(file->bytes(), fd).error, EBADF);
  if (found.error != 0) GTEST_SKIP() << "the system does not tell where pages lie: " << strerror(found.error);
  double all = 0;
  for (const auto& [node, fraction] : found.parts) {
    EXPECT_GE(node, 0);
    EXPECT_GT(fraction, 0);
    all += fraction;
  }
  EXPECT_GT(all, 0.5);
  EXPECT_LE(all, 1.001);
  EXPECT_FALSE(part.parts.empty());
  EXPECT_TRUE(nothing.parts.empty());
  EXPECT_EQ(nothing.error, 0);
}

TEST_F(NodeMemory, ThePolicyOfALoadEndsWithIt) {
  const std::vector<int> cpus = CpuSet::of_this_thread().cpus(), last = {cpus.back()};
  // Two shares of one node: enough for the system call to be made, and valid here.
  const std::vector<NodeShare> shares = {{node_, 1, last}, {node_, 1, last}};
  {
    const LoadingOnNodes loading(shares);
    EXPECT_EQ(mode_of(nullptr), MPOL_INTERLEAVE);
    EXPECT_EQ(CpuSet::of_this_thread().cpus(), last);
    int inherited = -1;
    std::thread([&] { inherited = mode_of(nullptr); }).join();
    EXPECT_EQ(inherited, MPOL_INTERLEAVE);
    EXPECT_TRUE(memory_policy_of_this_thread().own);
    const LoadingOnNodes second(shares);  // the policy is there: it stays the first one's
  }
  EXPECT_EQ(mode_of(nullptr), MPOL_DEFAULT);
  EXPECT_EQ(CpuSet::of_this_thread().cpus(), cpus);
  {
    const LoadingOnNodes nothing({});
    EXPECT_EQ(mode_of(nullptr), MPOL_DEFAULT);
    EXPECT_EQ(CpuSet::of_this_thread().cpus(), cpus);
    const LoadingOnNodes one({shares.data(), 1});
    EXPECT_EQ(mode_of(nullptr), MPOL_DEFAULT);
  }
}

}  // namespace
}  // namespace ll
