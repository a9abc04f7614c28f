// Small random transformers with weights, for tests that run graphs. Included by tests alone.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "kernels/quant/formats.h"

namespace ll {

struct RandomTransformer {
  ir::Graph graph;
  std::map<std::string, std::pair<DType, std::vector<std::byte>>, std::less<>> tensors;
  int64_t vocabulary = 0;

  std::vector<int32_t> tokens(size_t n) const {
    std::mt19937_64 random(n);
    std::vector<int32_t> ids(n);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % static_cast<uint64_t>(vocabulary));
    return ids;
  }
};

// Sizes, biases, tying, window, rope style, activation and block types are drawn from `seed`.
inline RandomTransformer random_transformer(uint64_t seed, bool quantized) {
  RandomTransformer t;
  ir::Graph& g = t.graph;
  std::mt19937_64 random(seed);
  const auto draw = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  std::normal_distribution<float> normal;
  const auto tensor = [&](const std::string& name, const TensorType& type, float mean, float deviation) {
    const int64_t rows = type.rank == 2 ? type.dim(0).value : 1, k = type.last().value;
    std::vector<std::byte> bytes(static_cast<size_t>(rows * row_bytes(type.dtype, k)));
    std::vector<float> values(static_cast<size_t>(k));
    for (int64_t r = 0; r < rows; ++r) {
      for (float& v : values) v = mean + deviation * normal(random);
      find_format(type.dtype)->quantize(values.data(), k, bytes.data() + r * row_bytes(type.dtype, k));
    }
    t.tensors[name] = {type.dtype, std::move(bytes)};
    return *g.weight(name, type);
  };
  const auto matrix = [&](const std::string& name, int64_t n, int64_t k) {
    constexpr DType kQuantized[] = {DType::kQ8_0, DType::kQ4_0, DType::kQ5_1, DType::kIQ4_NL};
    constexpr DType kFloat[] = {DType::kF32, DType::kF16, DType::kBF16};
    const DType dtype = quantized ? kQuantized[draw(4)] : kFloat[draw(3)];
    return tensor(name, ir::matrix(dtype, n, k), 0, 1 / std::sqrt(static_cast<float>(k)));
  };
  const auto vector = [&](const std::string& name, int64_t n, float mean) {
    return tensor(name, ir::vector(DType::kF32, n), mean, 0.1f);
  };

  const int64_t kv_heads = 1 + draw(2), heads = kv_heads * (1 + draw(3)), head_dim = 32, d = 64 + 32 * draw(2);
  const int64_t ffn = 96 + 32 * draw(2), layers = 1 + draw(3);
  const bool bias = draw(2) == 0, tied = draw(2) == 0;
  const char* style = draw(2) == 0 ? "half" : "interleaved";
  constexpr const char* kActs[] = {"silu", "gelu", "gelu_tanh", "relu"};
  const char* act = kActs[draw(4)];
  const int64_t window = draw(2) * 5;
  t.vocabulary = 50;

  const auto in = [&](const char* name) { return *g.input(name); };
  const ir::Value tokens = in("tokens"), positions = in("positions"), sequences = in("sequences"), slots = in("slots");
  const ir::Value table = in("block_table"), rows = in("rows");
  std::vector<float> freq(static_cast<size_t>(head_dim / 2));
  for (size_t i = 0; i < freq.size(); ++i)
    freq[i] = std::pow(1e4f, -static_cast<float>(i) / static_cast<float>(freq.size()));
  const ir::Value inv_freq = *g.constant(freq, "inv_freq");
  const ir::Value embedding = matrix("token_embd.weight", t.vocabulary, d);
  ir::Value x = *g.add("embed", {embedding, tokens}, {}, "x");
  for (int64_t i = 0; i < layers; ++i) {
    const std::string p = fmt::format("blk.{}.", i);
    const auto linear = [&](ir::Value y, const std::string& name, int64_t n, int64_t k) {
      std::vector<ir::Value> operands = {y, matrix(p + name + ".weight", n, k)};
      if (bias) operands.push_back(vector(p + name + ".bias", n, 0));
      return *g.add("linear", operands, {}, name + fmt::format(".{}", i));
    };
    const auto norm = [&](ir::Value y, const std::string& name) {
      return *g.add("rms_norm", {y, vector(p + name + ".weight", d, 1)}, {{"eps", 1e-5}}, name);
    };
    const ir::Attributes turn = {{"head_dim", head_dim}, {"style", style}, {"mscale", 1.0}};
    const ir::Value n = norm(x, "attn_norm");
    const ir::Value q = linear(n, "attn_q", heads * head_dim, d), k = linear(n, "attn_k", kv_heads * head_dim, d);
    const ir::Value v = linear(n, "attn_v", kv_heads * head_dim, d);
    const ir::Value qr = *g.add("rope", {q, positions, inv_freq}, turn),
                    kr = *g.add("rope", {k, positions, inv_freq}, turn);
    const ir::Value cache = *g.kv_cache(i, quantized ? DType::kF16 : DType::kF32, kv_heads, head_dim);
    const ir::Value written = *g.add("kv_write", {cache, kr, v, slots});
    const ir::Value a = *g.add("attention", {qr, written, positions, sequences, table},
                               {{"heads", heads},
                                {"kv_heads", kv_heads},
                                {"head_dim", head_dim},
                                {"scale", 1 / std::sqrt(static_cast<double>(head_dim))},
                                {"window", window}});
    x = *g.add("add", {x, linear(a, "attn_output", d, heads * head_dim)});
    const ir::Value m = norm(x, "ffn_norm");
    const ir::Value gate = *g.add("activation", {linear(m, "ffn_gate", ffn, d)}, {{"act", act}});
    const ir::Value gated = *g.add("mul", {gate, linear(m, "ffn_up", ffn, d)});
    x = *g.add("add", {x, linear(gated, "ffn_down", d, ffn)});
  }
  const ir::Value last = *g.add("gather_rows", {x, rows});
  const ir::Value final = *g.add("rms_norm", {last, vector("output_norm.weight", d, 1)}, {{"eps", 1e-5}}, "final");
  const ir::Value head = tied ? embedding : matrix("output.weight", t.vocabulary, d);
  g.set_result(*g.add("linear", {final, head}, {}, "logits"));
  g.module.set({"vocab_size", t.vocabulary});
  return t;
}

}  // namespace ll
