// Every pass keeps the numbers: graphs run before and after it.
#include <gtest/gtest.h>

#include <cmath>

#include "compiler/execute.h"
#include "compiler/passes/passes.h"
#include "compiler/passes/random_transformer.h"
#include "ir/text.h"
#include "ir/verifier.h"
#include "kernels/quant/layouts.h"

namespace ll {
namespace {

constexpr uint64_t kSeeds = 12;
constexpr size_t kTokens = 37;  // more than a KV page

WeightSource source(const RandomTransformer& t) {
  return [&t](std::string_view name, const TensorType&) -> Result<WeightBytes> {
    const auto it = t.tensors.find(name);
    if (it == t.tensors.end()) return bad_data("no tensor {}", name);
    return WeightBytes{it->second.first, it->second.second};
  };
}

std::vector<float> run(const ir::Graph& g, const RandomTransformer& t) {
  const auto r = execute(g, source(t), t.tokens(kTokens));
  if (!r) {
    ADD_FAILURE() << r.error().message << "\n" << ir::print(g);
    return {};
  }
  return *r;
}

double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(double{a[i]} - double{b[i]}, 2);
    norm += std::pow(double{b[i]}, 2);
  }
  return std::sqrt(difference / norm);
}

Status run_one(ir::Graph& g, std::string_view name, const PassOptions& options) {
  const Pass* const list[] = {find_pass(name)};
  return run_passes(g, list, options);
}

// These passes reorder and regroup; every number is made by the same operations in the same order.
TEST(SameNumbers, EveryRegroupingPassKeepsEveryBit) {
  int64_t rewrites = 0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    for (const bool quantized : {false, true}) {
      const RandomTransformer t = random_transformer(seed, quantized);
      const std::vector<float> expected = run(t.graph, t);
      ASSERT_EQ(expected.size(), kTokens * 50);
      ir::Graph g = t.graph;
      const PassOptions options;
      for (const Pass& p : passes()) {
        if (p.stage != PassStage::kGraph || p.integer_kernels) continue;
        PassReport report;
        const Pass* const list[] = {&p};
        ASSERT_TRUE(run_passes(g, list, options, &report));
        for (const auto& [name, count] : report.passes[0].rewrites) rewrites += count;
        ASSERT_EQ(run(g, t), expected) << p.name << " seed " << seed;
        // Alone, on the graph as built, too.
        ir::Graph alone = t.graph;
        ASSERT_TRUE(run_passes(alone, list, options));
        ASSERT_EQ(run(alone, t), expected) << p.name << " alone, seed " << seed;
      }
    }
  }
  EXPECT_GT(rewrites, 100);
}

TEST(SameNumbers, SpecialisingKeepsEveryBit) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const RandomTransformer t = random_transformer(seed, seed % 2 == 0);
    ir::Graph g = t.graph;
    ASSERT_TRUE(run_pipeline(g, {}));
    const auto s = specialize(g, {.tokens = 64, .rows = 64, .sequences = 4, .pages_per_sequence = 2, .pages = 8}, {});
    ASSERT_TRUE(s) << s.error().message;
    EXPECT_EQ(run(*s, t), run(g, t)) << seed;
  }
}

TEST(SameNumbers, AnOrderIsAsGoodAsAnother) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const RandomTransformer t = random_transformer(seed, true);
    ir::Graph g = t.graph;
    std::mt19937_64 random(seed);
    for (const ir::OpId id : g.order()) {
      if (random() % 2 == 0) g.move_before(id, random() % 2 == 0 ? g.first() : ir::kNoOp);
    }
    ASSERT_TRUE(g.restore_order());
    const std::vector<float> expected = run(t.graph, t);
    EXPECT_EQ(run(g, t), expected);
    ASSERT_TRUE(run_one(g, "schedule", {}));
    EXPECT_EQ(run(g, t), expected);
  }
}

// One product y = w x + b. A code of q8a is off by at most half a scale, so |dy| <= sum_k |w_k| s_k / 2, with s_k = m /
// 127 for the largest |x| of k's block (of 256 for weights in such blocks, else of 32); and every f32 sum of K products
// in any order is off by at most K eps sum |w_k x_k|.
TEST(SameNumbers, QuantizedActivationsStayWithinHalfACode) {
  for (const DType dtype : {DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kIQ4_NL,
                            DType::kQ4_K, DType::kQ6_K, DType::kQ2_K, DType::kQ3_K, DType::kQ5_K, DType::kIQ4_XS}) {
    constexpr int64_t kK = 512, kN = 24, kVocabulary = 50;
    RandomTransformer t;
    t.vocabulary = kVocabulary;
    std::mt19937_64 random(static_cast<uint64_t>(dtype));
    std::normal_distribution<float> normal;
    const auto tensor = [&](const char* name, DType type, int64_t n) {
      const int64_t bytes = row_bytes(type, kK);
      std::vector<std::byte> blocks(static_cast<size_t>(n * bytes));
      std::vector<float> row(kK);
      for (int64_t r = 0; r < n; ++r) {
        for (float& f : row) f = normal(random);
        find_format(type)->quantize(row.data(), kK, blocks.data() + r * bytes);
      }
      t.tensors[name] = {type, blocks};
      return *t.graph.weight(name, ir::matrix(type, n, kK));
    };
    const ir::Value table = tensor("table", DType::kF32, kVocabulary), w = tensor("w", dtype, kN);
    const ir::Value x = *t.graph.add("embed", {table, *t.graph.input("tokens")});
    const ir::Value last = *t.graph.add("gather_rows", {x, *t.graph.input("rows")});
    t.graph.set_result(*t.graph.add("linear", {last, w}));

    const std::vector<float> exact = run(t.graph, t);
    ir::Graph quantized = t.graph;
    ASSERT_TRUE(run_one(quantized, "quantize_activations", {}));
    const std::vector<float> codes = run(quantized, t);
    ir::Graph integer = quantized;
    ASSERT_TRUE(run_one(integer, "choose_layouts", {}));
    EXPECT_EQ(integer.type(w).layout, Layout::kX16);
    const std::vector<float> kernels = run(integer, t);

    const auto ids = t.tokens(kTokens);
    const auto& wb = t.tensors.at("w").second;
    const auto* xs = reinterpret_cast<const float*>(t.tensors.at("table").second.data());
    std::vector<float> row(kK);
    double largest = 0;
    for (int64_t n = 0; n < kN; ++n) {
      dequantize_row(dtype, Layout::kRows, wb.data(), n, kK, row.data());
      for (size_t token = 0; token < kTokens; ++token) {
        const float* xr = xs + ids[token] * kK;
        double half_code = 0, magnitude = 0;
        const int64_t block = find_format(dtype)->block_elements;
        for (int64_t b = 0; b < kK; b += block) {
          float m = 0;
          double weights = 0;
          for (int64_t k = b; k < b + block; ++k) {
            m = std::max(m, std::fabs(xr[k]));
            weights += std::fabs(row[static_cast<size_t>(k)]);
            magnitude += std::fabs(double{row[static_cast<size_t>(k)]} * xr[k]);
          }
          half_code += weights * m / 127 / 2;
        }
        // Formats with minima cancel scale * code against the minimum: both terms round, at most 4 times the magnitude
        // of w.
        const double rounding = 8 * kK * 0x1p-24 * (magnitude + half_code);
        const size_t at = token * kN + static_cast<size_t>(n);
        EXPECT_LE(std::fabs(codes[at] - exact[at]), half_code * (1 + 0x1p-10) + rounding) << dtype_name(dtype);
        EXPECT_LE(std::fabs(kernels[at] - codes[at]), rounding) << dtype_name(dtype);
        largest = std::max(largest, std::fabs(double{codes[at]} - exact[at]));
      }
    }
    EXPECT_GT(largest, 0) << "nothing was quantized";
  }
}

// Over a whole network: a product's relative error is about code / sqrt(12) / rms(x) = m / (127 sqrt(12) rms), 0.6 %
// for normal x (m = 2.7 rms in 32 values); at most 3 layers of 4 products and the head add up to at most 13 of those.
TEST(SameNumbers, IntegerKernelsStayCloseOverTheNetwork) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const RandomTransformer t = random_transformer(seed, true);
    const std::vector<float> expected = run(t.graph, t);
    ir::Graph g = t.graph;
    std::vector<float> before;
    for (const Pass& p : passes()) {
      if (p.stage != PassStage::kGraph) continue;
      const Pass* const list[] = {&p};
      ASSERT_TRUE(run_passes(g, list, {}));
      const std::vector<float> after = run(g, t);
      EXPECT_LT(relative_error(after, expected), 13 * 0.006) << p.name << " seed " << seed;
      if (p.name == "fuse_norm_quantize") {
        EXPECT_EQ(after, before);
      }
      before = after;
    }
    EXPECT_GT(relative_error(before, expected), 0);
  }
}

TEST(Execute, RefusesWhatIsNotThere) {
  const RandomTransformer t = random_transformer(1, true);
  EXPECT_FALSE(execute(t.graph, source(t), {}));
  const int32_t beyond[] = {50}, negative[] = {-1}, good[] = {0};
  EXPECT_EQ(execute(t.graph, source(t), beyond).error().message, "%x: token 50 has no row in the table of 50");
  EXPECT_FALSE(execute(t.graph, source(t), negative));
  const WeightSource empty = [](std::string_view, const TensorType&) -> Result<WeightBytes> { return WeightBytes{}; };
  EXPECT_FALSE(execute(t.graph, empty, good));
  ir::Graph broken = t.graph;
  broken.set_result({});
  EXPECT_FALSE(execute(broken, source(t), good));
}

}  // namespace
}  // namespace ll
