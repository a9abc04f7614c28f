#include "compiler/frontend/arch/dense_decoder.h"

#include <fmt/format.h>

#include <cmath>

namespace ll {
namespace {

using ir::Value;

constexpr TensorRow kRows[] = {
    {"token_embd.weight", "model.embed_tokens.weight", Extent::kVocab, Extent::kEmbedding, Presence::kAlways},
    {"output_norm.weight", "model.norm.weight", Extent::kEmbedding, Extent::kNone, Presence::kAlways},
    {"output.weight", "lm_head.weight", Extent::kVocab, Extent::kEmbedding, Presence::kUntied},
    {"rope_freqs.weight", "", Extent::kRopePairs, Extent::kNone, Presence::kGgufOptional},
    {"blk.*.attn_norm.weight", "model.layers.*.input_layernorm.weight", Extent::kEmbedding, Extent::kNone,
     Presence::kAlways},
    {"blk.*.attn_q.weight", "model.layers.*.self_attn.q_proj.weight", Extent::kQueries, Extent::kEmbedding,
     Presence::kAlways},
    {"blk.*.attn_q.bias", "model.layers.*.self_attn.q_proj.bias", Extent::kQueries, Extent::kNone, Presence::kQkvBias},
    {"blk.*.attn_k.weight", "model.layers.*.self_attn.k_proj.weight", Extent::kKeys, Extent::kEmbedding,
     Presence::kAlways},
    {"blk.*.attn_k.bias", "model.layers.*.self_attn.k_proj.bias", Extent::kKeys, Extent::kNone, Presence::kQkvBias},
    {"blk.*.attn_v.weight", "model.layers.*.self_attn.v_proj.weight", Extent::kKeys, Extent::kEmbedding,
     Presence::kAlways},
    {"blk.*.attn_v.bias", "model.layers.*.self_attn.v_proj.bias", Extent::kKeys, Extent::kNone, Presence::kQkvBias},
    {"blk.*.attn_output.weight", "model.layers.*.self_attn.o_proj.weight", Extent::kEmbedding, Extent::kQueries,
     Presence::kAlways},
    {"blk.*.attn_output.bias", "model.layers.*.self_attn.o_proj.bias", Extent::kEmbedding, Extent::kNone,
     Presence::kOutputBias},
    {"blk.*.ffn_norm.weight", "model.layers.*.post_attention_layernorm.weight", Extent::kEmbedding, Extent::kNone,
     Presence::kAlways},
    {"blk.*.ffn_gate.weight", "model.layers.*.mlp.gate_proj.weight", Extent::kFeedForward, Extent::kEmbedding,
     Presence::kAlways},
    {"blk.*.ffn_gate.bias", "model.layers.*.mlp.gate_proj.bias", Extent::kFeedForward, Extent::kNone,
     Presence::kMlpBias},
    {"blk.*.ffn_up.weight", "model.layers.*.mlp.up_proj.weight", Extent::kFeedForward, Extent::kEmbedding,
     Presence::kAlways},
    {"blk.*.ffn_up.bias", "model.layers.*.mlp.up_proj.bias", Extent::kFeedForward, Extent::kNone, Presence::kMlpBias},
    {"blk.*.ffn_down.weight", "model.layers.*.mlp.down_proj.weight", Extent::kEmbedding, Extent::kFeedForward,
     Presence::kAlways},
    {"blk.*.ffn_down.bias", "model.layers.*.mlp.down_proj.bias", Extent::kEmbedding, Extent::kNone, Presence::kMlpBias},
};

class Builder {
 public:
  Builder(const ModelSpec& spec, DType kv) : spec_(spec), hyper_(spec.hyper), kv_(kv) {}

  Result<ir::Graph> build() {
    describe();
    TRY_ASSIGN(const Value tokens, graph_.input("tokens"));
    TRY_ASSIGN(positions_, graph_.input("positions"));
    TRY_ASSIGN(sequences_, graph_.input("sequences"));
    TRY_ASSIGN(slots_, graph_.input("slots"));
    TRY_ASSIGN(block_table_, graph_.input("block_table"));
    TRY_ASSIGN(const Value rows, graph_.input("rows"));
    TRY_ASSIGN(std::vector<float> frequencies, inv_frequencies(spec_));
    TRY_ASSIGN(inv_freq_, graph_.constant(std::move(frequencies), "inv_freq"));

    TRY_ASSIGN(const Value table, weight("token_embd.weight"));
    TRY_ASSIGN(Value x, graph_.add("embed", {table, tokens}, {}, "embed"));
    for (uint32_t layer = 0; layer < hyper_.block_count; ++layer) {
      layer_ = layer;
      TRY_ASSIGN(x, attention(x));
      TRY_ASSIGN(x, feed_forward(x));
    }
    // The rows whose logits are wanted are picked before the last norm and the widest matrix of the model.
    TRY_ASSIGN(x, graph_.add("gather_rows", {x, rows}, {}, "last"));
    TRY_ASSIGN(x, norm(x, "output_norm.weight", "output_norm"));
    TRY_ASSIGN(const Value output,
               spec_.find("output.weight") != nullptr ? weight("output.weight") : Result<Value>(table));
    TRY_ASSIGN(const Value logits, graph_.add("linear", {x, output}, {}, "logits"));
    graph_.set_result(logits);
    return std::move(graph_);
  }

 private:
  void describe() {
    graph_.module.set({"architecture", spec_.architecture});
    if (!spec_.name.empty()) graph_.module.set({"name", spec_.name});
    graph_.module.set({"context_length", int64_t{hyper_.context_length}});
    graph_.module.set({"vocab_size", int64_t{hyper_.vocab_size}});
    if (spec_.bos_token >= 0) graph_.module.set({"bos_token", int64_t{spec_.bos_token}});
    if (!spec_.eos_tokens.empty()) {
      graph_.module.set({"eos_tokens", std::vector<int64_t>(spec_.eos_tokens.begin(), spec_.eos_tokens.end())});
    }
    graph_.module.set({"add_bos", int64_t{spec_.add_bos}});
  }

  // "blk.7.attn_q.weight", for "attn_q.weight".
  std::string tensor_name(std::string_view part) const { return fmt::format("blk.{}.{}", layer_, part); }
  // "attn_q.7".
  std::string value_name(std::string_view part) const { return fmt::format("{}.{}", part, layer_); }

  Result<Value> weight(std::string_view tensor) {
    const WeightTensor* found = spec_.find(tensor);
    if (found == nullptr) return error(Code::kInternal, "the model has no tensor '{}'", tensor);
    return graph_.weight(tensor, found->type);
  }

  Result<Value> norm(Value x, std::string_view tensor, std::string_view name) {
    TRY_ASSIGN(const Value w, weight(tensor));
    return graph_.add("rms_norm", {x, w}, {{"eps", hyper_.rms_norm_eps}}, name);
  }

  // x W^T, plus the bias where the model has one. `part` is "attn_q".
  Result<Value> linear(Value x, std::string_view part) {
    TRY_ASSIGN(const Value w, weight(tensor_name(fmt::format("{}.weight", part))));
    std::vector<Value> operands = {x, w};
    const std::string bias = tensor_name(fmt::format("{}.bias", part));
    if (spec_.find(bias) != nullptr) {
      TRY_ASSIGN(const Value b, weight(bias));
      operands.push_back(b);
    }
    return graph_.add("linear", std::move(operands), {}, value_name(part));
  }

  Result<Value> rope(Value x, std::string_view name) {
    const RopeSpec& rope = hyper_.rope;
    return graph_.add("rope", {x, positions_, inv_freq_},
                      {{"head_dim", int64_t{hyper_.head_dim}},
                       {"style", rope.style == RopeSpec::Style::kHalf ? "half" : "interleaved"},
                       {"mscale", rope.attention_factor}},
                      value_name(name));
  }

  Result<Value> attention(Value x) {
    TRY_ASSIGN(const Value h, norm(x, tensor_name("attn_norm.weight"), value_name("attn_norm")));
    TRY_ASSIGN(const Value q, linear(h, "attn_q"));
    TRY_ASSIGN(const Value k, linear(h, "attn_k"));
    TRY_ASSIGN(const Value v, linear(h, "attn_v"));
    TRY_ASSIGN(const Value q_turned, rope(q, "q_rope"));
    TRY_ASSIGN(const Value k_turned, rope(k, "k_rope"));
    TRY_ASSIGN(const Value cache,
               graph_.kv_cache(layer_, kv_, hyper_.head_count_kv, hyper_.head_dim, value_name("kv")));
    TRY_ASSIGN(const Value kv, graph_.add("kv_write", {cache, k_turned, v, slots_}, {}, value_name("kv_write")));
    TRY_ASSIGN(const Value mixed, graph_.add("attention", {q_turned, kv, positions_, sequences_, block_table_},
                                             {{"heads", int64_t{hyper_.head_count}},
                                              {"kv_heads", int64_t{hyper_.head_count_kv}},
                                              {"head_dim", int64_t{hyper_.head_dim}},
                                              {"scale", 1.0 / std::sqrt(static_cast<double>(hyper_.head_dim))},
                                              {"window", int64_t{hyper_.windows[layer_]}}},
                                             value_name("attn")));
    TRY_ASSIGN(const Value out, linear(mixed, "attn_output"));
    return graph_.add("add", {x, out}, {}, value_name("attn_residual"));
  }

  Result<Value> feed_forward(Value x) {
    TRY_ASSIGN(const Value h, norm(x, tensor_name("ffn_norm.weight"), value_name("ffn_norm")));
    TRY_ASSIGN(const Value gate, linear(h, "ffn_gate"));
    TRY_ASSIGN(const Value up, linear(h, "ffn_up"));
    TRY_ASSIGN(const Value bent, graph_.add("activation", {gate}, {{"act", hyper_.activation}}, value_name("ffn_act")));
    TRY_ASSIGN(const Value product, graph_.add("mul", {bent, up}, {}, value_name("ffn_mul")));
    TRY_ASSIGN(const Value down, linear(product, "ffn_down"));
    return graph_.add("add", {x, down}, {}, value_name("ffn_residual"));
  }

  const ModelSpec& spec_;
  const HyperParameters& hyper_;
  DType kv_;
  ir::Graph graph_;
  uint32_t layer_ = 0;
  Value positions_, sequences_, slots_, block_table_, inv_freq_;
};

}  // namespace

std::span<const TensorRow> dense_decoder_tensors() { return kRows; }

Result<ir::Graph> build_dense_decoder(const ModelSpec& spec, DType kv) { return Builder(spec, kv).build(); }

}  // namespace ll
