#include "compiler/frontend/hf_model.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "compiler/frontend/arch/arch.h"
#include "compiler/frontend/small_files.h"
#include "ir/verifier.h"
#include "tests/files.h"

namespace ll {
namespace {

using nlohmann::json;

// A folder in memory: a model of 8 tokens, 32 wide, 2 heads of 16 sharing 1, feed-forward 64, bf16.
struct Folder {
  std::map<std::string, std::string> text;
  json config;
  std::vector<SmallTensor> tensors;

  explicit Folder(const std::string& type = "llama", uint32_t layers = 1) {
    const std::string architecture = type == "llama"     ? "LlamaForCausalLM"
                                     : type == "mistral" ? "MistralForCausalLM"
                                                         : "Qwen2ForCausalLM";
    config = {{"architectures", {architecture}},
              {"model_type", type},
              {"vocab_size", 8},
              {"max_position_embeddings", 64},
              {"hidden_size", 32},
              {"num_hidden_layers", layers},
              {"intermediate_size", 64},
              {"num_attention_heads", 2},
              {"num_key_value_heads", 1},
              {"rms_norm_eps", 1e-6},
              {"hidden_act", "silu"},
              {"rope_theta", 10000.0},
              {"bos_token_id", 1},
              {"eos_token_id", 2},
              {"tie_word_embeddings", false}};
    add("model.embed_tokens.weight", {8, 32});
    add("model.norm.weight", {32});
    add("lm_head.weight", {8, 32});
    for (uint32_t i = 0; i < layers; ++i) {
      const std::string layer = "model.layers." + std::to_string(i) + ".";
      add(layer + "input_layernorm.weight", {32});
      add(layer + "post_attention_layernorm.weight", {32});
      add(layer + "self_attn.q_proj.weight", {32, 32});
      add(layer + "self_attn.k_proj.weight", {16, 32});
      add(layer + "self_attn.v_proj.weight", {16, 32});
      add(layer + "self_attn.o_proj.weight", {32, 32});
      add(layer + "mlp.gate_proj.weight", {64, 32});
      add(layer + "mlp.up_proj.weight", {64, 32});
      add(layer + "mlp.down_proj.weight", {32, 64});
      if (type != "qwen2") continue;
      add(layer + "self_attn.q_proj.bias", {32});
      add(layer + "self_attn.k_proj.bias", {16});
      add(layer + "self_attn.v_proj.bias", {16});
    }
  }
  void add(const std::string& name, std::vector<uint64_t> shape, const std::string& dtype = "BF16") {
    tensors.push_back({name, dtype, std::move(shape)});
  }
  void remove(const std::string& name) {
    std::erase_if(tensors, [&](const SmallTensor& t) { return t.name == name; });
  }

  // Valid until the next call.
  Result<ModelSpec> load() {
    if (!text.contains("config.json") || generated_) {
      text["config.json"] = config.dump();
      generated_ = true;
    }
    if (!text.contains("model.safetensors.index.json")) text["model.safetensors"] = safetensors_file(tensors);
    HfFiles files;
    for (const auto& [name, bytes] : text) files.emplace(name, SourceFile{name, "", as_bytes(bytes), nullptr});
    return load_hf(files);
  }
  std::string error(Code code) {
    const auto spec = load();
    if (spec) return "no error";
    EXPECT_EQ(spec.error().code, code) << spec.error().message;
    return spec.error().message;
  }
  bool generated_ = false;
};

TEST(HfModel, LoadsEveryFamily) {
  for (const char* type : {"llama", "mistral", "qwen2"}) {
    Folder folder(type, 2);
    const auto spec = folder.load();
    ASSERT_TRUE(spec) << spec.error().message;
    EXPECT_EQ(spec->architecture, type);
    EXPECT_EQ(spec->hyper.head_dim, 16u);
    EXPECT_EQ(spec->hyper.rope.style, RopeSpec::Style::kHalf);
    EXPECT_EQ(spec->bos_token, 1);
    EXPECT_EQ(spec->eos_tokens, std::vector<int32_t>{2});
    const WeightTensor* q = spec->find("blk.1.attn_q.weight");
    ASSERT_NE(q, nullptr);
    EXPECT_EQ(q->type.dtype, DType::kBF16);
    EXPECT_EQ(q->bytes.data(), spec->sources[0].bytes.data() + q->offset);
    EXPECT_EQ(spec->find("output_norm.weight")->type.dtype, DType::kF32);
    const auto graph = build_graph(*spec, DType::kF32);
    ASSERT_TRUE(graph) << graph.error().message;
    const Status verified = ir::verify(*graph);
    EXPECT_TRUE(verified) << verified.error().message;
  }
}

TEST(HfModel, FollowsTheFlags) {
  Folder folder;
  folder.config["tie_word_embeddings"] = true;  // lm_head.weight is then a copy that nobody reads
  auto spec = folder.load();
  ASSERT_TRUE(spec) << spec.error().message;
  EXPECT_EQ(spec->find("output.weight"), nullptr);

  folder = Folder();
  folder.remove("lm_head.weight");
  EXPECT_EQ(folder.error(Code::kBadData), "tensor 'lm_head.weight' is missing (11 tensors found)");

  folder = Folder();
  folder.config["attention_bias"] = true;
  EXPECT_EQ(folder.error(Code::kBadData),
            "tensor 'model.layers.0.self_attn.q_proj.bias' is missing (12 tensors found)");
  for (const auto& [part, n] : {std::pair{"q", 32u}, {"k", 16u}, {"v", 16u}, {"o", 32u}}) {
    folder.add(std::string("model.layers.0.self_attn.") + part + "_proj.bias", {n});
  }
  EXPECT_TRUE(folder.load());
  folder.config["attention_bias"] = false;
  EXPECT_NE(folder.error(Code::kUnsupported).find("self_attn.k_proj.bias' is none that llama models have"),
            std::string::npos);

  folder = Folder();
  folder.config["head_dim"] = 8;
  EXPECT_EQ(folder.error(Code::kBadData),
            "tensor 'model.layers.0.self_attn.q_proj.weight' is bf16[32,32], expected [16,32] "
            "(from num_attention_heads)");
  folder = Folder();
  folder.add("model.layers.0.self_attn.rotary_emb.inv_freq", {8}, "F32");  // what old checkpoints saved
  EXPECT_TRUE(folder.load());
  folder.add("model.layers.1.input_layernorm.weight", {32});
  EXPECT_EQ(folder.error(Code::kBadData),
            "tensor 'model.layers.1.input_layernorm.weight' is of layer 1, but num_hidden_layers is 1");
}

TEST(HfModel, ReadsBothSpellingsOfRope) {
  const auto rope_of = [](const json& changes) {
    Folder folder;
    folder.config.erase("rope_theta");
    folder.config.update(changes);
    const auto spec = folder.load();
    EXPECT_TRUE(spec) << spec.error().message;
    return spec ? spec->hyper.rope : RopeSpec();
  };
  const json llama3 = {{"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 32},
                       {"rope_type", "llama3"}};
  EXPECT_EQ(rope_of(json::object()).base, 10000);
  EXPECT_EQ(rope_of({{"rope_theta", 5e5}}).base, 5e5);
  EXPECT_EQ(rope_of({{"rope_parameters", {{"rope_theta", 5e5}, {"rope_type", "default"}}}}).base, 5e5);
  json newer = llama3;
  newer["rope_theta"] = 5e5;
  for (const RopeSpec& rope :
       {rope_of({{"rope_theta", 5e5}, {"rope_scaling", llama3}}), rope_of({{"rope_parameters", newer}}),
        rope_of({{"rope_parameters", {{"full_attention", newer}}}})}) {
    EXPECT_EQ(rope.scaling, RopeSpec::Scaling::kLlama3);
    EXPECT_EQ(rope.base, 5e5);
    EXPECT_EQ(rope.factor, 8);
    EXPECT_EQ(rope.low_freq_factor, 1);
    EXPECT_EQ(rope.high_freq_factor, 4);
    EXPECT_EQ(rope.original_context, 32u);
  }
  const RopeSpec linear = rope_of({{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}});
  EXPECT_EQ(linear.scaling, RopeSpec::Scaling::kLinear);
  EXPECT_EQ(linear.factor, 2);

  const json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}};
  RopeSpec rope = rope_of({{"rope_scaling", yarn}});
  EXPECT_EQ(rope.scaling, RopeSpec::Scaling::kYarn);
  EXPECT_EQ(rope.beta_fast, 32);
  EXPECT_TRUE(rope.truncate);
  EXPECT_NEAR(rope.attention_factor, 0.1 * std::log(4.0) + 1, 1e-12);
  json more = yarn;
  more.update({{"mscale", 0.5}, {"mscale_all_dim", 1.0}, {"truncate", false}, {"beta_fast", 16}});
  rope = rope_of({{"rope_scaling", more}});
  EXPECT_NEAR(rope.attention_factor, (0.05 * std::log(4.0) + 1) / (0.1 * std::log(4.0) + 1), 1e-12);
  EXPECT_FALSE(rope.truncate);
  EXPECT_EQ(rope.beta_fast, 16);
  more["attention_factor"] = 1.5;
  EXPECT_EQ(rope_of({{"rope_scaling", more}}).attention_factor, 1.5);
  EXPECT_EQ(rope_of({{"rope_scaling", {{"rope_type", "yarn"}, {"original_max_position_embeddings", 16}}}}).factor, 4);
}

TEST(HfModel, RefusesOtherRopes) {
  const auto error_of = [](const json& changes, Code code) {
    Folder folder;
    folder.config.update(changes);
    return folder.error(code);
  };
  EXPECT_NE(error_of({{"rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}}}, Code::kUnsupported)
                .find("'rope_scaling.rope_type' is 'dynamic', supported are default, linear, llama3 and yarn"),
            std::string::npos);
  EXPECT_NE(error_of({{"partial_rotary_factor", 0.5}}, Code::kUnsupported).find("partial_rotary_factor"),
            std::string::npos);
  const json one = {{"rope_type", "default"}, {"rope_theta", 1e4}},
             other = {{"rope_type", "default"}, {"rope_theta", 1e6}};
  EXPECT_NE(error_of({{"rope_parameters", {{"full_attention", one}, {"sliding_attention", other}}}}, Code::kUnsupported)
                .find("differs between types of layers"),
            std::string::npos);
  EXPECT_NE(error_of({{"rope_scaling", {{"type", "linear"}}}}, Code::kBadData).find("'rope_scaling.factor' is missing"),
            std::string::npos);
  EXPECT_NE(error_of({{"rope_scaling", 3}}, Code::kBadData).find("expected an object"), std::string::npos);
  EXPECT_NE(
      error_of({{"rope_scaling", {{"type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 4}}}},
               Code::kBadData)
          .find("high_freq_factor is 4, expected more than low_freq_factor 4"),
      std::string::npos);
}

TEST(HfModel, ReadsWindows) {
  const auto windows_of = [](const std::string& type, const json& changes) {
    Folder folder(type, 3);
    folder.config.update(changes);
    const auto spec = folder.load();
    EXPECT_TRUE(spec) << spec.error().message;
    return spec ? spec->hyper.windows : std::vector<uint32_t>();
  };
  using Windows = std::vector<uint32_t>;
  EXPECT_EQ(windows_of("llama", json::object()), (Windows{0, 0, 0}));
  EXPECT_EQ(windows_of("mistral", {{"sliding_window", 16}}), (Windows{16, 16, 16}));
  EXPECT_EQ(windows_of("mistral", {{"sliding_window", nullptr}}), (Windows{0, 0, 0}));
  EXPECT_EQ(windows_of("mistral", json::object()), (Windows{4096, 4096, 4096}));
  EXPECT_EQ(windows_of("qwen2", {{"sliding_window", 16}}), (Windows{0, 0, 0}));
  EXPECT_EQ(windows_of("qwen2", {{"sliding_window", 16}, {"use_sliding_window", true}, {"max_window_layers", 1}}),
            (Windows{0, 16, 16}));
  EXPECT_EQ(windows_of("qwen2", {{"sliding_window", 16},
                                 {"use_sliding_window", true},
                                 {"layer_types", {"sliding_attention", "full_attention", "sliding_attention"}}}),
            (Windows{16, 0, 16}));
  Folder folder("qwen2", 3);
  folder.config["layer_types"] = {"full_attention"};
  EXPECT_NE(folder.error(Code::kBadData).find("'layer_types' names 1 layers"), std::string::npos);
  folder.config["layer_types"] = {"full_attention", "linear_attention", "full_attention"};
  EXPECT_NE(folder.error(Code::kUnsupported).find("linear_attention"), std::string::npos);
}

TEST(HfModel, ReadsSpecialTokensAndTemplates) {
  Folder folder;
  folder.text["generation_config.json"] = R"({"bos_token_id": 0, "eos_token_id": [5, 3, 5]})";
  folder.text["tokenizer_config.json"] =
      R"({"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]})";
  auto spec = folder.load();
  ASSERT_TRUE(spec) << spec.error().message;
  EXPECT_EQ(spec->bos_token, 0);
  EXPECT_EQ(spec->eos_tokens, (std::vector<int32_t>{3, 5}));
  EXPECT_EQ(spec->chat_template, "D");
  EXPECT_EQ(spec->tokenizer, nullptr);
  folder.text["tokenizer_config.json"] = R"({"chat_template": "S"})";
  EXPECT_EQ(folder.load()->chat_template, "S");
  folder.text["chat_template.jinja"] = "J\n";
  EXPECT_EQ(folder.load()->chat_template, "J\n");
  folder.text["generation_config.json"] = R"({"eos_token_id": 8})";
  EXPECT_EQ(folder.error(Code::kBadData),
            "config.json: generation_config.json: 'eos_token_id' holds 8, expected integers from 0 to 7");
}

TEST(HfModel, RefusesWhatItCannotRun) {
  const auto error_of = [](const json& changes, Code code) {
    Folder folder;
    folder.config.update(changes);
    return folder.error(code);
  };
  EXPECT_EQ(error_of({{"model_type", "gemma"}, {"architectures", {"GemmaForCausalLM"}}}, Code::kUnsupported),
            "config.json: architecture 'GemmaForCausalLM' is not supported; supported are llama, mistral, qwen2");
  EXPECT_NE(error_of({{"architectures", {"LlamaForSequenceClassification"}}}, Code::kUnsupported)
                .find("'LlamaForSequenceClassification' is not supported, expected LlamaForCausalLM"),
            std::string::npos);
  EXPECT_NE(error_of({{"hidden_act", "mish"}}, Code::kUnsupported).find("'hidden_act' is 'mish'"), std::string::npos);
  EXPECT_NE(error_of({{"quantization_config", {{"bits", 4}}}}, Code::kUnsupported).find("quantization_config"),
            std::string::npos);
  EXPECT_NE(error_of({{"num_hidden_layers", 1025}}, Code::kBadData).find("from 1 to 1024"), std::string::npos);
  EXPECT_NE(error_of({{"vocab_size", "8"}}, Code::kBadData).find("'vocab_size' is the string '8'"), std::string::npos);
  EXPECT_NE(error_of({{"hidden_size", 31}}, Code::kBadData).find("a multiple of the 2 heads"), std::string::npos);
  EXPECT_EQ(error_of({{"vocab_size", 9}}, Code::kBadData),
            "tensor 'model.embed_tokens.weight' is bf16[8,32], expected [9,32] (from vocab_size)");
  Folder folder;
  folder.remove("model.norm.weight");
  folder.add("model.norm.weight", {32}, "F8_E4M3");
  EXPECT_EQ(folder.error(Code::kUnsupported), "tensor 'model.norm.weight' has type F8_E4M3, which is not supported");
  folder = Folder();
  folder.text["config.json"] = "version https://git-lfs.github.com/spec/v1\n";
  EXPECT_NE(folder.error(Code::kBadData).find("git-lfs"), std::string::npos);
  folder.text["config.json"] = std::string(100, '[');
  EXPECT_EQ(folder.error(Code::kBadData), "config.json: JSON nested 100 deep, the limit is 64");
}

TEST(HfModel, LoadsShards) {
  Folder folder;
  const std::vector<SmallTensor> all = folder.tensors;
  folder.text["a.safetensors"] = safetensors_file({all.begin(), all.begin() + 5});
  folder.text["b.safetensors"] = safetensors_file({all.begin() + 5, all.end()});
  json index;
  for (size_t i = 0; i < all.size(); ++i) index["weight_map"][all[i].name] = i < 5 ? "a.safetensors" : "b.safetensors";
  folder.text["model.safetensors.index.json"] = index.dump();
  const auto spec = folder.load();
  ASSERT_TRUE(spec) << spec.error().message;
  ASSERT_EQ(spec->sources.size(), 2u);
  EXPECT_EQ(spec->find("token_embd.weight")->source, 0);
  EXPECT_EQ(spec->find("blk.0.ffn_down.weight")->source, 1);

  folder.text["b.safetensors"] = safetensors_file(all);
  EXPECT_NE(folder.error(Code::kBadData).find("is in two files"), std::string::npos);
  folder.text.erase("b.safetensors");
  EXPECT_EQ(folder.error(Code::kNoInput), "b.safetensors is missing");
  for (const char* name : {"../b.safetensors", "/etc/b.safetensors", "..", "", "b.bin", "x\\b.safetensors"}) {
    index["weight_map"]["x"] = name;
    folder.text["model.safetensors.index.json"] = index.dump();
    EXPECT_NE(folder.error(Code::kBadData).find("is no name of a safetensors file in the same folder"),
              std::string::npos)
        << name;
  }
}

// Any byte of config.json or of the header changed: refused, or harmlessly different.
TEST(HfModel, SurvivesDamage) {
  Folder folder;
  ASSERT_TRUE(folder.load());
  folder.generated_ = false;
  const std::string config = folder.text["config.json"];
  const std::string weights = folder.text["model.safetensors"];
  const auto try_with = [&](const std::string& c, const std::string& w) {
    HfFiles files;
    files.emplace("config.json", SourceFile{"config.json", "", as_bytes(c), nullptr});
    files.emplace("model.safetensors", SourceFile{"model.safetensors", "", as_bytes(w), nullptr});
    const auto spec = load_hf(files);
    if (!spec) {
      EXPECT_TRUE(spec.error().code == Code::kBadData || spec.error().code == Code::kUnsupported)
          << spec.error().message;
    }
    return static_cast<bool>(spec);
  };
  for (size_t length = 0; length < config.size(); ++length) EXPECT_FALSE(try_with(config.substr(0, length), weights));
  for (size_t length = 0; length < weights.size(); length += 7)
    EXPECT_FALSE(try_with(config, weights.substr(0, length)));
  for (const int change : {0x01, 0x04, 0x10, 0x80, 0xff}) {
    for (size_t at = 0; at < config.size(); ++at) {
      std::string damaged = config;
      damaged[at] = static_cast<char>(damaged[at] ^ change);
      try_with(damaged, weights);
    }
    for (size_t at = 0; at < 1500; ++at) {
      std::string damaged = weights;
      damaged[at] = static_cast<char>(damaged[at] ^ change);
      try_with(config, damaged);
    }
  }
}

TEST(HfModel, NamesWhatAFolderIs) {
  const std::string folder = testing::TempDir() + "/hf_folder." + std::to_string(getpid());
  std::filesystem::create_directories(folder);
  EXPECT_EQ(load_model(folder).error().code, Code::kNoInput);
  std::ofstream(folder + "/adapter_config.json") << "{}";
  auto spec = load_model(folder);
  EXPECT_EQ(spec.error().code, Code::kUnsupported);
  EXPECT_NE(spec.error().message.find("PEFT adapter"), std::string::npos);
  std::filesystem::remove(folder + "/adapter_config.json");
  std::ofstream(folder + "/config.json") << "{}";
  std::ofstream(folder + "/pytorch_model.bin") << "x";
  spec = load_model(folder);
  EXPECT_NE(spec.error().message.find("PyTorch pickles"), std::string::npos);
  std::filesystem::remove_all(folder);
  EXPECT_EQ(load_model(folder).error().code, Code::kNoInput);
}

TEST(HfModel, LoadsOrRefusesTheSharedModels) {
  const std::string folder = test_files::shared_folder() / "models";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no shared models at " << test_files::shared_folder();
  for (const char* name :
       {"llama-gqa", "llama-mha-tied", "llama3-rope", "mistral-swa", "qwen2-bias", "kjv-7m", "kjv-1m-draft"}) {
    const auto spec = load_model(folder + "/" + name);
    ASSERT_TRUE(spec) << spec.error().message;
    const auto graph = build_graph(*spec, DType::kF32);
    ASSERT_TRUE(graph) << graph.error().message;
    EXPECT_TRUE(ir::verify(*graph));
  }
  EXPECT_EQ(load_model(folder + "/mistral-swa")->hyper.windows[0], 16u);
  for (const char* name :
       {"mixtral-moe", "qwen3-qknorm", "gemma1", "gemma2", "gemma3-text", "phi3-fused", "phi3-longrope", "granite",
        "olmo2", "smollm3", "stablelm2", "qwen2-moe", "qwen3-moe", "gpt-oss", "llama-gqa-lora"}) {
    const auto spec = load_model(folder + "/" + name);
    ASSERT_FALSE(spec) << name;
    EXPECT_EQ(spec.error().code, Code::kUnsupported) << spec.error().message;
  }
}

}  // namespace
}  // namespace ll
