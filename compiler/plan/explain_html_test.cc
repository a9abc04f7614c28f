#include "compiler/plan/explain_html.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/kernel.h"

namespace ll {
namespace {

constexpr MachineRates kRates = {10e9, 200e9};

Operand arena(uint64_t offset, int64_t rows, int64_t columns) {
  return {Space::kArena, 0, offset, 4 * columns, {DType::kF32, Layout::kRows, 2, {Dim(rows), Dim(columns)}}};
}

Launch launch(const char* kernel, std::string_view op, std::vector<Operand> in, std::vector<Operand> out, Cost cost) {
  return {find_kernel(kernel), op, std::move(in), std::move(out), {}, cost};
}

// a -> b and c, which overwrites a's bytes, -> d.
Plan small_plan() {
  Plan plan;
  plan.model.architecture = "llama";
  plan.model.name = "<script>alert(\"x\")</script>";
  plan.model.context_length = 64;
  plan.page_size = 32;
  plan.pages_per_sequence = 2;
  plan.target = "cpu";
  Program p;
  p.name = "t1";
  p.max_tokens = p.max_sequences = p.max_rows = 1;
  p.arena_bytes = 256;
  p.launches.push_back(launch("add", "a", {}, {arena(0, 1, 32)}, {1000000, 1000}));
  p.launches.push_back(launch("attention", "b", {arena(0, 1, 32)}, {arena(128, 1, 32)}, {640000, 1000}));
  p.launches.push_back(launch("linear_add", "c", {arena(128, 1, 32)}, {arena(0, 1, 32)}, {1000, 100000000}));
  p.launches.push_back(launch("mul", "d", {arena(0, 1, 32)}, {arena(128, 1, 32)}, {0, 0}));
  plan.programs.push_back(std::move(p));
  return plan;
}

size_t count(const std::string& text, std::string_view part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(ExplainHtml, IsOnePageThatAsksForNothing) {
  const Plan plan = small_plan();
  const auto page = explain_html(plan, {}, kRates);
  ASSERT_TRUE(page) << page.error().message;
  for (const char* part : {"src=", "http:", "https:", "url(", "@import", "<script", "<link"}) {
    EXPECT_EQ(count(*page, part), 0U) << part;
  }
  EXPECT_EQ(count(*page, "&lt;script&gt;alert(&quot;x&quot;)"), 2U);  // title and heading
  EXPECT_NE(page->find("prefers-color-scheme:dark"), std::string::npos);
  EXPECT_EQ(*explain_html(plan, {}, kRates), *page);
}

TEST(ExplainHtml, DrawsLaunchesEdgesAndLives) {
  const auto page = explain_html(small_plan(), 0, kRates);
  ASSERT_TRUE(page) << page.error().message;
  EXPECT_EQ(count(*page, "class=edge"), 3U);  // a-b, b-c, c-d
  EXPECT_EQ(count(*page, "class=\"fused\""), 1U);
  // An unquoted value would take the slash for its own and leave its element open around what follows.
  for (size_t at = page->find("/>"); at != std::string::npos; at = page->find("/>", at + 1)) {
    EXPECT_EQ((*page)[at - 1], '"') << page->substr(at - 40, 42);
  }
  EXPECT_NE(page->find("linear + add"), std::string::npos);
  EXPECT_NE(page->find("bytes 0 to 128, launches 0 to 1"), std::string::npos);
  EXPECT_NE(page->find("bytes 128 to 256, launches 1 to 2"), std::string::npos);
  EXPECT_NE(page->find("bytes 0 to 128, launches 2 to 3"), std::string::npos);
  EXPECT_EQ(count(*page, "<circle"), 3U);  // the launch without operations has no place in a roofline
}

TEST(ExplainHtml, RefusesProgramsThatAreNot) {
  const auto page = explain_html(small_plan(), 1, kRates);
  ASSERT_FALSE(page);
  EXPECT_EQ(page.error().code, Code::kUsage);
}

TEST(Roofline, TakesTheLongerOfMemoryAndArithmetic) {
  EXPECT_DOUBLE_EQ(predicted_seconds(Cost{1000000, 1000}, kRates), 1e-4);
  EXPECT_DOUBLE_EQ(predicted_seconds(Cost{1000, 100000000}, kRates), 5e-4);
  const Plan plan = small_plan();
  // Attention's cost is that of 64 positions.
  EXPECT_DOUBLE_EQ(predicted_seconds(plan, plan.programs[0], kRates, 63), 1e-4 + 6.4e-5 + 5e-4);
  EXPECT_DOUBLE_EQ(predicted_seconds(plan, plan.programs[0], kRates, 31), 1e-4 + 3.2e-5 + 5e-4);
  EXPECT_DOUBLE_EQ(predicted_seconds(plan, plan.programs[0], kRates, 1000), 1e-4 + 6.4e-5 + 5e-4);
}

}  // namespace
}  // namespace ll
