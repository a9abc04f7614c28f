#include "kernels/cuda/attention_work.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace ll::cuda {
namespace {

struct Chunk {
  int sequence, first, tokens;
};

std::vector<AttentionItem> work(const AttentionShape& shape, std::initializer_list<Chunk> chunks) {
  std::vector<int32_t> positions, sequences;
  for (const Chunk& c : chunks) {
    for (int i = 0; i < c.tokens; ++i) positions.push_back(c.first + i), sequences.push_back(c.sequence);
  }
  std::vector<AttentionItem> items;
  attention_work(shape, positions, sequences, items);
  EXPECT_LE(items.size(), most_attention_items(positions.size()));

  // Every token meets each unit up to its own exactly once, from an item of its sequence; slots and counters are inside
  // their limits and nobody else's.
  std::map<std::pair<int, int>, int> seen;
  std::map<int, std::pair<int, int>> slots, parts;
  for (const AttentionItem& i : items) {
    for (int t = i.first_token; t < i.first_token + i.tokens; ++t) {
      EXPECT_EQ(sequences[static_cast<size_t>(t)], i.sequence);
      for (int u = i.unit_begin; u < i.unit_end; ++u) {
        ++seen[{t, u}];
        if (i.parts == 1) continue;
        const int slot = i.slot + (u - i.first_unit) * i.tokens + t - i.first_token;
        EXPECT_LT(slot, kAttentionSlots);
        EXPECT_TRUE(slots.emplace(slot, std::pair{t, u}).second) << "slot " << slot << " twice";
      }
    }
    EXPECT_LE(i.first_unit, i.unit_begin);
    EXPECT_LE(i.unit_end, i.first_unit + i.units);
    if (i.parts > 1) {
      EXPECT_LT(i.counter, kAttentionSlots);
      ++parts[i.counter].first;
      parts[i.counter].second = i.parts;
    }
  }
  for (const auto& [counter, count] : parts) EXPECT_EQ(count.first, count.second) << "counter " << counter;
  for (size_t t = 0; t < positions.size(); ++t) {
    for (int u = 0; u <= positions[t] / kAttentionUnit; ++u)
      EXPECT_EQ((seen[{static_cast<int>(t), u}]), 1) << t << " " << u;
  }
  return items;
}

TEST(AttentionWork, SplitsALongSequenceOverTheBlocks) {
  const AttentionShape shape{120, 32, 8};
  const std::vector<AttentionItem> items = work(shape, {{0, 8000, 1}});
  EXPECT_EQ(items.size(), 32u) << "32 units, and 8 heads to multiply them by";
  EXPECT_EQ(items[0].parts, 32);
  EXPECT_EQ(work(shape, {{0, 100, 1}}).size(), 1u);
  EXPECT_EQ(work(shape, {{0, 0, 1}}).size(), 1u);
}

TEST(AttentionWork, ManySequencesNeedNoSplit) {
  std::vector<int32_t> positions(64, 700), sequences;
  for (int i = 0; i < 64; ++i) sequences.push_back(i);
  std::vector<AttentionItem> items;
  attention_work({120, 32, 8}, positions, sequences, items);
  EXPECT_EQ(items.size(), 64u);
  for (const AttentionItem& i : items) EXPECT_EQ(i.parts, 1);
}

TEST(AttentionWork, MixesPrefillAndDecode) {
  const std::vector<AttentionItem> items = work({120, 32, 8}, {{0, 3000, 100}, {1, 5000, 1}, {2, 0, 4}, {3, 255, 2}});
  for (size_t i = 1; i < items.size(); ++i) {
    EXPECT_GE((items[i - 1].unit_end - items[i - 1].unit_begin) * items[i - 1].tokens * 4 / 16 + 1,
              (items[i].unit_end - items[i].unit_begin) * items[i].tokens * 4 / 16)
        << "longest first";
  }
  // Two sequences whose rows are neighbours in the block table and positions happen to continue.
  work({4, 4, 4}, {{0, 4, 3}, {1, 7, 2}});
}

TEST(AttentionWork, StaysInsideItsSlots) {
  work({1000, 8, 8}, {{0, 300000, 1}, {1, 60000, 1}, {2, 40000, 1}});
  work({1000, 40, 1}, {{0, 30000, 1}});
  std::vector<AttentionItem> items;
  attention_work({10, 8, 8}, {}, {}, items);
  EXPECT_TRUE(items.empty());
}

}  // namespace
}  // namespace ll::cuda
