// Output files that appear whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/mapped_file.h"
#include "runtime/base/result.h"

namespace ll {

// Writes a temporary file in the destination's folder and renames it over the destination on commit():
// write, fsync, rename, fsync of the folder. Destroyed without commit(), it leaves the old file and no temporary.
// A crash or kill -9 leaves the old file, or the new one; a temporary that such a kill leaves behind is swept by the
// next create() for the same destination.
//
// What is appended goes to the file in whole pieces of kPiece bytes: the system's page cache then keeps it in huge
// pages where it can (Linux does for ext4, xfs and btrfs), which whoever maps the file reads with fewer translations.
class AtomicFile {
 public:
  static constexpr uint64_t kPiece = kHugePage;

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  // kCannotCreate when the folder is not writable or the destination exists and is not a regular file.
  static Result<AtomicFile> create(const std::string& path);

  // Appends. kIo names the errno (disk full, ...), here or in what is called later.
  Status write(std::span<const std::byte> bytes);
  // Overwrites at an absolute offset, at most the current size (for headers known last). Does not move the append
  // position.
  Status write_at(uint64_t offset, std::span<const std::byte> bytes);
  // Appends zero bytes up to the next multiple of `alignment` (a power of two).
  Status pad_to(uint64_t alignment);
  uint64_t size() const { return size_; }

  // Makes the file visible under its final name.
  Status commit();

 private:
  AtomicFile() = default;
  Status put(uint64_t offset, std::span<const std::byte> bytes);
  Status flush();

  std::string path_, temporary_;
  int fd_ = -1;
  uint64_t size_ = 0;
  std::vector<std::byte> last_;  // the end of the file that is not yet in it, less than kPiece
};

}  // namespace ll
