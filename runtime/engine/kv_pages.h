// Which pages of the KV pool are in use.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace ll {

// Page ids 0 .. count-1, shared by all layers. A page has as many owners as sequences whose block table names it (one
// each today; shared prefixes raise it). Not thread safe.
class KvPages {
 public:
  explicit KvPages(uint32_t count);

  uint32_t count() const { return static_cast<uint32_t>(owners_.size()); }
  uint32_t free() const { return static_cast<uint32_t>(free_.size()); }
  uint32_t owners(uint32_t page) const { return owners_[page]; }

  // A page with one owner, nullopt when none is free.
  std::optional<uint32_t> allocate();
  // Adds an owner to a page in use.
  void retain(uint32_t page);
  // Takes an owner away; the page is free when it was the last.
  void release(uint32_t page);

 private:
  std::vector<uint32_t> owners_;
  std::vector<uint32_t> free_;  // used from the back
};

}  // namespace ll
