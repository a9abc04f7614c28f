#include "runtime/base/atomic_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "runtime/base/mapped_file.h"

namespace ll {
namespace {

class File : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("llcuda-atomic-file-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path() const { return folder_ / "file"; }
  std::string read() const {
    std::ifstream in(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  size_t files() const { return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder_), {})); }

  std::filesystem::path folder_;
};

std::vector<std::byte> random_bytes(std::mt19937& random, size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

// Appends and overwrites of sizes around a piece, at places on both sides of what is in the file already.
TEST_F(File, HoldsWhatWasWrittenWhateverThePieces) {
  std::mt19937 random(3);
  constexpr size_t kPiece = AtomicFile::kPiece;
  const size_t sizes[] = {1, 100, kPiece - 101, kPiece - 1, kPiece, kPiece + 1, 2 * kPiece, 3 * kPiece + 17, 5};
  for (int round = 0; round < 6; ++round) {
    auto file = AtomicFile::create(path());
    ASSERT_TRUE(file) << file.error().message;
    std::vector<std::byte> want;
    for (int i = 0; i < 6; ++i) {
      const std::vector<std::byte> bytes = random_bytes(random, sizes[random() % std::size(sizes)]);
      ASSERT_TRUE(file->write(bytes));
      want.insert(want.end(), bytes.begin(), bytes.end());
      ASSERT_EQ(file->size(), want.size());
      const std::vector<std::byte> other = random_bytes(random, std::min<size_t>(want.size(), random() % (kPiece / 2)));
      const size_t at = i % 2 == 0 ? want.size() - other.size() : random() % (want.size() - other.size() + 1);
      ASSERT_TRUE(file->write_at(at, other));
      std::copy(other.begin(), other.end(), want.begin() + static_cast<ptrdiff_t>(at));
    }
    ASSERT_TRUE(file->pad_to(4096));
    want.resize((want.size() + 4095) / 4096 * 4096);
    ASSERT_EQ(file->size(), want.size());
    ASSERT_TRUE(file->commit());
    const std::string got = read();
    ASSERT_EQ(got.size(), want.size());
    EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size()), 0);
  }
  EXPECT_EQ(files(), 1u);
}

TEST_F(File, WithoutCommitTheOldFileStays) {
  std::ofstream(path()) << "old";
  {
    auto file = AtomicFile::create(path());
    ASSERT_TRUE(file);
    ASSERT_TRUE(file->write(std::vector<std::byte>(AtomicFile::kPiece + 1)));
    EXPECT_EQ(files(), 2u);
  }
  EXPECT_EQ(read(), "old");
  EXPECT_EQ(files(), 1u);
}

// Where huge pages can begin, so that the system can use them.
TEST_F(File, MappingsBeginWhereHugePagesDo) {
  for (const size_t size : {size_t{1}, size_t{4097}, kHugePage - 1, kHugePage, 3 * kHugePage + 5000}) {
    auto file = AtomicFile::create(path());
    ASSERT_TRUE(file);
    std::mt19937 random(9);
    const std::vector<std::byte> want = random_bytes(random, size);
    ASSERT_TRUE(file->write(want));
    ASSERT_TRUE(file->commit());
    const Result<MappedFile> mapped = MappedFile::open(path());
    ASSERT_TRUE(mapped) << mapped.error().message;
    ASSERT_EQ(mapped->bytes().size(), size);
    EXPECT_EQ(std::memcmp(mapped->bytes().data(), want.data(), size), 0);
    if (size >= kHugePage) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(mapped->bytes().data()) % kHugePage, 0u);
    }
  }
}

}  // namespace
}  // namespace ll
