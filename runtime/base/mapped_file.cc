#include "runtime/base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ll {

void* map_whole(int fd, size_t size) {
  if (size < kHugePage) {
    void* const data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    return data == MAP_FAILED ? nullptr : data;
  }
  // Addresses for a huge page more, of which those before and behind the file are given back.
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t pages = (size + page - 1) / page * page, all = pages + kHugePage;
  void* const reserved = mmap(nullptr, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(reserved);
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  void* const data = mmap(begin + before, size, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0);
  if (data == MAP_FAILED) {
    const int reason = errno;
    munmap(begin, all);
    errno = reason;
    return nullptr;
  }
  if (before > 0) munmap(begin, before);
  munmap(begin + before + pages, kHugePage - before);
  // Refused by kernels without huge pages, which is no loss.
  madvise(data, size, MADV_HUGEPAGE);
  return data;
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

Result<MappedFile> MappedFile::open(const std::string& path) {
  // O_NONBLOCK: opening a FIFO by mistake must fail, not wait for a writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return error(Code::kNoInput, "cannot open '{}': {}", path, strerror(errno));
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return error(Code::kNoInput, "'{}' is not a regular file", path);
  }
  MappedFile file;
  file.path_ = path;
  if (info.st_size > 0) {
    void* data = map_whole(fd, static_cast<size_t>(info.st_size));
    if (data == nullptr) {
      const int reason = errno;
      close(fd);
      return error(Code::kIo, "cannot map '{}' ({} bytes): {}", path, info.st_size, strerror(reason));
    }
    file.data_ = static_cast<const std::byte*>(data);
    file.size_ = static_cast<size_t>(info.st_size);
  }
  close(fd);
  return file;
}

void MappedFile::release(size_t offset, size_t size) const {
  if (data_ == nullptr || offset >= size_) return;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t begin = (offset + page - 1) / page * page;
  const size_t end = (offset + std::min(size, size_ - offset)) / page * page;
  if (end > begin) madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace ll
