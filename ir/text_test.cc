#include "ir/text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>

#include "ir/ops.h"
#include "ir/verifier.h"

namespace ll::ir {
namespace {

// Random valid graphs: sources, then ops whose operands are drawn from all values; what inference refuses is skipped.
Graph random_graph(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto draw = [&](size_t n) { return static_cast<size_t>(random() % n); };
  Graph g;
  std::vector<Value> values;
  const auto keep = [&](const Result<Value>& v) {
    if (v) values.push_back(*v);
  };
  for (const char* name : {"tokens", "positions", "sequences", "slots", "rows", "block_table"}) keep(g.input(name));
  constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kQ8_0, DType::kQ4_0, DType::kIQ4_NL};
  for (int i = 0; i < 6; ++i) {
    TensorType t = matrix(kTypes[draw(5)], 32 * static_cast<int64_t>(1 + draw(2)), 32);
    if (t.dtype != DType::kF32 && t.dtype != DType::kF16 && draw(2) == 0) t.layout = Layout::kX16;
    keep(g.weight(fmt::format("blk.{}.w\"\\\n\x01\x7fé.weight", i), t, draw(2) ? "" : "w"));
  }
  for (int i = 0; i < 4; ++i) {
    std::vector<float> floats(draw(2) ? 32 : 8);
    for (float& f : floats) {
      do {
        const auto bits = static_cast<uint32_t>(random());
        std::memcpy(&f, &bits, 4);
      } while (!std::isfinite(f));
    }
    keep(g.constant(floats));
  }
  for (int i = 0; i < 3; ++i) keep(g.kv_cache(i, i == 0 ? DType::kF16 : i == 1 ? DType::kI8 : DType::kF32, 2, 16));
  const double eps = std::ldexp(static_cast<double>(random() | 1), -80);
  for (int i = 0; i < 4000 && values.size() < 120; ++i) {
    const OpDef& def = *ops()[4 + draw(ops().size() - 4)];
    Attributes attrs;
    for (const AttrDef& a : def.attrs) {
      const std::string key(a.name);
      if (a.kind == AttrKind::kNumber) attrs.set({key, draw(3) ? eps : -1.0});
      if (a.kind == AttrKind::kText) attrs.set({key, a.choices[draw(a.choices.size())]});
      if (a.kind == AttrKind::kInteger)
        attrs.set({key, key == "head_dim" ? 16 : key == "size" ? 16 : static_cast<int>(draw(3))});
    }
    size_t count = def.operands.size();
    std::vector<Value> operands;
    for (size_t o = 0; o < count; ++o) operands.push_back(values[draw(values.size())]);
    const auto id = g.create(kNoOp, def.name, operands, attrs);
    if (!id) continue;
    for (int32_t r = 0; r < def.results; ++r) values.push_back({*id, r});
  }
  g.set_result(values[draw(values.size())]);
  g.module.set({"name", "a \"name\"\t\x02 \xff"});
  g.module.set({"eos_tokens", std::vector<int64_t>{1, -2, INT64_MAX, INT64_MIN}});
  g.module.set({"factors", std::vector<float>{1, -0.0f, 1e-45f, 3.4028235e38f, 0.1f}});
  g.module.set({"ratio", 1e300});
  g.module.set({"count", 3});
  return g;
}

TEST(Text, RoundTripIsALaw) {
  size_t ops = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Graph g = random_graph(seed);
    const std::string text = print(g);
    const auto back = parse(text, "t");
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_TRUE(same(*back, g)) << seed;
    EXPECT_EQ(print(*back), text) << seed;
    ops += g.size();
  }
  EXPECT_GT(ops, 200u * 25);  // not only sources
}

TEST(Text, BoundsAndPagesRoundTrip) {
  constexpr std::string_view kText = R"(module {}
graph {
  %tokens = input {name = "tokens"} : i32[T<=16]
  %bt = input {name = "block_table"} : i32[S<=4,8]
  %kv = kv_cache {index = 0} : kv<q8>[2,64,128]
  %w = weight {name = "w"} : q4_K:x16[16,256]
  %x = embed %w, %tokens {kernel = "embed", offset = 128} : f32[T<=16,256]
  return %x : f32[T<=16,256]
}
)";
  const auto g = parse(kText, "t");
  ASSERT_TRUE(g) << g.error().message;
  EXPECT_EQ(print(*g), kText);
}

TEST(Text, SpellingBecomesCanonical) {
  const auto g = parse(R"(// comment
graph{ %t=input{name="tokens"}:i32[T]//c
%w=weight{name="w"}:f32[ 4 , 8 ]
%x=embed %w,%t:f32[T,8] %n=constant{values=[1e0,2.50,0.1]}:f32[3]
return %x:f32[T,8]})",
                       "t");
  ASSERT_TRUE(g) << g.error().message;
  EXPECT_EQ(print(*g), R"(module {}
graph {
  %t = input {name = "tokens"} : i32[T]
  %w = weight {name = "w"} : f32[4,8]
  %x = embed %w, %t : f32[T,8]
  %n = constant {values = [1.0, 2.5, 0.1]} : f32[3]
  return %x : f32[T,8]
}
)");
}

TEST(Text, IntegersBecomeNumbersWhereNumbersAreExpected) {
  const auto g = parse(
      "graph { %t = input {name = \"tokens\"} : i32[T] %w = weight {name = \"w\"} : f32[4,8]\n"
      "%x = embed %w, %t : f32[T,8] %v = weight {name = \"v\"} : f32[8]\n"
      "%n = rms_norm %x, %v {eps = 1} : f32[T,8] return %n : f32[T,8] }",
      "t");
  ASSERT_TRUE(g) << g.error().message;
  EXPECT_NE(print(*g).find("{eps = 1.0}"), std::string::npos);
}

TEST(Text, ErrorsPointAtTheirPlace) {
  struct Case {
    std::string_view text, message;
  };
  const Case cases[] = {
      {"", "g.llir:1:1: found the end of the text, expected 'graph'\n\n^"},
      {"graph {\n  %x = foo : f32[1]\n}",
       "g.llir:2:8: found 'foo', expected the name of an op\n  %x = foo : f32[1]\n       ^"},
      {"graph {\n  %x = add %y, %y : f32[1]\n}",
       "g.llir:2:12: %y is not defined before its use\n  %x = add %y, %y : f32[1]\n           ^"},
      {"graph {\n %c = constant {values = [1.0]} : f32[1]\n %c = constant {values = [1.0]} : f32[1]\n}",
       "g.llir:3:2: %c is defined twice\n %c = constant {values = [1.0]} : f32[1]\n ^"},
      {"graph {\n %c = constant {values = [1.0]} : f32[2]\n}",
       "g.llir:2:7: constant: result 0 is given as f32[2], expected f32[1]\n %c = constant {values = [1.0]} : f32[2]\n "
       "     ^"},
      {"graph {\n %a, %b = constant {values = [1.0]} : f32[1], f32[1]\n}",
       "g.llir:2:11: constant gives 1 values, found 2 names\n %a, %b = constant {values = [1.0]} : f32[1], f32[1]\n    "
       "      ^"},
      {"graph {\n %c = constant {values = [1.0, 2]} : f32[2]\n}",
       "g.llir:2:32: found '2', expected a number with a point or an exponent\n %c = constant {values = [1.0, 2]} : "
       "f32[2]\n"
       "                               ^"},
      {"graph {\n %c = constant {values = [1e99]} : f32[1]\n}",
       "g.llir:2:27: found '1e99', expected a number that f32 can hold\n %c = constant {values = [1e99]} : f32[1]\n"
       "                          ^"},
      {"module {a = 1, a = 2}", "g.llir:1:16: attribute a is given twice\nmodule {a = 1, a = 2}\n               ^"},
      {"module {a = \"x}\n",
       "g.llir:1:14: found an unterminated text, expected an integer, a number, a text or a list\n"
       "module {a = \"x}\n             ^"},
      {"module {a = \"\\q\"}",
       "g.llir:1:14: unknown escape in a text, expected \\\" \\\\ \\n \\r \\t or \\xHH\nmodule {a = \"\\q\"}\n"
       "             ^"},
      {"module {a = 99999999999999999999}",
       "g.llir:1:13: found '99999999999999999999', expected an integer from -9223372036854775808 to "
       "9223372036854775807\n"
       "module {a = 99999999999999999999}\n            ^"},
      {"module {a = []}",
       "g.llir:1:14: found ']', expected a number with a point or an exponent\nmodule {a = []}\n             ^"},
      {"graph {\n %w = weight {name = \"w\"} : q9_Z[1,1]\n}",
       "g.llir:2:29: found 'q9_Z', expected an element type such as f32 or q4_K\n %w = weight {name = \"w\"} : "
       "q9_Z[1,1]\n"
       "                            ^"},
      {"graph {\n %w = weight {name = \"w\"} : f32[1,1,1]\n}",
       "g.llir:2:37: found '1', expected ']' after at most two sizes\n %w = weight {name = \"w\"} : f32[1,1,1]\n"
       "                                    ^"},
      {"graph {\n %w = weight {name = \"w\"} : f32[0]\n}",
       "g.llir:2:33: found '0', expected an integer from 1 to 268435456\n %w = weight {name = \"w\"} : f32[0]\n"
       "                                ^"},
      {"graph {\n}", "g.llir:2:1: found '}', expected an op or 'return'\n}\n^"},
  };
  for (const Case& c : cases) {
    const auto g = parse(c.text, "g.llir");
    ASSERT_FALSE(g) << c.text;
    EXPECT_EQ(g.error().code, Code::kBadData);
    EXPECT_EQ(g.error().message, c.message);
  }
}

TEST(Text, LongLinesAreShownAroundThePlace) {
  const std::string text = "module {a = \"" + std::string(100000, 'x') + "\" b" + std::string(100000, 'y') + "}";
  const auto g = parse(text, "g");
  ASSERT_FALSE(g);
  EXPECT_LT(g.error().message.size(), 600u);
}

// Deep, long and odd texts end in an error in short time.
TEST(Text, HostileTextsAreErrors) {
  std::string texts[] = {std::string(1 << 20, '{'),
                         std::string(1 << 20, '['),
                         std::string(1 << 20, '%'),
                         "module {a = " + std::string(1 << 20, '[') + "}",
                         "graph {" + std::string(1 << 20, '\n'),
                         std::string(1 << 20, '"'),
                         "graph { %" + std::string(1 << 20, 'a') + " = add : f32[1] }",
                         "graph { %a" + std::string(1 << 20, ',') + "}",
                         std::string("graph {\0 }", 10),
                         "graph { %a = \xff\xfe }",
                         "module {a = -}",
                         "module {a = 1e}",
                         "module {a = 1.2.3}",
                         "module {a = --1}",
                         "/",
                         "//"};
  for (const std::string& t : texts) EXPECT_FALSE(parse(t, "t")) << t.substr(0, 40);
}

TEST(Text, ManyOpsTakeLinearTime) {
  std::string text =
      "graph { %t = input {name = \"tokens\"} : i32[T] %w = weight {name = \"w\"} : f32[4,8]\n%x0 = embed %w, %t : "
      "f32[T,8]\n";
  constexpr int kOps = 100000;
  for (int i = 1; i <= kOps; ++i) text += fmt::format("%x{} = add %x{}, %x0 : f32[T,8]\n", i, i - 1);
  text += fmt::format("return %x{} : f32[T,8] }}", kOps);
  const auto g = parse(text, "t");
  ASSERT_TRUE(g) << g.error().message;
  EXPECT_EQ(g->size(), size_t{kOps} + 3);
}

}  // namespace
}  // namespace ll::ir
