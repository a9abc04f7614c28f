#include "runtime/engine/sequence.h"

#include <algorithm>
#include <cassert>

namespace ll {

bool Sequence::must_copy() const {
  if (tokens_.size() % pool_.page_size() == 0) return false;
  const uint32_t page = pages_[tokens_.size() / pool_.page_size()];
  return pool_.owners(page) > 1 || pool_.content(page) != kNoPrefix;
}

uint32_t Sequence::pages_wanted(uint64_t count) const {
  if (count == 0) return 0;
  const uint64_t pages = (tokens_.size() + count + pool_.page_size() - 1) / pool_.page_size();
  const uint32_t more = pages > pages_.size() ? static_cast<uint32_t>(pages - pages_.size()) : 0;
  return more + (must_copy() ? 1 : 0);
}

bool Sequence::reserve(uint64_t count) {
  uint32_t wanted = pages_wanted(count);
  if (wanted > pool_.free()) return false;
  if (wanted == 0) return true;
  tokens_.reserve(tokens_.size() + count);
  pages_.reserve(pages_.size() + wanted);
  if (must_copy()) {
    uint32_t& page = pages_[tokens_.size() / pool_.page_size()];
    const uint32_t copy = *pool_.allocate();
    pool_.add_copy({page, copy});
    // The copy is made before the next step, whoever is given the page until then.
    pool_.release(page);
    page = copy;
    --wanted;
  }
  for (uint32_t i = 0; i < wanted; ++i) pages_.push_back(*pool_.allocate());
  return true;
}

void Sequence::truncate(uint32_t length) {
  assert(length <= tokens_.size());
  tokens_.resize(length);
  const size_t keep = (size_t{length} + pool_.page_size() - 1) / pool_.page_size();
  while (pages_.size() > keep) {
    pool_.release(pages_.back());
    pages_.pop_back();
  }
  prefixes_.resize(std::min<size_t>(prefixes_.size(), length / pool_.page_size()));
}

uint32_t Sequence::adopt(std::span<const int32_t> tokens) {
  assert(tokens_.empty() && pages_.empty());
  const uint32_t size = pool_.page_size();
  PrefixId before = kNoPrefix;
  for (; tokens.size() >= size; tokens = tokens.subspan(size)) {
    const auto page = pool_.find(before, salt_, tokens.first(size));
    if (!page) break;
    pool_.retain(*page);
    before = pool_.content(*page);
    pages_.push_back(*page);
    prefixes_.push_back(before);
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.begin() + size);
  }
  if (const auto partial = pool_.find_partial(before, salt_, tokens.first(std::min<size_t>(tokens.size(), size)))) {
    pool_.retain(partial->page);
    pages_.push_back(partial->page);
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.begin() + partial->count);
  }
  return length();
}

void Sequence::fork(const Sequence& other, uint32_t length) {
  assert(tokens_.empty() && pages_.empty() && length <= other.length());
  const uint32_t size = pool_.page_size();
  tokens_.assign(other.tokens_.begin(), other.tokens_.begin() + length);
  for (size_t i = 0; i < (size_t{length} + size - 1) / size; ++i) {
    pool_.retain(other.pages_[i]);
    pages_.push_back(other.pages_[i]);
  }
  prefixes_.assign(other.prefixes_.begin(), other.prefixes_.begin() + static_cast<ptrdiff_t>(std::min<size_t>(
                                                                          other.prefixes_.size(), length / size)));
}

void Sequence::publish() {
  const uint32_t size = pool_.page_size();
  for (size_t i = prefixes_.size(); i < tokens_.size() / size; ++i) {
    const PrefixId before = i == 0 ? kNoPrefix : prefixes_[i - 1];
    const std::span<const int32_t> tokens = std::span(tokens_).subspan(i * size, size);
    if (const auto known = pool_.find(before, salt_, tokens)) {
      pool_.retain(*known);
      pool_.release(pages_[i]);
      pages_[i] = *known;
    } else {
      pool_.publish(pages_[i], before, salt_, tokens);
    }
    prefixes_.push_back(pool_.content(pages_[i]));
  }
}

void Sequence::retract() {
  for (size_t i = 0; i < prefixes_.size(); ++i) pool_.forget(pages_[i]);
  prefixes_.clear();
}

}  // namespace ll
