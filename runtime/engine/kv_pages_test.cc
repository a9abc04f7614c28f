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
  KvPages pages(kPages, {.page_size = kPageSize});
  std::mt19937 engine(1);
  const auto random = [&] { return static_cast<uint32_t>(engine()); };
  {
    std::vector<std::unique_ptr<Sequence>> sequences;
    for (int i = 0; i < 6; ++i) sequences.push_back(std::make_unique<Sequence>(pages));
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

using Tokens = std::vector<int32_t>;

Tokens counting(size_t count, int32_t first = 0) {
  Tokens tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = first + static_cast<int32_t>(i);
  return tokens;
}

// Appends the tokens and makes the full pages known.
void fill(Sequence& s, std::span<const int32_t> tokens) {
  ASSERT_TRUE(s.reserve(tokens.size()));
  for (const int32_t t : tokens) s.append(t);
  s.publish();
}

constexpr KvPages::Options kFour = {.page_size = 4};

TEST(PrefixPages, AnotherTextAdoptsThePagesOfTheSameBeginning) {
  KvPages pool(20, kFour);
  Sequence a(pool), b(pool);
  fill(a, counting(11));
  Tokens other = counting(11);
  other[9] = 77;
  EXPECT_EQ(b.adopt(other), 8U);
  EXPECT_EQ(b.tokens(), counting(8));
  EXPECT_EQ(b.pages(), std::vector<uint32_t>({a.pages()[0], a.pages()[1]}));
  EXPECT_EQ(pool.owners(a.pages()[0]), 2U);
  EXPECT_EQ(pool.free(), 17U);
  // What follows is each sequence's own.
  fill(b, std::span(other).subspan(8));
  EXPECT_NE(b.pages()[2], a.pages()[2]);
}

TEST(PrefixPages, OfTheLastPageTheBeginningIsAdoptedAndCopied) {
  KvPages pool(20, kFour);
  Sequence a(pool), b(pool), c(pool);
  fill(a, Tokens{1, 2, 3, 4, 5, 6, 7, 8});
  fill(b, Tokens{1, 2, 3, 4, 5, 6, 9, 9});
  EXPECT_EQ(c.adopt(Tokens{1, 2, 3, 4, 5, 6, 9, 0, 0}), 7U);
  EXPECT_EQ(c.pages(), b.pages());
  EXPECT_EQ(c.pages_wanted(1), 1U);
  ASSERT_TRUE(c.reserve(1));
  const auto copies = pool.take_copies();
  ASSERT_EQ(copies.size(), 1U);
  EXPECT_EQ(copies[0].from, b.pages()[1]);
  EXPECT_EQ(copies[0].to, c.pages()[1]);
  Sequence d(pool), e(pool, 3);
  EXPECT_EQ(d.adopt(Tokens{1, 2}), 2U);
  EXPECT_EQ(e.adopt(Tokens{1, 2}), 0U);
}

TEST(PrefixPages, TheSameTokensAfterAnotherBeginningAreAnotherText) {
  KvPages pool(20, kFour);
  Sequence a(pool), b(pool), c(pool);
  fill(a, Tokens{1, 1, 1, 1, 5, 6, 7, 8});
  EXPECT_EQ(b.adopt(Tokens{5, 6, 7, 8}), 0U);
  EXPECT_EQ(c.adopt(Tokens{2, 1, 1, 1, 5, 6, 7, 8}), 0U);
  EXPECT_EQ(c.adopt(Tokens{1, 1, 1, 2, 5, 6, 7, 8}), 3U);
}

TEST(PrefixPages, SaltsKeepTextsApart) {
  KvPages pool(20, kFour);
  Sequence a(pool, 1), b(pool, 2), c(pool, 1);
  fill(a, counting(8));
  EXPECT_EQ(b.adopt(counting(8)), 0U);
  EXPECT_EQ(c.adopt(counting(8)), 8U);
}

TEST(PrefixPages, CollidingHashesNeverGiveAWrongPage) {
  KvPages pool(64, {.page_size = 2, .hash = [](std::span<const std::byte>) { return uint64_t{7}; }});
  std::vector<std::unique_ptr<Sequence>> texts;
  for (int32_t i = 0; i < 10; ++i) {
    texts.push_back(std::make_unique<Sequence>(pool));
    fill(*texts.back(), Tokens{i % 3, i, 5, 6});
  }
  for (int32_t i = 0; i < 10; ++i) {
    Sequence s(pool);
    ASSERT_EQ(s.adopt(Tokens{i % 3, i, 5, 6}), 4U);
    EXPECT_EQ(s.pages(), texts[static_cast<size_t>(i)]->pages());
  }
  Sequence s(pool);
  EXPECT_EQ(s.adopt(Tokens{3, 3, 5, 6}), 0U);
  EXPECT_EQ(s.adopt(Tokens{0, 1, 5, 6}), 1U);
}

TEST(PrefixPages, PagesStayCachedAfterTheirOwnersAndTheOldestGoFirst) {
  KvPages pool(4, kFour);
  const auto length_of = [&](const Tokens& tokens) {
    Sequence s(pool);
    return s.adopt(tokens);
  };
  {
    Sequence a(pool);
    fill(a, counting(8));
  }
  {
    Sequence b(pool);
    fill(b, counting(8, 100));
  }
  EXPECT_EQ(pool.free(), 4U);
  EXPECT_EQ(pool.cached(), 4U);
  EXPECT_EQ(length_of(counting(8)), 8U);  // now more recently used than the other
  Sequence c(pool);
  ASSERT_TRUE(c.reserve(4));
  EXPECT_EQ(pool.evictions(), 1U);
  EXPECT_EQ(length_of(counting(8, 100)), 4U);  // its end went first
  EXPECT_EQ(length_of(counting(8)), 8U);
  ASSERT_TRUE(c.reserve(16));
  EXPECT_EQ(pool.cached(), 0U);
  EXPECT_EQ(length_of(counting(8)), 0U);
  EXPECT_FALSE(pool.allocate());
}

TEST(PrefixPages, AWriteToASharedPageCopiesItFirst) {
  KvPages pool(8, kFour);
  Sequence a(pool), b(pool);
  fill(a, counting(6));
  b.fork(a, 5);
  EXPECT_EQ(b.tokens(), counting(5));
  EXPECT_EQ(b.pages(), a.pages());
  EXPECT_EQ(b.pages_wanted(1), 1U);
  const uint32_t shared = a.pages()[1];
  ASSERT_TRUE(b.reserve(1));
  const auto copies = pool.take_copies();
  ASSERT_EQ(copies.size(), 1U);
  EXPECT_EQ(copies[0].from, shared);
  EXPECT_EQ(copies[0].to, b.pages()[1]);
  EXPECT_NE(b.pages()[1], shared);
  EXPECT_EQ(b.pages()[0], a.pages()[0]);
  // The other is alone now and writes in place.
  EXPECT_EQ(a.pages_wanted(1), 0U);
  ASSERT_TRUE(a.reserve(1));
  EXPECT_TRUE(pool.take_copies().empty());
}

TEST(PrefixPages, AWriteIntoAPublishedPageCopiesItFirst) {
  KvPages pool(8, kFour);
  Sequence a(pool);
  fill(a, counting(8));
  const uint32_t published = a.pages()[1];
  a.truncate(7);
  ASSERT_TRUE(a.reserve(1));
  ASSERT_EQ(pool.take_copies().size(), 1U);
  EXPECT_NE(a.pages()[1], published);
  // Computing the same again finds the page that is known already.
  a.append(7);
  a.publish();
  EXPECT_EQ(a.pages()[1], published);
  EXPECT_EQ(pool.free(), 6U);
}

TEST(PrefixPages, TwoThatComputedTheSameShareItAfterwards) {
  KvPages pool(8, kFour);
  Sequence a(pool), b(pool);
  ASSERT_TRUE(a.reserve(8) && b.reserve(8));
  for (int32_t t = 0; t < 8; ++t) {
    a.append(t);
    b.append(t);
  }
  EXPECT_EQ(pool.free(), 4U);
  a.publish();
  b.publish();
  EXPECT_EQ(a.pages(), b.pages());
  EXPECT_EQ(pool.free(), 6U);
}

TEST(PrefixPages, RetractedPagesAreNotFound) {
  KvPages pool(8, kFour);
  {
    Sequence a(pool), b(pool);
    fill(a, counting(8));
    EXPECT_EQ(b.adopt(counting(8)), 8U);
    a.retract();
    EXPECT_EQ(pool.content(b.pages()[0]), kNoPrefix);
  }
  Sequence c(pool);
  EXPECT_EQ(c.adopt(counting(8)), 0U);
  EXPECT_EQ(pool.free(), 8U);
  EXPECT_EQ(pool.cached(), 0U);
}

TEST(PrefixPages, BeyondTheResidentPagesCachedOnesAreTakenBeforeFreshOnes) {
  KvPages pool(10, {.page_size = 4, .resident = 3});
  for (int32_t i = 0; i < 8; ++i) {
    Sequence s(pool);
    fill(s, counting(4, 10 * i));
    EXPECT_LT(s.pages()[0], 3U);
  }
  EXPECT_EQ(pool.cached(), 3U);
  // Owners may use all.
  Sequence s(pool);
  EXPECT_TRUE(s.reserve(40));
  EXPECT_EQ(pool.free(), 0U);
}

// Random texts over few tokens, so that they share much, with forks, cuts and retractions: every sequence's pages hold
// what it says, no page is written that others see, and none is lost. The pool's memory is simulated: what a page
// holds is what was written to it.
TEST(PrefixPages, WhatSequencesReadIsWhatTheyWrote) {
  constexpr uint32_t kPages = 24;
  for (const auto hash : {KvPages::Hash{nullptr}, KvPages::Hash{[](std::span<const std::byte> b) {
                            return static_cast<uint64_t>(b[0]) % 3;
                          }}}) {
    KvPages pool(kPages, {.page_size = 4, .resident = 16, .hash = hash});
    std::vector<Tokens> memory(kPages, Tokens(4, -1));
    std::mt19937 engine(5);
    const auto random = [&](size_t below) { return static_cast<uint32_t>(engine() % below); };
    std::vector<std::unique_ptr<Sequence>> sequences;
    const auto copy = [&] {
      for (const PageCopy& c : pool.take_copies()) memory[c.to] = memory[c.from];
    };
    for (int round = 0; round < 20000; ++round) {
      if (sequences.size() < 5) sequences.push_back(std::make_unique<Sequence>(pool, random(2)));
      const size_t chosen = random(sequences.size());
      Sequence& s = *sequences[chosen];
      switch (random(8)) {
        case 0:
          sequences.erase(sequences.begin() + chosen);
          continue;
        case 1:
          s.truncate(random(s.length() + 1));
          break;
        case 2:
          if (s.length() == 0) {
            Tokens wanted(random(20));
            for (int32_t& t : wanted) t = static_cast<int32_t>(random(2));
            s.adopt(wanted);
          }
          break;
        case 3:
          if (random(20) == 0) s.retract();
          break;
        case 4:
          sequences.push_back(std::make_unique<Sequence>(pool, 9));
          sequences.back()->fork(s, random(s.length() + 1));
          break;
        default:
          if (const uint32_t count = random(6); s.reserve(count)) {
            copy();
            for (uint32_t i = 0; i < count; ++i) {
              const auto token = static_cast<int32_t>(random(2));
              const uint32_t page = s.pages()[s.length() / 4];
              ASSERT_EQ(pool.owners(page), 1U);
              ASSERT_EQ(pool.content(page), kNoPrefix);
              memory[page][s.length() % 4] = token;
              s.append(token);
            }
            if (random(3) != 0) s.publish();
          }
      }
      std::set<uint32_t> used;
      for (const auto& q : sequences) {
        for (uint32_t i = 0; i < q->length(); ++i) ASSERT_EQ(memory[q->pages()[i / 4]][i % 4], q->tokens()[i]);
        used.insert(q->pages().begin(), q->pages().end());
      }
      ASSERT_EQ(used.size() + pool.free(), kPages);
    }
    EXPECT_GT(pool.evictions(), 0U);
    sequences.clear();
    EXPECT_EQ(pool.free(), kPages);
    pool.forget_all();
    EXPECT_EQ(pool.cached(), 0U);
  }
}

}  // namespace
}  // namespace ll
