#include "runtime/engine/kv_pages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "runtime/engine/sequence.h"

namespace ll {
namespace {

TEST(KvPages, GivesEachPageOnceAndThenNone) {
  KvPages pages(5);
  std::set<uint32_t> seen;
  for (int i = 0; i < 5; ++i) {
    const auto page = pages.allocate();
    ASSERT_TRUE(page);
    EXPECT_LT(*page, 5U);
    EXPECT_TRUE(seen.insert(*page).second);
  }
  EXPECT_FALSE(pages.allocate());
  EXPECT_EQ(pages.free(), 0U);
}

TEST(KvPages, APageIsFreeWhenItsLastOwnerGoes) {
  KvPages pages(1);
  const uint32_t page = *pages.allocate();
  pages.retain(page);
  pages.release(page);
  EXPECT_EQ(pages.owners(page), 1U);
  EXPECT_FALSE(pages.allocate());
  pages.release(page);
  EXPECT_EQ(pages.allocate(), page);
}

// Random reserves and truncates of several sequences: pages are never shared, never lost, and as many as the lengths
// need.
TEST(KvPages, SequencesNeverShareOrLosePages) {
  constexpr uint32_t kPages = 40, kPageSize = 4;
  KvPages pages(kPages);
  std::mt19937 engine(1);
  const auto random = [&] { return static_cast<uint32_t>(engine()); };
  {
    std::vector<std::unique_ptr<Sequence>> sequences;
    for (int i = 0; i < 6; ++i) sequences.push_back(std::make_unique<Sequence>(pages, kPageSize));
    for (int step = 0; step < 5000; ++step) {
      Sequence& s = *sequences[random() % sequences.size()];
      if (random() % 3 == 0) {
        s.truncate(s.length() == 0 ? 0 : random() % (s.length() + 1));
      } else {
        const uint32_t count = random() % 20, wanted = s.pages_wanted(count), free = pages.free();
        ASSERT_EQ(s.reserve(count), wanted <= free);
        ASSERT_EQ(pages.free(), wanted <= free ? free - wanted : free);
        if (wanted <= free) {
          for (uint32_t i = 0; i < count; ++i) s.append(static_cast<int32_t>(i));
        }
      }
      std::set<uint32_t> used;
      size_t held = 0;
      for (const auto& sequence : sequences) {
        ASSERT_EQ(sequence->pages().size(), (sequence->length() + kPageSize - 1) / kPageSize);
        held += sequence->pages().size();
        used.insert(sequence->pages().begin(), sequence->pages().end());
      }
      ASSERT_EQ(used.size(), held);
      ASSERT_EQ(held + pages.free(), kPages);
    }
  }
  EXPECT_EQ(pages.free(), kPages);
}

}  // namespace
}  // namespace ll
