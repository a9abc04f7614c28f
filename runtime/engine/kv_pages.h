// Which pages of the KV pool are in use, by how many texts, and what the full ones hold.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "runtime/device/device.h"

namespace ll {

// Names a text from its beginning to the end of some page: two texts have the same id if and only if their tokens and
// their salt are the same. Ids are never used again.
using PrefixId = uint64_t;
inline constexpr PrefixId kNoPrefix = 0;

// Page ids 0 .. count-1, shared by all layers. A page is
//   fresh      never used
//   free       without owner and content
//   in use     named by the block tables of `owners` sequences
//   cached     without owner, but its content is known: find() brings it back, and allocate() takes the one that was
//              released longest ago when nothing else is left
// Content is published for full pages only and such pages are never written again (Sequence::reserve copies before it
// writes to a page that is published or has another owner). A page is found by a hash of what it holds and by what
// comes before it, and then compared token for token, so that a collision costs time and never gives a wrong page.
// Not thread safe.
class KvPages {
 public:
  using Hash = uint64_t (*)(std::span<const std::byte>);
  struct Options {
    uint32_t page_size = 32;  // tokens
    // While so many pages were used before, cached pages are given away rather than fresh pages taken: a fresh page
    // may cost memory.
    uint32_t resident = UINT32_MAX;
    Hash hash = nullptr;  // null: XXH3. Tests make it collide
  };

  explicit KvPages(uint32_t count) : KvPages(count, Options()) {}
  KvPages(uint32_t count, const Options& options);

  uint32_t page_size() const { return options_.page_size; }
  uint32_t count() const { return static_cast<uint32_t>(pages_.size()); }
  // Pages that allocate() can give: fresh, free and cached.
  uint32_t free() const { return count() - used_; }
  uint32_t cached() const { return cached_; }
  uint32_t owners(uint32_t page) const { return pages_[page].owners; }
  uint64_t evictions() const { return evictions_; }  // cached pages that allocate() gave away
  uint64_t copies() const { return copy_count_; }    // that add_copy() asked for

  // A page with one owner and no content, nullopt when none is free.
  std::optional<uint32_t> allocate();
  // Adds an owner to a page in use or cached.
  void retain(uint32_t page);
  // Takes an owner away. Without owners a page is cached if it has content, else free. A sequence releases its last
  // page first, so that what a cached page comes after stays at least as long as the page itself.
  void release(uint32_t page);

  // The page that holds `tokens` (page_size of them) after the text `before`. It may be cached: retain() it.
  std::optional<uint32_t> find(PrefixId before, uint64_t salt, std::span<const int32_t> tokens) const;
  // The page after the text `before` whose beginning agrees longest with `tokens` (fewer than page_size may be given),
  // and how many agree. Looks at the kMostSiblings published last. nullopt when none agrees in its first token.
  static constexpr size_t kMostSiblings = 64;
  struct Partial {
    uint32_t page = 0, count = 0;
  };
  std::optional<Partial> find_partial(PrefixId before, uint64_t salt, std::span<const int32_t> tokens) const;
  // Says what a page in use holds. Nothing else holds the same (find() says so). Returns the text's id.
  PrefixId publish(uint32_t page, PrefixId before, uint64_t salt, std::span<const int32_t> tokens);
  // Id of the text that ends with the page, kNoPrefix for a page without known content.
  PrefixId content(uint32_t page) const { return pages_[page].id; }
  // Makes the content unknown: nobody will find the page.
  void forget(uint32_t page);
  // Forgets all content.
  void forget_all();

  // Copies that the device must make before the next step, in order. take_copies() empties the list.
  void add_copy(PageCopy copy) {
    copies_.push_back(copy);
    ++copy_count_;
  }
  std::vector<PageCopy> take_copies() { return std::exchange(copies_, {}); }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Page {
    uint32_t owners = 0;
    uint32_t newer = kNone, older = kNone;  // neighbours in the list of cached pages
    uint32_t next = kNone;                  // with a hash of the same bucket
    uint32_t sibling = kNone;               // that comes after a text of the same bucket
    PrefixId id = kNoPrefix, before = kNoPrefix;
    uint64_t salt = 0, hash = 0;
  };

  uint64_t hash(PrefixId before, uint64_t salt, std::span<const int32_t> tokens) const;
  size_t family(PrefixId before, uint64_t salt) const;
  std::span<int32_t> tokens(uint32_t page);
  std::span<const int32_t> tokens(uint32_t page) const;
  uint32_t& bucket(uint64_t hash) { return buckets_[hash % buckets_.size()]; }
  void unlink_cached(uint32_t page);

  Options options_;
  std::vector<Page> pages_;
  std::vector<int32_t> tokens_;     // [count, page_size], of pages with content
  std::vector<uint32_t> buckets_;   // first page of each hash, by page's hash
  std::vector<uint32_t> families_;  // the same by the hash of what comes before
  std::vector<uint32_t> free_;      // used from the back
  uint32_t fresh_ = 0;              // pages from here on are fresh
  uint32_t used_ = 0, cached_ = 0;
  uint32_t newest_ = kNone, oldest_ = kNone;  // of the cached
  PrefixId last_id_ = kNoPrefix;
  uint64_t evictions_ = 0, copy_count_ = 0;
  std::vector<PageCopy> copies_;
};

}  // namespace ll
