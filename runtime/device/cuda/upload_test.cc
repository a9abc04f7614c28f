// Weights to a device, on the driver of tests/cuda_driver/: memory there ends at pages that fault, and what is left
// allocated ends the process.
#include "runtime/device/cuda/upload.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <random>
#include <string>

namespace ll {
namespace {

std::vector<std::byte> noise(size_t bytes, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> out(bytes);
  for (std::byte& b : out) b = static_cast<std::byte>(random());
  return out;
}

class Upload : public testing::Test {
 protected:
  static constexpr size_t kFileBytes = 3 * kUploadPiece + 12345;

  void SetUp() override {
    ASSERT_EQ(setenv("LLRT_CUDA_DRIVER", LLCUDA_BINARY_DIR "/libllcuda_fake_driver.so", 1), 0);
    auto opened = cuda::Driver::open();
    if (!opened) GTEST_SKIP() << opened.error().message;
    driver_ = *std::move(opened);
    ASSERT_EQ(driver_->context_retain(&context_, 0), 0);
    ASSERT_EQ(driver_->context_set(context_), 0);
    ASSERT_EQ(driver_->allocate(&base_, kFileBytes + kUploadPiece), 0);
    file_ = memfd_create("weights", MFD_CLOEXEC);
    ASSERT_GE(file_, 0);
    ASSERT_EQ(write(file_, contents_.data(), contents_.size()), static_cast<ssize_t>(contents_.size()));
  }
  void TearDown() override {
    if (file_ >= 0) close(file_);
    if (driver_ == nullptr) return;
    driver_->free(base_);
    driver_->context_release(0);
  }
  std::vector<std::byte> device(size_t offset, size_t bytes) const {
    std::vector<std::byte> out(bytes);
    EXPECT_EQ(driver_->copy_to_host(out.data(), base_ + offset, bytes, nullptr), 0);
    return out;
  }
  Status run(const std::vector<UploadPiece>& pieces, int threads) const {
    return upload(*driver_, context_, file_, pieces, threads);
  }

  std::shared_ptr<cuda::Driver> driver_;
  cuda::CuHandle context_ = nullptr;
  cuda::CuPointer base_ = 0;
  int file_ = -1;
  const std::vector<std::byte> contents_ = noise(kFileBytes, 1), memory_ = noise(1000, 2);
};

TEST_F(Upload, CutsWithoutGapOrOverlap) {
  std::vector<UploadPiece> pieces;
  cut({nullptr, 7, 1000, 0}, pieces);
  EXPECT_TRUE(pieces.empty());
  cut({nullptr, 7, 1000, kFileBytes}, pieces);
  ASSERT_EQ(pieces.size(), 4u);
  for (size_t i = 0; i < pieces.size(); ++i) {
    EXPECT_EQ(pieces[i].file_offset, 7 + i * kUploadPiece);
    EXPECT_EQ(pieces[i].to, 1000 + i * kUploadPiece);
    EXPECT_EQ(pieces[i].bytes, i < 3 ? kUploadPiece : 12345);
  }
}

TEST_F(Upload, BytesArriveWhateverTheThreads) {
  for (const int threads : {0, 1, 2, 8}) {
    std::vector<UploadPiece> pieces;
    cut({nullptr, 5, base_, kFileBytes - 5}, pieces);
    cut({memory_.data(), 0, base_ + kFileBytes, memory_.size()}, pieces);
    ASSERT_EQ(driver_->set_bytes(base_, 0, kFileBytes, nullptr), 0);
    const Status s = run(pieces, threads);
    ASSERT_TRUE(s) << s.error().message;
    EXPECT_EQ(device(0, kFileBytes - 5), std::vector<std::byte>(contents_.begin() + 5, contents_.end())) << threads;
    EXPECT_EQ(device(kFileBytes, memory_.size()), memory_);
  }
  EXPECT_TRUE(run({}, 4));
}

TEST_F(Upload, FirstFailureEndsItAndNothingIsLeft) {
  std::vector<UploadPiece> pieces;
  cut({nullptr, 0, base_, kFileBytes + 1}, pieces);
  Status s = run(pieces, 4);
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().code, Code::kBadData);
  EXPECT_NE(s.error().message.find("truncated"), std::string::npos) << s.error().message;

  pieces[1].to = base_ + kFileBytes + kUploadPiece;  // one byte past the allocation and more
  s = run(pieces, 1);
  ASSERT_FALSE(s);
  EXPECT_NE(s.error().message.find("cuMemcpyHtoDAsync of weights"), std::string::npos) << s.error().message;

  ASSERT_EQ(close(file_), 0);
  s = run(pieces, 2);
  file_ = -1;
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().code, Code::kIo);
}

}  // namespace
}  // namespace ll
