#include "ir/graph.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ir/ops.h"
#include "ir/rewriter.h"
#include "ir/text.h"
#include "ir/verifier.h"

namespace ll::ir {
namespace {

// tokens -> embed -> linear -> gather_rows
struct Small {
  Graph g;
  Value tokens, rows, table, x, w, y, last;

  Small() {
    tokens = *g.input("tokens");
    rows = *g.input("rows");
    table = *g.weight("token_embd.weight", matrix(DType::kQ8_0, 64, 32));
    x = *g.add("embed", {table, tokens}, {}, "x");
    w = *g.weight("w.weight", matrix(DType::kF16, 64, 32));
    y = *g.add("linear", {x, w}, {}, "y");
    last = *g.add("gather_rows", {y, rows}, {}, "last");
    g.set_result(last);
  }
};

TEST(Graph, InfersTypesAndNames) {
  Small s;
  EXPECT_EQ(type_text(s.g.type(s.x)), "f32[T,32]");
  EXPECT_EQ(type_text(s.g.type(s.y)), "f32[T,64]");
  EXPECT_EQ(type_text(s.g.type(s.last)), "f32[R,64]");
  EXPECT_EQ(s.g.name(s.table), "w.token_embd");
  EXPECT_EQ(s.g.find("y"), s.y);
  EXPECT_FALSE(s.g.find("z"));
  EXPECT_TRUE(verify(s.g)) << verify(s.g).error().message;
}

TEST(Graph, TakenHintsGetNumbers) {
  Graph g;
  const Value a = *g.constant({1.0f}, "c"), b = *g.constant({1.0f}, "c"), c = *g.constant({1.0f}, "c d%");
  const Value d = *g.constant({1.0f}), e = *g.constant({1.0f});
  EXPECT_EQ(g.name(a), "c");
  EXPECT_EQ(g.name(b), "c.1");
  EXPECT_EQ(g.name(c), "c_d_");
  EXPECT_NE(g.name(d), g.name(e));
  g.erase(a.op);
  EXPECT_EQ(g.name(*g.constant({1.0f}, "c")), "c");  // an erased op gives its name back
  const Value l = *g.constant({1.0f}, std::string(1000, 'x')), m = *g.constant({1.0f}, std::string(1000, 'x'));
  EXPECT_EQ(g.name(l).size(), kMaxNameLength);
  EXPECT_LE(g.name(m).size(), kMaxNameLength);
  EXPECT_NE(g.name(l), g.name(m));
}

TEST(Graph, UsesFollowEveryChange) {
  Small s;
  const Value act = *s.g.insert(s.last.op, "activation", {s.y}, {{"act", "relu"}}, "act");
  EXPECT_EQ(s.g.uses(s.y).size(), 2u);
  s.g.set_operand(s.last.op, 0, act);
  ASSERT_EQ(s.g.uses(s.y).size(), 1u);
  EXPECT_EQ(s.g.uses(s.y)[0], (Use{act.op, 0}));
  const Value sum = *s.g.insert(s.last.op, "add", {act, act}, {}, "sum");
  EXPECT_EQ(s.g.uses(act).size(), 3u);
  s.g.replace_all_uses(act, s.y);
  EXPECT_TRUE(s.g.uses(act).empty());
  EXPECT_EQ(s.g.op(sum.op).operands, (std::vector<Value>{s.y, s.y}));
  s.g.erase(act.op);
  s.g.replace_all_uses(s.last, *s.g.add("gather_rows", {sum, s.rows}, {}, "other"));
  EXPECT_EQ(s.g.name(s.g.result()), "other");
  EXPECT_TRUE(verify(s.g)) << verify(s.g).error().message;
}

TEST(Graph, CopiesAreIndependentAndSame) {
  Small s;
  Graph copy = s.g;
  EXPECT_TRUE(same(copy, s.g));
  copy.rename(s.y, "z");
  EXPECT_FALSE(same(copy, s.g));
  EXPECT_EQ(s.g.name(s.y), "y");
}

TEST(Graph, RestoreOrderMovesOperandsBeforeTheirReaders) {
  Small s;
  const std::string before = print(s.g);
  EXPECT_TRUE(s.g.restore_order());
  EXPECT_EQ(print(s.g), before);  // a valid order stays
  s.g.move_before(s.x.op, kNoOp);
  EXPECT_FALSE(verify(s.g));
  ASSERT_TRUE(s.g.restore_order());
  EXPECT_TRUE(verify(s.g)) << verify(s.g).error().message;
  EXPECT_EQ(s.g.order().size(), s.g.size());
}

TEST(Graph, RestoreOrderFindsCycles) {
  Small s;
  const Value a = *s.g.insert(s.last.op, "add", {s.y, s.y}, {}, "a");
  const Value b = *s.g.insert(s.last.op, "add", {a, s.y}, {}, "b");
  s.g.set_operand(a.op, 0, b);
  const Status status = s.g.restore_order();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kInternal);
}

TEST(Graph, LongChainsNeedNoStack) {
  Graph g;
  const Value tokens = *g.input("tokens"), table = *g.weight("t", matrix(DType::kF32, 4, 4));
  Value x = *g.add("embed", {table, tokens});
  for (int i = 0; i < 200000; ++i) x = *g.add("add", {x, x});
  for (const OpId id : g.order()) g.move_before(id, g.first());  // backwards
  ASSERT_TRUE(g.restore_order());
  EXPECT_EQ(g.order().size(), 200003u);
  EXPECT_EQ(erase_dead(g), 200003);
}

struct BadOp {
  const char* kind;
  std::vector<Value> operands;
  Attributes attrs;
  const char* message;
};

TEST(Ops, ErrorsSayWhatWasFoundAndExpected) {
  Small s;
  Graph& g = s.g;
  const Value positions = *g.input("positions"), sequences = *g.input("sequences"), slots = *g.input("slots");
  const Value table = *g.input("block_table"), freq = *g.constant(std::vector<float>(8, 1.0f));
  const Value narrow = *g.weight("n.weight", matrix(DType::kF32, 8, 16)), bias = *g.weight("b", vector(DType::kF32, 8));
  const Value kv = *g.kv_cache(0, DType::kF16, 1, 16);
  const Value q8 = *g.add("quantize", {s.x}, {{"block", 32}}, "q8");
  const Attributes heads = {{"heads", 3}, {"kv_heads", 2}, {"head_dim", 16}, {"scale", 1.0}, {"window", 0}};
  const BadOp cases[] = {
      {"no_such_op", {}, {}, "unknown op no_such_op"},
      {"linear", {s.x}, {}, "linear: 1 operands, expected 2 to 3"},
      {"linear", {s.x, narrow}, {}, "linear: operand w (%w.n) is f32[8,16], expected [n,32] as x is f32[T,32]"},
      {"linear", {s.x, s.w, bias}, {}, "linear: operand bias (%w.b) is f32[8], expected f32[64]"},
      {"linear", {s.x, s.x}, {}, "linear: operand w (%x) is f32[T,32], expected a weight [n,k]"},
      {"linear",
       {s.w, s.w},
       {},
       "linear: operand x (%w.w) is f16[64,32], expected an activation, f32 or q8a [T,k] or [R,k]"},
      {"linear",
       {q8, s.w},
       {},
       "linear: operand w (%w.w) is f16[64,32], expected a quantized weight as x is q8a[T,32]"},
      {"add", {s.x, s.y}, {}, "add: operand b (%y) is f32[T,64], expected f32[T,32]"},
      {"quantize", {s.x}, {{"block", 64}}, "quantize: block is 64, expected 32 or 256"},
      {"quantize", {s.x}, {{"block", 256}}, "quantize: operand x (%x) is f32[T,32], expected columns in blocks of 256"},
      {"add", {q8, q8}, {}, "add: operand a (%q8) is q8a[T,32], expected an activation f32[T,n] or f32[R,n]"},
      {"rms_norm", {s.x, freq}, {{"eps", 1e-5}}, "rms_norm: operand w (%0) is f32[8], expected f32[32]"},
      {"rms_norm", {s.x, freq}, {}, "rms_norm: attribute eps is missing, expected a number"},
      {"rms_norm", {s.x, freq}, {{"eps", "no"}}, "rms_norm: attribute eps is a text, expected a number"},
      {"rms_norm", {s.x, freq}, {{"eps", HUGE_VAL}}, "rms_norm: attribute eps is inf, expected a finite number"},
      {"activation",
       {s.x},
       {{"act", "tanh"}},
       "activation: attribute act is \"tanh\", expected one of silu, gelu, gelu_tanh, relu"},
      {"activation", {s.x}, {{"act", "relu"}, {"alpha", 1}}, "activation: unknown attribute alpha"},
      {"rope",
       {s.x, slots, freq},
       {{"head_dim", 16}, {"style", "half"}, {"mscale", 1.0}},
       "rope: operand positions (%slots) is i32[T], expected the input \"positions\""},
      {"rope",
       {s.x, positions, freq},
       {{"head_dim", 15}, {"style", "half"}, {"mscale", 1.0}},
       "rope: operand x (%x) is f32[T,32], expected columns a multiple of head_dim 15"},
      {"rope",
       {s.x, positions, freq},
       {{"head_dim", 8}, {"style", "half"}, {"mscale", 1.0}},
       "rope: operand inv_freq (%0) is f32[8], expected f32[n] with n at most half of head_dim 8"},
      {"rope",
       {s.last, positions, freq},
       {{"head_dim", 16}, {"style", "half"}, {"mscale", 1.0}},
       "rope: operand x (%last) is f32[R,64], expected rows as many as positions, i32[T]"},
      {"kv_write",
       {kv, s.x, s.x, slots},
       {},
       "kv_write: operand k (%x) is f32[T,32], expected f32[T,16] as the cache is kv<f16>[1,16]"},
      {"attention",
       {s.x, s.x, positions, sequences, table},
       heads,
       "attention: operand kv (%x) is f32[T,32], expected a KV cache"},
      {"attention",
       {s.x, kv, positions, sequences, table},
       heads,
       "attention: 3 heads, expected a multiple of kv_heads 2"},
      {"gather_rows",
       {s.last, s.rows},
       {},
       "gather_rows: operand x (%last) is f32[R,64], expected f32[T,n]: rows names tokens"},
      {"slice",
       {s.x},
       {{"start", 30}, {"size", 3}},
       "slice: operand x (%x) is f32[T,32], expected at least 33 columns, start + size"},
      {"slice", {s.x}, {{"start", -1}, {"size", 3}}, "slice: attribute start is -1, expected 0 to 268435456"},
      {"merged_linear", {s.x, s.w, s.w, s.w}, {{"parts", 2}}, "merged_linear: 4 operands, expected 3 or 5"},
      {"merged_linear", {s.x, s.w}, {{"parts", 1}}, "merged_linear: attribute parts is 1, expected 2 to 16"},
      {"gated_linear",
       {s.x, s.w, narrow},
       {{"act", "silu"}},
       "gated_linear: operand w_up (%w.n) is f32[8,16], expected [n,32] as x is f32[T,32]"},
      {"linear_add", {s.x, s.w, s.x}, {}, "linear_add: operand residual (%x) is f32[T,32], expected f32[T,64]"},
      {"input",
       {},
       {{"name", "mask"}},
       "input: name is \"mask\", expected one of tokens, positions, sequences, slots, block_table, rows, "
       "inverse_temperatures"},
      {"constant",
       {},
       {{"values", std::vector<float>{}}},
       "constant: attribute values holds 0 numbers, expected 1 to 1048576"},
      {"weight", {}, {{"name", "w"}}, "weight: 0 result types given, expected 1"},
      {"add", {s.x, Value{9999, 0}}, {}, "add: operand 1 is not a value of the graph"},
      {"add", {s.x, Value{s.x.op, 1}}, {}, "add: operand 1 is not a value of the graph"},
  };
  const std::string before = print(g);
  for (const BadOp& c : cases) {
    const auto r = g.add(c.kind, c.operands, c.attrs);
    ASSERT_FALSE(r) << c.message;
    EXPECT_EQ(r.error().code, Code::kBadData);
    EXPECT_EQ(r.error().message, c.message);
  }
  EXPECT_EQ(print(g), before);  // a refused op leaves nothing behind
}

TEST(Ops, SourcesRefuseBadTypes) {
  Graph g;
  EXPECT_FALSE(g.weight("w", matrix(DType::kQ4_K, 8, 100)));  // no whole blocks
  EXPECT_FALSE(g.weight("w", matrix(DType::kI32, 8, 8)));     // no weight type
  EXPECT_FALSE(g.weight("w", vector(DType::kF16, 8)));        // vectors are f32
  EXPECT_FALSE(g.weight("w", matrix(DType::kF32, 0, 8)));
  EXPECT_FALSE(g.weight("w", matrix(DType::kF32, 8, kMaxDim + 1)));
  TensorType interleaved = matrix(DType::kF32, 16, 32);
  interleaved.layout = Layout::kX16;
  EXPECT_FALSE(g.weight("w", interleaved));  // f32 has no such layout
  EXPECT_FALSE(g.kv_cache(0, DType::kBF16, 2, 64));
  EXPECT_FALSE(g.kv_cache(-1, DType::kF16, 2, 64));
  EXPECT_FALSE(g.kv_cache(0, DType::kF16, 0, 64));
  EXPECT_FALSE(g.kv_cache(0, DType::kF16, 2, -3));
  EXPECT_EQ(g.size(), 0u);
}

TEST(Ops, TableIsConsistent) {
  for (const OpDef* def : ops()) {
    EXPECT_EQ(find_op(def->name), def);
    EXPECT_FALSE(def->summary.empty()) << def->name;
    EXPECT_NE(def->infer, nullptr) << def->name;
    for (const AttrDef& a : def->attrs) EXPECT_LE(a.min, a.max) << def->name << " " << a.name;
  }
  EXPECT_EQ(find_op("relu"), nullptr);
}

TEST(Rewriter, AppliesUntilNothingChangesAndCounts) {
  Small s;
  Value v = s.y;
  for (int i = 0; i < 5; ++i) v = *s.g.insert(s.last.op, "activation", {v}, {{"act", "relu"}});
  s.g.set_operand(s.last.op, 0, v);
  const Pattern pattern = {"relu_relu", "activation", [](Graph& g, OpId root) -> Result<bool> {
                             const Value x = g.op(root).operands[0];
                             if (!g.def(x).is("activation")) return false;
                             g.replace_all_uses({root, 0}, x);
                             return true;
                           }};
  RewriteCounts counts;
  ASSERT_TRUE(rewrite(s.g, {&pattern, 1}, &counts));
  EXPECT_EQ(counts["relu_relu"], 4);
  EXPECT_EQ(s.g.size(), 8u);
  EXPECT_TRUE(verify(s.g));
}

TEST(Rewriter, EndlessRewritesAreAnError) {
  Small s;
  const Pattern pattern = {"swap", "linear", [](Graph& g, OpId root) -> Result<bool> {
                             TRY_ASSIGN(const Value v, g.insert(root, "linear", g.op(root).operands));
                             replace(g, root, v);
                             return true;
                           }};
  const Status status = rewrite(s.g, {&pattern, 1});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kInternal);
}

}  // namespace
}  // namespace ll::ir
