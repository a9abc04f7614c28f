// The one bounds-checked reader. Every parser of hostile bytes goes through it; there is no other pointer arithmetic on
// input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "runtime/base/result.h"

namespace ll {

// Reads little-endian values from a byte span, front to back. The bytes must outlive the reader and all it returns.
// Every failure is Code::kBadData and names the offset, the bytes wanted and the bytes left.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  size_t position() const { return position_; }
  size_t remaining() const { return bytes_.size() - position_; }

  // An unaligned little-endian number.
  template <class T>
  requires std::is_arithmetic_v<T> Result<T> read() {
    if (remaining() < sizeof(T)) return truncated(sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  // The next n bytes, as a view into the source.
  Result<std::span<const std::byte>> bytes(uint64_t n) {
    if (remaining() < n) return truncated(n);
    const auto view = bytes_.subspan(position_, n);
    position_ += n;
    return view;
  }

  // The next n bytes as text, as a view into the source. Not checked for UTF-8.
  Result<std::string_view> text(uint64_t n) {
    if (remaining() < n) return truncated(n);
    const std::string_view view(reinterpret_cast<const char*>(bytes_.data() + position_), n);
    position_ += n;
    return view;
  }

  // Moves to an absolute offset, at most the end.
  Status seek(uint64_t offset) {
    if (offset > bytes_.size()) return bad_data("offset {} lies beyond the end ({} bytes)", offset, bytes_.size());
    position_ = offset;
    return {};
  }

 private:
  Error truncated(uint64_t wanted) const {
    return bad_data("truncated at offset {}: {} bytes wanted, {} left", position_, wanted, remaining());
  }

  std::span<const std::byte> bytes_;
  size_t position_ = 0;
};

}  // namespace ll
