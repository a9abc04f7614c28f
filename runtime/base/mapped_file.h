// Read-only memory mapping of a regular file.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "runtime/base/result.h"

namespace ll {

// A private read-only mapping of the first `size` bytes of an open file. From kHugePage bytes on it begins where huge
// pages do and asks for them: the system uses them for what of the file it has, or reads, in such pieces (AtomicFile
// writes them so). Null with errno when it fails.
inline constexpr size_t kHugePage = size_t{2} << 20;
void* map_whole(int fd, size_t size);

// Owns a private, read-only mapping of a whole regular file. Movable. The file is opened once and never by name again.
// A file that another process truncates while mapped raises SIGBUS on access; our own writers only ever rename
// (AtomicFile).
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  // kNoInput when it cannot be opened or is not a regular file. An empty file maps to an empty span.
  static Result<MappedFile> open(const std::string& path);

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

  // Advises the kernel that [offset, offset + size) was used once and may leave memory (keeps a compile's resident set
  // small).
  void release(size_t offset, size_t size) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace ll
