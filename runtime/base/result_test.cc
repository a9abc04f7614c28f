#include "runtime/base/result.h"

#include <gtest/gtest.h>

namespace ll {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return bad_data("{} is odd", n);
  return n / 2;
}

Result<int> quarter(int n) {
  TRY_ASSIGN(const int h, half(n));
  return half(h);
}

TEST(Result, TryHandsTheFirstErrorOn) {
  ASSERT_TRUE(quarter(8));
  EXPECT_EQ(*quarter(8), 2);
  const auto r = quarter(6);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Code::kBadData);
  EXPECT_EQ(r.error().message, "3 is odd");
}

TEST(Result, ErrorsNameWhereTheyHappened) { EXPECT_EQ(bad_data("{} left", 3).in("a.gguf").message, "a.gguf: 3 left"); }

}  // namespace
}  // namespace ll
