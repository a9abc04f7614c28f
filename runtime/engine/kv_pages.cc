#include "runtime/engine/kv_pages.h"

#include <cassert>

namespace ll {

KvPages::KvPages(uint32_t count) : owners_(count, 0) {
  free_.reserve(count);
  for (uint32_t page = count; page > 0; --page) free_.push_back(page - 1);
}

std::optional<uint32_t> KvPages::allocate() {
  if (free_.empty()) return std::nullopt;
  const uint32_t page = free_.back();
  free_.pop_back();
  owners_[page] = 1;
  return page;
}

void KvPages::retain(uint32_t page) {
  assert(owners_[page] > 0);
  ++owners_[page];
}

void KvPages::release(uint32_t page) {
  assert(owners_[page] > 0);
  if (--owners_[page] == 0) free_.push_back(page);
}

}  // namespace ll
