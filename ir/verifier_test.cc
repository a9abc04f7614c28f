#include "ir/verifier.h"

#include <gtest/gtest.h>

#include "ir/text.h"

namespace ll::ir {
namespace {

constexpr std::string_view kHead = R"(module {vocab_size = 64}
graph {
  %tokens = input {name = "tokens"} : i32[T]
  %positions = input {name = "positions"} : i32[T]
  %sequences = input {name = "sequences"} : i32[T]
  %slots = input {name = "slots"} : i32[T]
  %rows = input {name = "rows"} : i32[R]
  %bt = input {name = "block_table"} : i32[S,P]
  %w = weight {name = "token_embd.weight"} : f32[64,32]
  %x = embed %w, %tokens : f32[T,32]
  %kv = kv_cache {index = 0} : kv<f16>[2,16]
)";
constexpr std::string_view kTail = R"(
  %last = gather_rows %x, %rows : f32[R,32]
  %logits = linear %last, %w : f32[R,64]
  return %logits : f32[R,64]
}
)";

std::string verdict(std::string_view text) {
  const auto g = parse(text, "t");
  if (!g) return "parse: " + g.error().message;
  const Status s = verify(*g);
  return s ? "" : s.error().message.substr(0, s.error().message.find(" (in "));
}
std::string verdict_of(std::string_view body) { return verdict(fmt::format("{}{}{}", kHead, body, kTail)); }

constexpr std::string_view kWrite = "%kv1 = kv_write %kv, %x, %x, %slots : kv<f16>[2,16]\n";

TEST(Verifier, AcceptsACacheThatIsWrittenAndRead) {
  EXPECT_EQ(
      verdict_of(fmt::format(
          "{}%a = attention %x, %kv1, %positions, %sequences, %bt {{heads = 2, kv_heads = 2, head_dim = 16, scale = "
          "0.25, window = 0}} : f32[T,32]\n",
          kWrite)),
      "");
}

TEST(Verifier, EveryCacheIsWrittenExactlyOnce) {
  EXPECT_EQ(verdict_of(""), "kv_cache 0 is never written");
  EXPECT_EQ(verdict_of(fmt::format("{}%kv2 = kv_write %kv, %x, %x, %slots : kv<f16>[2,16]\n", kWrite)),
            "kv_cache 0 is written twice; declare another kv_cache");
  EXPECT_EQ(verdict_of(fmt::format("{}%kv2 = kv_write %kv1, %x, %x, %slots : kv<f16>[2,16]\n", kWrite)),
            "kv_cache 0 is written twice; declare another kv_cache");
  EXPECT_EQ(verdict_of(fmt::format("{}%kw = kv_cache {{index = 0}} : kv<f16>[2,16]\n", kWrite)),
            "kv_cache: index 0 is declared twice");
}

TEST(Verifier, CachesAreReadAfterTheWrite) {
  EXPECT_EQ(
      verdict_of(fmt::format(
          "{}%a = attention %x, %kv, %positions, %sequences, %bt {{heads = 2, kv_heads = 2, head_dim = 16, scale = "
          "0.25, window = 0}} : f32[T,32]\n",
          kWrite)),
      "attention: reads %kv before this step's keys and values are written, expected what kv_write returns");
}

TEST(Verifier, WeightsOfOneNameHaveOneType) {
  EXPECT_EQ(verdict_of(fmt::format("{}%u = weight {{name = \"token_embd.weight\"}} : f32[64,32]\n", kWrite)), "");
  EXPECT_EQ(verdict_of(fmt::format("{}%u = weight {{name = \"token_embd.weight\"}} : f16[64,32]\n", kWrite)),
            "weight: \"token_embd.weight\" is declared as f32[64,32] and as f16[64,32]");
}

TEST(Verifier, SymbolsHaveOneBound) {
  EXPECT_EQ(verdict_of(fmt::format("{}%t2 = input {{name = \"tokens\"}} : i32[T<=4]\n", kWrite)),
            "input: %t2 is i32[T<=4], expected the bound 0 that other values have");
}

std::string with_return(std::string_view module, std::string_view body, std::string_view result) {
  return verdict(fmt::format(R"(module {{{}}}
graph {{
  %tokens = input {{name = "tokens"}} : i32[T]
  %rows = input {{name = "rows"}} : i32[R]
  %w = weight {{name = "w"}} : f32[64,32]
  %x = embed %w, %tokens : f32[T,32]
  %l = gather_rows %x, %rows : f32[R,32]
  {}
  return {}
}}
)",
                             module, body, result));
}

TEST(Verifier, TheResultIsLogits) {
  EXPECT_EQ(with_return("", "", "%l : f32[R,32]"), "");
  EXPECT_EQ(with_return("", "", "%x : f32[T,32]"), "the graph returns %x, f32[T,32], expected logits f32[R,V]");
  EXPECT_EQ(with_return("", "", "%rows : i32[R]"), "the graph returns %rows, i32[R], expected logits f32[R,V]");
  EXPECT_EQ(with_return("", "%s = slice %l {start = 0, size = 8} : f32[R,8]", "%s : f32[R,8]"),
            "the graph returns %s, a slice, expected a computed value");
  EXPECT_EQ(with_return("vocab_size = 64", "", "%l : f32[R,32]"),
            "the graph returns %l, f32[R,32], expected [R,64] (vocab_size)");
  EXPECT_EQ(with_return("vocab_size = 65", "%y = linear %l, %w : f32[R,64]", "%y : f32[R,64]"),
            "embed: the table has 64 rows, expected at least vocab_size 65");
}

TEST(Verifier, FindsWhatOnlyCodeCanBreak) {
  auto g = parse(fmt::format("{}{}{}", kHead, kWrite, kTail), "t");
  ASSERT_TRUE(g);
  Graph order = *g;
  order.move_before(order.find("x").op, order.first());
  EXPECT_EQ(verify(order).error().message.substr(0, 42), "embed: %w is not defined before its use (i");
  Graph type = *g;
  type.set_type(type.find("x"), rows_of(Symbol::kT, DType::kF32, 31));
  EXPECT_FALSE(verify(type));
  Graph attr = *g;
  attr.set_attr(attr.find("x").op, {"speed", 11});
  EXPECT_FALSE(verify(attr));
  Graph reserved = *g;
  reserved.set_attr(reserved.find("x").op, {"offset", 64});
  reserved.set_attr(reserved.find("x").op, {"kernel", "embed"});
  EXPECT_TRUE(verify(reserved));
  reserved.set_attr(reserved.find("x").op, {"offset", -1});
  EXPECT_FALSE(verify(reserved));
  Graph none = *g;
  none.set_result({});
  EXPECT_EQ(verify(none).error().message, "the graph returns nothing, expected logits f32[R,V]");
  Graph module = *g;
  module.module.set({"two words", 1});
  EXPECT_EQ(verify(module).error().message, "module: attribute 'two words' is no identifier");
  module = *g;
  module.module.set({"nan", 0.0 / 0.0});
  EXPECT_EQ(verify(module).error().message, "module: attribute nan is not finite");
  module = *g;
  module.module.set({"list", std::vector<int64_t>{}});
  EXPECT_FALSE(verify(module));
}

}  // namespace
}  // namespace ll::ir
