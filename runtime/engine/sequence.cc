#include "runtime/engine/sequence.h"

#include <cassert>

namespace ll {

uint32_t Sequence::pages_wanted(uint64_t count) const {
  const uint64_t pages = (tokens_.size() + count + page_size_ - 1) / page_size_;
  return pages > pages_.size() ? static_cast<uint32_t>(pages - pages_.size()) : 0;
}

bool Sequence::reserve(uint64_t count) {
  const uint32_t wanted = pages_wanted(count);
  if (wanted > pool_.free()) return false;
  tokens_.reserve(tokens_.size() + count);
  pages_.reserve(pages_.size() + wanted);
  for (uint32_t i = 0; i < wanted; ++i) pages_.push_back(*pool_.allocate());
  return true;
}

void Sequence::truncate(uint32_t length) {
  assert(length <= tokens_.size());
  tokens_.resize(length);
  const size_t keep = (size_t{length} + page_size_ - 1) / page_size_;
  while (pages_.size() > keep) {
    pool_.release(pages_.back());
    pages_.pop_back();
  }
}

}  // namespace ll
