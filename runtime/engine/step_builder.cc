#include "runtime/engine/step_builder.h"

namespace ll {

void StepBuilder::clear() {
  for (auto* values :
       {&step_.tokens, &step_.positions, &step_.sequences, &step_.slots, &step_.block_table, &step_.rows}) {
    values->clear();
  }
  step_.sequence_count = 0;
}

Status StepBuilder::add(const Sequence& sequence, std::span<const int32_t> tokens, LogitRows rows) {
  const std::vector<uint32_t>& pages = sequence.pages();
  const uint64_t begin = sequence.length(), end = begin + tokens.size();
  if (tokens.empty()) return error(Code::kInternal, "a chunk without tokens");
  if (end > plan_.model.context_length || end > uint64_t{plan_.pages_per_sequence} * plan_.page_size) {
    return error(Code::kInternal, "position {} lies beyond the context of {} tokens", end - 1,
                 plan_.model.context_length);
  }
  const uint64_t used_pages = (end + plan_.page_size - 1) / plan_.page_size;
  if (used_pages > pages.size()) {
    return error(Code::kInternal, "position {} has no page: the sequence holds {}", end - 1, pages.size());
  }
  for (size_t i = 0; i < used_pages; ++i) {
    if (pages[i] >= plan_.pages) return error(Code::kInternal, "page {} of {}", pages[i], plan_.pages);
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || static_cast<uint32_t>(tokens[i]) >= plan_.model.vocab_size) {
      return usage("token {} at position {}, expected 0 to {}", tokens[i], begin + i, plan_.model.vocab_size - 1);
    }
  }
  const auto row = static_cast<int32_t>(step_.sequence_count++);
  step_.block_table.resize(size_t{step_.sequence_count} * plan_.pages_per_sequence, 0);
  int32_t* const table = step_.block_table.data() + static_cast<size_t>(row) * plan_.pages_per_sequence;
  for (size_t i = 0; i < used_pages; ++i) table[i] = static_cast<int32_t>(pages[i]);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const uint64_t position = begin + i;
    const uint64_t slot = uint64_t{pages[position / plan_.page_size]} * plan_.page_size + position % plan_.page_size;
    const bool wanted = rows == LogitRows::kAll || (rows == LogitRows::kLast && i + 1 == tokens.size());
    if (wanted) step_.rows.push_back(static_cast<int32_t>(step_.tokens.size()));
    step_.tokens.push_back(tokens[i]);
    step_.positions.push_back(static_cast<int32_t>(position));
    step_.sequences.push_back(row);
    step_.slots.push_back(static_cast<int32_t>(slot));
  }
  return {};
}

}  // namespace ll
