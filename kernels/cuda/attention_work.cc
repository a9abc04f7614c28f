#include "kernels/cuda/attention_work.h"

#include <algorithm>

namespace ll::cuda {
namespace {

// Blocks take items in turn, the longest first: with this many a block the last ones are short.
constexpr int64_t kItemsPerBlock = 2;

bool is_prefill(const AttentionItem& item, int group) {
  return item.tokens > 1 && item.tokens * group > kAttentionRows;
}

// Units of the item times tiles of rows.
int64_t cost(const AttentionItem& item, int group) {
  const int64_t rows = int64_t{item.tokens} * group;
  return (item.unit_end - item.unit_begin) * ((rows + kAttentionRows - 1) / kAttentionRows);
}

// One item for each tile of neighbouring tokens of a sequence.
void add_tiles(int group, std::span<const int32_t> positions, std::span<const int32_t> sequences,
               std::vector<AttentionItem>& items) {
  const int count = static_cast<int>(positions.size());
  for (int first = 0, end = 0; first < count; first = end) {
    for (end = first + 1; end < count && sequences[static_cast<size_t>(end)] == sequences[static_cast<size_t>(first)] &&
                          positions[static_cast<size_t>(end)] == positions[static_cast<size_t>(end - 1)] + 1;) {
      ++end;
    }
    const int rows = (end - first) * group <= kAttentionRows ? kAttentionRows : kAttentionPrefillRows;
    const int tokens = std::max(1, rows / group);
    for (int t = first; t < end; t += tokens) {
      const int last = std::min(t + tokens, end) - 1;
      const int units = positions[static_cast<size_t>(last)] / kAttentionUnit + 1;
      items.push_back({t, last - t + 1, sequences[static_cast<size_t>(t)], 0, units, 0, units, 1, 0, 0, {0, 0}});
    }
  }
}

}  // namespace

void attention_work(const AttentionShape& shape, std::span<const int32_t> positions, std::span<const int32_t> sequences,
                    std::vector<AttentionItem>& items) {
  const int group = shape.heads / shape.kv_heads;
  std::vector<AttentionItem> tiles;
  add_tiles(group, positions, sequences, tiles);
  int64_t total = 0;
  for (const AttentionItem& tile : tiles) total += cost(tile, group);
  const int64_t wanted = std::max<int64_t>(1, kItemsPerBlock * shape.blocks / shape.kv_heads);
  const int share = static_cast<int>(std::max<int64_t>(1, total / wanted));

  items.clear();
  int slots = 0, counters = 0;
  for (const AttentionItem& tile : tiles) {
    const int each = std::max(1, share * tile.units / static_cast<int>(std::max<int64_t>(1, cost(tile, group))));
    const int parts = (tile.units + each - 1) / each, needed = tile.units * tile.tokens;
    if (is_prefill(tile, group) || parts <= 1 || slots + needed > kAttentionSlots) {
      items.push_back(tile);
      continue;
    }
    for (int unit = 0; unit < tile.units; unit += each) {
      AttentionItem part = tile;
      part.unit_begin = unit;
      part.unit_end = std::min(unit + each, tile.units);
      part.parts = parts;
      part.slot = slots;
      part.counter = counters;
      items.push_back(part);
    }
    slots += needed;
    ++counters;
  }
  std::stable_sort(items.begin(), items.end(),
                   [&](const AttentionItem& a, const AttentionItem& b) { return cost(a, group) > cost(b, group); });
}

}  // namespace ll::cuda
