#include "runtime/base/atomic_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

namespace ll {
namespace {

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// "plan.llcp" -> ".plan.llcp.tmp-": followed by the writer's process id.
std::string temporary_prefix(const std::string& path) {
  const size_t slash = path.rfind('/');
  return "." + (slash == std::string::npos ? path : path.substr(slash + 1)) + ".tmp-";
}

// Removes temporaries of this destination whose writer no longer runs.
void sweep(const std::string& folder, const std::string& prefix) {
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) return;
  while (const dirent* entry = readdir(dir)) {
    const std::string_view name = entry->d_name;
    if (!name.starts_with(prefix)) continue;
    pid_t pid = 0;
    const char* first = name.data() + prefix.size();
    const auto [end, ec] = std::from_chars(first, name.data() + name.size(), pid);
    if (ec != std::errc() || end != name.data() + name.size() || pid <= 0) continue;
    if (kill(pid, 0) != 0 && errno == ESRCH) unlink((folder + "/" + entry->d_name).c_str());
  }
  closedir(dir);
}

}  // namespace

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_),
      last_(std::move(other.last_)) {}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temporary_.c_str());
}

Result<AtomicFile> AtomicFile::create(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return error(Code::kCannotCreate, "'{}' exists and is not a regular file", path);
  }
  const std::string folder = folder_of(path), prefix = temporary_prefix(path);
  sweep(folder, prefix);
  AtomicFile file;
  file.path_ = path;
  file.temporary_ = fmt::format("{}/{}{}", folder, prefix, getpid());
  file.fd_ = open(file.temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (file.fd_ < 0) return error(Code::kCannotCreate, "cannot create '{}': {}", path, strerror(errno));
  return file;
}

Status AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    size_t n = bytes.size() / kPiece * kPiece;
    if (last_.empty() && n > 0) {
      TRY(put(size_, bytes.first(n)));
      size_ += n;
    } else {
      n = std::min(kPiece - last_.size(), bytes.size());
      last_.insert(last_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
      size_ += n;
      if (last_.size() == kPiece) TRY(flush());
    }
    bytes = bytes.subspan(n);
  }
  return {};
}

Status AtomicFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  const uint64_t written = size_ - last_.size();
  const size_t before = offset < written ? std::min<size_t>(bytes.size(), written - offset) : 0;
  TRY(put(offset, bytes.first(before)));
  if (before < bytes.size()) {
    std::copy(bytes.begin() + static_cast<ptrdiff_t>(before), bytes.end(),
              last_.begin() + static_cast<ptrdiff_t>(offset + before - written));
  }
  return {};
}

Status AtomicFile::flush() {
  TRY(put(size_ - last_.size(), last_));
  last_.clear();
  return {};
}

Status AtomicFile::put(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return error(Code::kIo, "cannot write '{}' at offset {}: {}", path_, offset, strerror(errno));
    offset += static_cast<uint64_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Status AtomicFile::pad_to(uint64_t alignment) {
  const uint64_t rest = size_ % alignment;
  if (rest == 0) return {};
  const std::vector<std::byte> zeros(alignment - rest);
  return write(zeros);
}

Status AtomicFile::commit() {
  const auto fail = [&](const char* what) {
    return error(Code::kIo, "cannot {} '{}': {}", what, path_, strerror(errno));
  };
  TRY(flush());
  if (fsync(fd_) != 0) return fail("flush");
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return fail("rename the finished file to");
  const int fd = std::exchange(fd_, -1);
  if (close(fd) != 0) return fail("close");
  const int dir = open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) return fail("open the folder of");
  const int synced = fsync(dir);
  close(dir);
  if (synced != 0 && errno != EINVAL) return fail("flush the folder of");
  return {};
}

}  // namespace ll
