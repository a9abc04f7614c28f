// XXH3 checksums of plans and source files. They find accidents; they prove nothing about who wrote a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace ll {

struct Hash128 {
  uint64_t low = 0, high = 0;
  bool operator==(const Hash128&) const = default;
  std::string hex() const;  // 32 digits, high half first, as xxhsum -H2 prints it
};

uint64_t hash64(std::span<const std::byte> bytes);  // XXH3-64, seed 0
Hash128 hash128(std::span<const std::byte> bytes);  // XXH3-128, seed 0

// XXH3-128 of bytes that come in pieces.
class Hash128Stream {
 public:
  Hash128Stream();
  ~Hash128Stream();
  void add(std::span<const std::byte> bytes);
  Hash128 finish() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ll
