#include "runtime/device/cpu/anonymous_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/base/mapped_file.h"

namespace ll {

AnonymousMemory::AnonymousMemory(AnonymousMemory&& other) noexcept { *this = std::move(other); }

AnonymousMemory& AnonymousMemory::operator=(AnonymousMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

AnonymousMemory::~AnonymousMemory() {
  if (data_ != nullptr) munmap(data_, size_);
}

Result<AnonymousMemory> AnonymousMemory::map(uint64_t bytes, std::string_view what) {
  AnonymousMemory memory;
  if (bytes == 0) return memory;
  // Without a reservation: a pool for many long contexts may exceed what is free and never be used up.
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return error(Code::kOutOfMemory, "cannot map {} bytes for {}: {}", bytes, what, strerror(errno));
  }
  // Fewer misses in the translation of addresses, where the system allows it (it may ignore the advice).
  if (bytes >= 2 * kHugePage) madvise(data, bytes, MADV_HUGEPAGE);
  memory.data_ = static_cast<std::byte*>(data);
  memory.size_ = bytes;
  return memory;
}

}  // namespace ll
