// One text in the KV cache.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/engine/kv_pages.h"

namespace ll {

// Tokens whose keys and values are in the cache (or about to be, during a run), and the pages that hold them: token i
// is in pages()[i / page_size], place i % page_size. Pages may have other owners; those are not written to. Gives its
// pages back when destroyed. The pool outlives it.
class Sequence {
 public:
  // Sequences of different salts never share pages by content.
  explicit Sequence(KvPages& pool, uint64_t salt = 0) : pool_(pool), salt_(salt) {}
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;
  ~Sequence() { truncate(0); }

  uint32_t length() const { return static_cast<uint32_t>(tokens_.size()); }
  const std::vector<int32_t>& tokens() const { return tokens_; }
  const std::vector<uint32_t>& pages() const { return pages_; }

  // Pages that `count` more tokens would need beyond those held; one more if the first of them would be written to a
  // page that must be copied.
  uint32_t pages_wanted(uint64_t count) const;
  // Takes pages until length() + count tokens fit, and asks for a copy (KvPages::add_copy) of the page that the first
  // goes to unless it is the sequence's alone and unpublished. False, and nothing taken, when the pool has too few.
  bool reserve(uint64_t count);
  // Appends a token that reserve() made room for.
  void append(int32_t token) { tokens_.push_back(token); }
  // Keeps the first `length` tokens (at most length()) and the pages that hold them.
  void truncate(uint32_t length);

  // Of an empty sequence: appends as many of the tokens as published pages hold and becomes an owner of those pages: of
  // the last one possibly only the beginning, which reserve() copies. Returns how many tokens.
  uint32_t adopt(std::span<const int32_t> tokens);
  // Of an empty sequence: appends the first `length` tokens of the other and becomes an owner of their pages.
  void fork(const Sequence& other, uint32_t length);
  // Makes what the full pages hold known to others. A page that holds what another page is known to hold is given back
  // for that one.
  void publish();
  // Takes back what publish() said of pages: their content is not to be trusted.
  void retract();

 private:
  bool must_copy() const;

  KvPages& pool_;
  uint64_t salt_;
  std::vector<int32_t> tokens_;
  std::vector<uint32_t> pages_;
  std::vector<PrefixId> prefixes_;  // of the first pages: those published
};

}  // namespace ll
