#include "runtime/text/vocabulary.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>

namespace ll {
namespace {

uint64_t mix(uint64_t x) {  // finalizer of MurmurHash3
  x ^= x >> 33;
  x *= 0xFF51AFD7ED558CCDull;
  x ^= x >> 33;
  x *= 0xC4CEB9FE1A85EC53ull;
  return x ^ x >> 33;
}

uint64_t pair_hash(int32_t left, int32_t right) {
  return mix(static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right));
}

}  // namespace

void TextIndex::build(const TextTable& tokens, const std::vector<bool>& skip) {
  tokens_ = &tokens;
  slots_.assign(std::bit_ceil(std::max<size_t>(8, 2 * tokens.size())), {});
  longest_ = 0;
  const size_t mask = slots_.size() - 1;
  for (size_t id = 0; id < tokens.size(); ++id) {
    const std::string_view text = tokens[id];
    if (text.empty() || (!skip.empty() && skip[id])) continue;
    longest_ = std::max(longest_, text.size());
    const uint64_t hash = XXH3_64bits(text.data(), text.size());
    const auto tag = static_cast<uint32_t>(hash >> 32);
    size_t at = hash & mask;
    while (slots_[at].id >= 0 && !(slots_[at].tag == tag && tokens[static_cast<size_t>(slots_[at].id)] == text)) {
      at = (at + 1) & mask;
    }
    slots_[at] = {tag, static_cast<int32_t>(id)};
  }
}

int32_t TextIndex::find(std::string_view text) const {
  if (text.size() > longest_) return -1;
  const uint64_t hash = XXH3_64bits(text.data(), text.size());
  const auto tag = static_cast<uint32_t>(hash >> 32);
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask;; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.id < 0) return -1;
    if (slot.tag == tag && (*tokens_)[static_cast<size_t>(slot.id)] == text) return slot.id;
  }
}

void MergeIndex::build(const std::vector<BpeMerge>& merges, bool last) {
  slots_.assign(std::bit_ceil(std::max<size_t>(8, merges.size() + merges.size() / 2)), {});
  const size_t mask = slots_.size() - 1;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const BpeMerge& m = merges[rank];
    size_t at = pair_hash(m.left, m.right) & mask;
    while (slots_[at].left >= 0 && !(slots_[at].left == m.left && slots_[at].right == m.right)) at = (at + 1) & mask;
    if (slots_[at].left >= 0 && !last) continue;
    slots_[at] = {m.left, m.right, {static_cast<uint32_t>(rank), m.result}};
  }
}

MergeIndex::Found MergeIndex::find(int32_t left, int32_t right) const {
  const size_t mask = slots_.size() - 1;
  for (size_t at = pair_hash(left, right) & mask;; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.left < 0) return {};
    if (slot.left == left && slot.right == right) return slot.found;
  }
}

void ByteTrie::grow() {
  std::vector<Slot> old = std::move(slots_);
  slots_.assign(std::max<size_t>(1024, old.size() * 2), {});
  const size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.node == kNone) continue;
    size_t at = mix(slot.key) & mask;
    while (slots_[at].node != kNone) at = (at + 1) & mask;
    slots_[at] = slot;
  }
}

void ByteTrie::add(std::string_view text, int32_t value) {
  if (text.empty()) return;
  uint32_t node = kRoot;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    uint32_t next = step(node, byte);
    if (next == kNone) {
      next = static_cast<uint32_t>(values_.size());
      values_.push_back(-1);
      if (node == kRoot) {
        first_[byte] = next;
      } else {
        if (2 * values_.size() > slots_.size()) grow();
        const size_t mask = slots_.size() - 1;
        const uint64_t key = static_cast<uint64_t>(node) << 8 | byte;
        size_t at = mix(key) & mask;
        while (slots_[at].node != kNone) at = (at + 1) & mask;
        slots_[at] = {key, next};
      }
    }
    node = next;
  }
  values_[node] = value;
}

uint32_t ByteTrie::step(uint32_t node, uint8_t byte) const {
  if (node == kRoot) return first_[byte];
  if (slots_.empty()) return kNone;
  const size_t mask = slots_.size() - 1;
  const uint64_t key = static_cast<uint64_t>(node) << 8 | byte;
  for (size_t at = mix(key) & mask;; at = (at + 1) & mask) {
    if (slots_[at].node == kNone) return kNone;
    if (slots_[at].key == key) return slots_[at].node;
  }
}

}  // namespace ll
