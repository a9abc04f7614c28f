// One text in the KV cache.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/engine/kv_pages.h"

namespace ll {

// Tokens whose keys and values are in the cache (or about to be, during a run), and the pages that hold them: token i
// is in pages()[i / page_size], place i % page_size. Gives its pages back when destroyed. The pool outlives it.
class Sequence {
 public:
  Sequence(KvPages& pool, uint32_t page_size) : pool_(pool), page_size_(page_size) {}
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;
  ~Sequence() { truncate(0); }

  uint32_t length() const { return static_cast<uint32_t>(tokens_.size()); }
  const std::vector<int32_t>& tokens() const { return tokens_; }
  const std::vector<uint32_t>& pages() const { return pages_; }

  // Pages that `count` more tokens would need beyond those held.
  uint32_t pages_wanted(uint64_t count) const;
  // Takes pages until length() + count tokens fit. False, and nothing taken, when the pool has too few.
  bool reserve(uint64_t count);
  // Appends a token that reserve() made room for.
  void append(int32_t token) { tokens_.push_back(token); }
  // Keeps the first `length` tokens (at most length()) and the pages that hold them.
  void truncate(uint32_t length);

 private:
  KvPages& pool_;
  uint32_t page_size_;
  std::vector<int32_t> tokens_;
  std::vector<uint32_t> pages_;
};

}  // namespace ll
