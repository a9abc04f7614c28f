#include "runtime/engine/kv_pages.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "runtime/plan/checksum.h"

namespace ll {

KvPages::KvPages(uint32_t count, const Options& options)
    : options_(options),
      pages_(count),
      tokens_(size_t{count} * options.page_size),
      buckets_(std::max<size_t>(size_t{count} * 2, 1), kNone),
      families_(buckets_) {
  if (options_.hash == nullptr) options_.hash = hash64;
  free_.reserve(count);
}

std::optional<uint32_t> KvPages::allocate() {
  uint32_t page = 0;
  if (!free_.empty()) {
    page = free_.back();
    free_.pop_back();
  } else if (fresh_ < count() && (fresh_ < options_.resident || cached_ == 0)) {
    page = fresh_++;
  } else if (cached_ > 0) {
    page = oldest_;
    unlink_cached(page);
    forget(page);
    ++evictions_;
  } else {
    return std::nullopt;
  }
  pages_[page].owners = 1;
  ++used_;
  return page;
}

void KvPages::retain(uint32_t page) {
  Page& p = pages_[page];
  assert(p.owners > 0 || p.id != kNoPrefix);
  if (p.owners == 0) {
    unlink_cached(page);
    ++used_;
  }
  ++p.owners;
}

void KvPages::release(uint32_t page) {
  Page& p = pages_[page];
  assert(p.owners > 0);
  if (--p.owners > 0) return;
  --used_;
  if (p.id == kNoPrefix) {
    free_.push_back(page);
    return;
  }
  p.newer = kNone;
  p.older = newest_;
  if (newest_ != kNone) pages_[newest_].newer = page;
  newest_ = page;
  if (oldest_ == kNone) oldest_ = page;
  ++cached_;
}

void KvPages::unlink_cached(uint32_t page) {
  Page& p = pages_[page];
  (p.newer == kNone ? newest_ : pages_[p.newer].older) = p.older;
  (p.older == kNone ? oldest_ : pages_[p.older].newer) = p.newer;
  p.newer = p.older = kNone;
  --cached_;
}

std::span<int32_t> KvPages::tokens(uint32_t page) {
  return std::span(tokens_).subspan(size_t{page} * options_.page_size, options_.page_size);
}
std::span<const int32_t> KvPages::tokens(uint32_t page) const {
  return std::span(tokens_).subspan(size_t{page} * options_.page_size, options_.page_size);
}

uint64_t KvPages::hash(PrefixId before, uint64_t salt, std::span<const int32_t> tokens) const {
  const uint64_t rest[] = {before, salt, options_.hash(std::as_bytes(tokens))};
  return options_.hash(std::as_bytes(std::span(rest)));
}

std::optional<uint32_t> KvPages::find(PrefixId before, uint64_t salt, std::span<const int32_t> wanted) const {
  assert(wanted.size() == options_.page_size);
  const uint64_t h = hash(before, salt, wanted);
  for (uint32_t page = buckets_[h % buckets_.size()]; page != kNone; page = pages_[page].next) {
    const Page& p = pages_[page];
    if (p.hash == h && p.before == before && p.salt == salt && std::ranges::equal(tokens(page), wanted)) return page;
  }
  return std::nullopt;
}

size_t KvPages::family(PrefixId before, uint64_t salt) const {
  const uint64_t key[] = {before, salt};
  return options_.hash(std::as_bytes(std::span(key))) % families_.size();
}

std::optional<KvPages::Partial> KvPages::find_partial(PrefixId before, uint64_t salt,
                                                      std::span<const int32_t> wanted) const {
  Partial best;
  size_t seen = 0;
  for (uint32_t page = families_[family(before, salt)]; page != kNone && seen < kMostSiblings;
       page = pages_[page].sibling) {
    ++seen;
    if (pages_[page].before != before || pages_[page].salt != salt) continue;
    const auto agree = std::ranges::mismatch(tokens(page), wanted).in2 - wanted.begin();
    if (static_cast<uint32_t>(agree) > best.count) best = {page, static_cast<uint32_t>(agree)};
  }
  return best.count == 0 ? std::nullopt : std::optional(best);
}

PrefixId KvPages::publish(uint32_t page, PrefixId before, uint64_t salt, std::span<const int32_t> content) {
  Page& p = pages_[page];
  assert(p.owners > 0 && p.id == kNoPrefix && content.size() == options_.page_size);
  std::ranges::copy(content, tokens(page).begin());
  p.id = ++last_id_;
  p.before = before;
  p.salt = salt;
  p.hash = hash(before, salt, content);
  p.next = std::exchange(bucket(p.hash), page);
  p.sibling = std::exchange(families_[family(before, salt)], page);
  return p.id;
}

void KvPages::forget(uint32_t page) {
  Page& p = pages_[page];
  if (p.id == kNoPrefix) return;
  uint32_t* link = &bucket(p.hash);
  while (*link != page) link = &pages_[*link].next;
  *link = std::exchange(p.next, kNone);
  link = &families_[family(p.before, p.salt)];
  while (*link != page) link = &pages_[*link].sibling;
  *link = std::exchange(p.sibling, kNone);
  p.id = kNoPrefix;
}

void KvPages::forget_all() {
  while (oldest_ != kNone) {
    const uint32_t page = oldest_;
    unlink_cached(page);
    free_.push_back(page);
  }
  for (uint32_t page = 0; page < count(); ++page) forget(page);
}

}  // namespace ll
