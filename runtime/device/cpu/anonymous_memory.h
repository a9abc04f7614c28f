// Zeroed private memory from the kernel, page aligned, taken when first touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "runtime/base/result.h"

namespace ll {

class AnonymousMemory {
 public:
  AnonymousMemory() = default;
  AnonymousMemory(AnonymousMemory&& other) noexcept;
  AnonymousMemory& operator=(AnonymousMemory&& other) noexcept;
  ~AnonymousMemory();

  // Address space alone is reserved: memory is taken page by page as it is written. `what` names it in the error
  // (kOutOfMemory). 0 bytes is valid and maps nothing.
  static Result<AnonymousMemory> map(uint64_t bytes, std::string_view what);

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace ll
