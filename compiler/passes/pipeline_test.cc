#include "compiler/passes/pipeline.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "compiler/passes/passes.h"
#include "compiler/passes/random_transformer.h"
#include "ir/text.h"
#include "ir/verifier.h"
#include "kernels/kernel.h"

namespace ll {
namespace {

constexpr StepSizes kSizes = {.tokens = 16, .rows = 8, .sequences = 4, .pages_per_sequence = 8, .pages = 32};

TEST(Pipeline, PassesHaveNamesAndReasons) {
  for (const Pass& p : passes()) {
    EXPECT_EQ(find_pass(p.name), &p);
    EXPECT_FALSE(p.reason.empty()) << p.name;
  }
  EXPECT_EQ(find_pass("make_it_fast"), nullptr);
}

TEST(Pipeline, ReachesTheFusedForms) {
  const RandomTransformer t = random_transformer(3, true);
  ir::Graph g = t.graph;
  PassReport report;
  ASSERT_TRUE(run_pipeline(g, {}, &report));
  std::map<std::string_view, int> kinds;
  for (const ir::OpId id : g.order()) ++kinds[g.op(id).kind()];
  for (const char* gone : {"rope", "kv_write", "slice", "add", "mul", "activation", "rms_norm"})
    EXPECT_EQ(kinds[gone], 0) << gone;
  EXPECT_GT(kinds["rope_kv_write"], 0);
  EXPECT_EQ(report.passes.size(), 9u);
  EXPECT_EQ(report.passes[0].name, "infer_types");
}

TEST(Pipeline, ReferenceKernelsQuantizeNothing) {
  const RandomTransformer t = random_transformer(3, true);
  ir::Graph g = t.graph;
  PassOptions options;
  options.reference_kernels = true;
  ASSERT_TRUE(run_pipeline(g, options));
  const std::string text = ir::print(g);
  EXPECT_EQ(text.find("quantize"), std::string::npos);
  EXPECT_EQ(text.find("x16"), std::string::npos);
}

TEST(Pipeline, TheSameGraphGivesTheSameTextTwice) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    std::string texts[2];
    for (std::string& text : texts) {
      ir::Graph g = random_transformer(seed, true).graph;
      ASSERT_TRUE(run_pipeline(g, {}));
      text = ir::print(*specialize(g, kSizes, {}));
    }
    EXPECT_EQ(texts[0], texts[1]);
    // And through the text: what is read back compiles to the same.
    ir::Graph g = *ir::parse(ir::print(random_transformer(seed, true).graph), "t");
    ASSERT_TRUE(run_pipeline(g, {}));
    EXPECT_EQ(ir::print(*specialize(g, kSizes, {})), texts[0]);
  }
}

TEST(Pipeline, RunningItAgainChangesNothing) {
  ir::Graph g = random_transformer(5, true).graph;
  ASSERT_TRUE(run_pipeline(g, {}));
  const std::string once = ir::print(g);
  ASSERT_TRUE(run_pipeline(g, {}));
  EXPECT_EQ(ir::print(g), once);
}

TEST(Pipeline, DisabledPassesAreSkippedAndEverySubsetIsValid) {
  for (const Pass& off : passes()) {
    if (off.stage == PassStage::kBucket || off.name == "choose_layouts") continue;  // others need what these do
    ir::Graph g = random_transformer(7, true).graph;
    PassOptions options;
    options.disabled.insert(std::string(off.name));
    PassReport report;
    ASSERT_TRUE(run_pipeline(g, options, &report)) << off.name;
    EXPECT_EQ(report.passes.size(), 8u);
    EXPECT_TRUE(specialize(g, kSizes, options)) << off.name;
  }
}

TEST(Pipeline, DumpsWhereAsked) {
  std::string dumps;
  PassOptions options;
  options.dump = [&](std::string_view text) { dumps += text; };
  options.print_after.insert("fold");
  ir::Graph g = random_transformer(1, false).graph;
  ASSERT_TRUE(run_pipeline(g, options));
  EXPECT_EQ(dumps.find("// after fold\nmodule"), 0u);
  EXPECT_EQ(std::count(dumps.begin(), dumps.end(), '/'), 2);
  options.print_after_all = true;
  dumps.clear();
  ASSERT_TRUE(run_pipeline(g, options));
  EXPECT_NE(dumps.find("// after choose_layouts\n"), std::string::npos);
}

// A pass that leaves the kv_cache unwritten: the graph before it and the way to see it again are dumped.
TEST(Pipeline, ABrokenPassLeavesAReproducer) {
  const Pass broken = {"break_it", "a test", [](ir::Graph& g, PassContext&) -> Status {
                         for (const ir::OpId id : g.order()) {
                           if (g.op(id).is("embed")) g.set_type({id, 0}, ir::rows_of(Symbol::kT, DType::kF32, 3));
                         }
                         return {};
                       }};
  ir::Graph g = random_transformer(1, false).graph;
  ir::Graph before = g;
  const Pass* const fold_alone[] = {find_pass("fold")};
  ASSERT_TRUE(run_passes(before, fold_alone, {}));
  std::string dump;
  PassOptions options;
  options.dump = [&](std::string_view text) { dump += text; };
  options.sizes.tokens = 4;
  const Pass* const list[] = {find_pass("fold"), &broken, find_pass("merge_qkv")};
  const Status status = run_passes(g, list, options);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kInternal);
  EXPECT_EQ(status.error().message.find("pass break_it left an invalid graph: embed: %x is f32[T,3], expected f32[T,"),
            0u)
      << status.error().message;
  EXPECT_EQ(dump, "// reproduce with: llcc opt FILE.llir --passes break_it --tokens 4\n" + ir::print(before));
  EXPECT_TRUE(ir::parse(dump, "dump"));
}

// No two values that live at once share bytes, other than a value with its own slices and an op that works in place.
void check_memory(const ir::Graph& g) {
  const auto order = g.order();
  std::map<ir::OpId, size_t> place;
  for (size_t i = 0; i < order.size(); ++i) place[order[i]] = i;
  struct Life {
    int64_t begin, end;
    size_t first, last;
    ir::OpId op;
  };
  std::vector<Life> lives;
  for (const ir::OpId id : order) {
    const ir::Op& op = g.op(id);
    EXPECT_EQ(op.attrs.has("offset"), in_arena(g, {id, 0})) << ir::print_op(g, id);
    if (!op.attrs.has("offset")) continue;
    Life l{op.attrs.i64("offset"), op.attrs.i64("offset") + arena_bytes(op.results[0].type), place[id], place[id], id};
    EXPECT_EQ(l.begin % 64, 0);
    EXPECT_LE(l.end, g.module.i64("arena_bytes"));
    std::vector<ir::OpId> views = {id};
    while (!views.empty()) {
      const ir::OpId v = views.back();
      views.pop_back();
      for (const ir::Use u : g.uses({v, 0})) {
        if (u.op == ir::kNoOp) continue;
        if (g.op(u.op).is("slice")) {
          views.push_back(u.op);
        } else {
          l.last = std::max(l.last, place[u.op]);
        }
      }
    }
    lives.push_back(l);
  }
  for (const Life& a : lives) {
    for (const Life& b : lives) {
      if (b.first <= a.first) continue;
      if (b.first > a.last || a.end <= b.begin || b.end <= a.begin) continue;
      // b is made while a lives, on a's bytes: only in place, by a's last reader.
      const ir::Op& op = g.op(b.op);
      const Kernel* kernel = find_kernel(op.attrs.text("kernel"));
      ASSERT_NE(kernel, nullptr);
      ASSERT_GE(kernel->in_place, 0) << ir::print_op(g, b.op);
      EXPECT_EQ(op.operands[static_cast<size_t>(kernel->in_place)].op, a.op) << ir::print_op(g, b.op);
      EXPECT_EQ(a.last, b.first);
      EXPECT_EQ(a.begin, b.begin);
      EXPECT_EQ(std::count_if(op.operands.begin(), op.operands.end(), [&](ir::Value v) { return v.op == a.op; }), 1);
    }
  }
}

TEST(PlanMemory, LiveValuesNeverShareBytes) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    for (const bool pipeline : {false, true}) {
      ir::Graph g = random_transformer(seed, seed % 2 == 0).graph;
      if (pipeline) {
        ASSERT_TRUE(run_pipeline(g, {}));
      }
      const auto s = specialize(g, kSizes, {});
      ASSERT_TRUE(s) << s.error().message;
      check_memory(*s);
    }
  }
}

// Random nets of sums, norms and slices: many values live for long and die out of order.
TEST(PlanMemory, HoldsOnTangledGraphs) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    std::mt19937_64 random(seed);
    ir::Graph g;
    const ir::Value table = *g.weight("t", ir::matrix(DType::kF32, 8, 64)),
                    w = *g.weight("n", ir::vector(DType::kF32, 64));
    const ir::Value wide = *g.weight("wide", ir::matrix(DType::kF32, 64, 64)),
                    big = *g.weight("big", ir::matrix(DType::kF32, 256, 64));
    std::vector<ir::Value> values = {*g.add("embed", {table, *g.input("tokens")})};
    const auto pick = [&] { return values[values.size() - 1 - random() % std::min<size_t>(values.size(), 12)]; };
    for (int i = 0; i < 120; ++i) {
      ir::Value v;
      switch (random() % 5) {
        case 0:
          v = *g.add("add", {pick(), pick()});
          break;
        case 1:
          v = *g.add("rms_norm", {pick(), w}, {{"eps", 1e-5}});
          break;
        case 2:
          v = *g.add("linear_add", {pick(), wide, pick()});
          break;
        case 3: {
          const ir::Value y = *g.add("linear", {pick(), big});
          v = *g.add("slice", {y}, {{"start", static_cast<int64_t>(random() % 192)}, {"size", 64}});
          break;
        }
        default:
          v = *g.add("activation", {pick()}, {{"act", "relu"}});
      }
      values.push_back(v);
    }
    ir::Value sum = values.back();
    for (int i = 0; i < 6; ++i) sum = *g.add("add", {sum, pick()});
    g.set_result(*g.add("gather_rows", {sum, *g.input("rows")}));
    ASSERT_TRUE(ir::verify(g)) << ir::verify(g).error().message;
    const auto s = specialize(g, kSizes, {});
    ASSERT_TRUE(s) << s.error().message;
    check_memory(*s);
    PassOptions unscheduled;
    unscheduled.disabled.insert("schedule");
    check_memory(*specialize(g, kSizes, unscheduled));
  }
}

TEST(Pipeline, HostileSizesAreErrors) {
  ir::Graph g = random_transformer(1, true).graph;
  ASSERT_TRUE(run_pipeline(g, {}));
  EXPECT_FALSE(specialize(g, {}, {}));
  EXPECT_FALSE(specialize(g, {.tokens = -1, .rows = 1, .sequences = 1, .pages_per_sequence = 1, .pages = 1}, {}));
  EXPECT_FALSE(
      specialize(g, {.tokens = INT64_MAX, .rows = 1, .sequences = 1, .pages_per_sequence = 1, .pages = 1}, {}));
  StepSizes largest = {ir::kMaxDim, ir::kMaxDim, ir::kMaxDim, ir::kMaxDim, 1 << 20};
  const auto s = specialize(g, largest, {});
  if (s) check_memory(*s);
}

}  // namespace
}  // namespace ll
