// Flat hash tables over a TokenizerSpec: token texts, merges and byte tries. All are built in one pass at load.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/text/tokenizer_spec.h"

namespace ll {

// From a text to its id. Where two tokens have one text, the one with the larger id is found.
class TextIndex {
 public:
  // `tokens` must outlive the index. Ids with skip[id] are left out (an empty `skip` skips none); so are empty texts.
  void build(const TextTable& tokens, const std::vector<bool>& skip);
  int32_t find(std::string_view text) const;   // -1: none
  size_t longest() const { return longest_; }  // bytes of the longest text

 private:
  struct Slot {
    uint32_t tag = 0;
    int32_t id = -1;
  };
  const TextTable* tokens_ = nullptr;
  std::vector<Slot> slots_;  // a power of two, at most half full
  size_t longest_ = 0;
};

// From two neighbouring symbols to what they become.
class MergeIndex {
 public:
  struct Found {
    uint32_t rank = 0;
    int32_t result = -1;  // -1: they do not merge
  };
  // Where a pair is listed twice, the first one counts (`last` false) or the last one (`last` true).
  void build(const std::vector<BpeMerge>& merges, bool last);
  Found find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    int32_t left = -1, right = -1;
    Found found;
  };
  std::vector<Slot> slots_;
};

// Byte strings with a value each, walked byte by byte.
class ByteTrie {
 public:
  static constexpr uint32_t kRoot = 0;
  static constexpr uint32_t kNone = UINT32_MAX;

  void add(std::string_view text, int32_t value);               // a second value of one text replaces the first
  uint32_t step(uint32_t node, uint8_t byte) const;             // kNone: no string goes on like this
  int32_t value(uint32_t node) const { return values_[node]; }  // -1: no string ends here
  bool starts(uint8_t byte) const { return first_[byte] != kNone; }
  bool empty() const { return values_.size() == 1; }

 private:
  struct Slot {
    uint64_t key = UINT64_MAX;
    uint32_t node = kNone;
  };
  void grow();
  std::vector<Slot> slots_;
  std::vector<int32_t> values_ = {-1};
  std::array<uint32_t, 256> first_ = [] {
    std::array<uint32_t, 256> none{};
    none.fill(kNone);
    return none;
  }();
};

}  // namespace ll
