#include "compiler/frontend/gguf_model.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "compiler/frontend/arch/arch.h"
#include "compiler/frontend/small_files.h"
#include "ir/verifier.h"
#include "tests/files.h"

namespace ll {
namespace {

Result<ModelSpec> load(const std::string& file) { return load_gguf(as_bytes(file), "test.gguf"); }

std::string error_of(const GgufBuilder& file, Code code) {
  const std::string bytes = file.build();
  const auto spec = load(bytes);
  if (spec) return "no error";
  EXPECT_EQ(spec.error().code, code) << spec.error().message;
  return spec.error().message;
}

TEST(GgufModel, LoadsLlama) {
  const std::string file = small_llama().build();
  const auto spec = load(file);
  ASSERT_TRUE(spec) << spec.error().message;
  EXPECT_EQ(spec->architecture, "llama");
  EXPECT_EQ(spec->name, "small");
  EXPECT_EQ(spec->hyper.vocab_size, 8u);
  EXPECT_EQ(spec->hyper.head_dim, 16u);
  EXPECT_EQ(spec->hyper.rope.dimensions, 16u);
  EXPECT_EQ(spec->hyper.rope.style, RopeSpec::Style::kInterleaved);
  EXPECT_EQ(spec->hyper.windows, std::vector<uint32_t>{0});
  EXPECT_EQ(spec->bos_token, 1);
  EXPECT_EQ(spec->eos_tokens, std::vector<int32_t>{2});
  ASSERT_NE(spec->find("blk.0.attn_k.weight"), nullptr);
  const WeightTensor& k = *spec->find("blk.0.attn_k.weight");
  EXPECT_EQ(k.type.dtype, DType::kQ4_0);
  EXPECT_EQ(k.type.dim(0), Dim(16));
  EXPECT_EQ(k.type.dim(1), Dim(32));
  EXPECT_EQ(k.source, 0);
  EXPECT_EQ(k.bytes.data(), as_bytes(file).data() + k.offset);
  EXPECT_EQ(spec->find("output.weight"), nullptr);

  const auto graph = build_graph(*spec, DType::kF16);
  ASSERT_TRUE(graph) << graph.error().message;
  const Status verified = ir::verify(*graph);
  EXPECT_TRUE(verified) << verified.error().message;
  // Rows are picked before the last norm.
  EXPECT_TRUE(graph->def(graph->result()).is("linear"));
  const ir::Op& norm = graph->def(graph->def(graph->result()).operands[0]);
  EXPECT_TRUE(norm.is("rms_norm"));
  EXPECT_TRUE(graph->def(norm.operands[0]).is("gather_rows"));
}

TEST(GgufModel, LoadsQwen2WithBiases) {
  const std::string file = small_llama("qwen2").build();
  const auto spec = load(file);
  ASSERT_TRUE(spec) << spec.error().message;
  EXPECT_EQ(spec->hyper.rope.style, RopeSpec::Style::kHalf);
  EXPECT_NE(spec->find("blk.0.attn_q.bias"), nullptr);
  const auto graph = build_graph(*spec, DType::kF32);
  ASSERT_TRUE(graph) << graph.error().message;
  EXPECT_TRUE(ir::verify(*graph));

  GgufBuilder without = small_llama("qwen2");
  std::erase_if(without.tensors, [](const auto& t) { return t.name == "blk.0.attn_k.bias"; });
  EXPECT_EQ(error_of(without, Code::kBadData), "tensor 'blk.0.attn_k.bias' is missing (13 tensors found)");
}

TEST(GgufModel, TakesWhatIsOptional) {
  GgufBuilder b = small_llama();
  b.tensor("output.weight", {32, 8}).tensor("blk.0.attn_q.bias", {32}).tensor("blk.0.ffn_down.bias", {32});
  b.tensor("rope_freqs.weight", {8}, 2);
  b.u32("llama.attention.sliding_window", 16);
  const std::string file = b.build();
  const auto spec = load(file);
  ASSERT_TRUE(spec) << spec.error().message;
  EXPECT_EQ(spec->hyper.windows, std::vector<uint32_t>{16});
  const auto inv = inv_frequencies(*spec);
  ASSERT_TRUE(inv);
  EXPECT_EQ((*inv)[0], 0.5f);
  const auto graph = build_graph(*spec, DType::kI8);
  ASSERT_TRUE(graph) << graph.error().message;
  EXPECT_TRUE(ir::verify(*graph));
  b.find("rope_freqs.weight").data.replace(8, 4, std::string(4, '\0'));
  EXPECT_EQ(error_of(b, Code::kBadData), "tensor 'rope_freqs.weight': element 2 is 0, expected a positive number");
}

// Norms may be f16 in the file; the spec has them as f32.
TEST(GgufModel, ConvertsVectors) {
  GgufBuilder b = small_llama();
  auto& norm = b.find("output_norm.weight");
  norm.type = 1;
  norm.data.clear();
  for (int i = 0; i < 32; ++i) norm.data += std::string("\x00\x40", 2);
  const std::string file = b.build();
  const auto spec = load(file);
  ASSERT_TRUE(spec) << spec.error().message;
  const WeightTensor& found = *spec->find("output_norm.weight");
  EXPECT_EQ(found.type.dtype, DType::kF32);
  EXPECT_EQ(found.source, -1);
  ASSERT_EQ(found.bytes.size(), 128u);
  float value;
  std::memcpy(&value, found.bytes.data() + 124, 4);
  EXPECT_EQ(value, 2.0f);
}

TEST(GgufModel, NamesShapesAndTheirReason) {
  GgufBuilder b = small_llama();
  EXPECT_EQ(error_of(b.u32("llama.attention.head_count", 1).u32("llama.attention.key_length", 16), Code::kBadData),
            "tensor 'blk.0.attn_q.weight' is q4_0[32,32], expected [16,32] (from llama.attention.head_count)");
  b = small_llama();
  EXPECT_EQ(error_of(b.u32("llama.feed_forward_length", 96), Code::kBadData),
            "tensor 'blk.0.ffn_gate.weight' is q4_0[64,32], expected [96,32] (from llama.feed_forward_length)");
  b = small_llama();
  EXPECT_EQ(error_of(b.u32("llama.vocab_size", 9), Code::kBadData),
            "tensor 'token_embd.weight' is q4_0[8,32], expected [9,32] (from llama.vocab_size)");
  b = small_llama();
  EXPECT_EQ(error_of(b.u32("llama.block_count", 2), Code::kBadData),
            "tensor 'blk.1.attn_norm.weight' is missing (11 tensors found)");
  b = small_llama();
  b.tensor("blk.1.attn_norm.weight", {32});
  EXPECT_EQ(error_of(b, Code::kBadData), "tensor 'blk.1.attn_norm.weight' is of layer 1, but llama.block_count is 1");
  b = small_llama();
  b.find("output_norm.weight").dims = {32, 1};
  EXPECT_EQ(error_of(b, Code::kBadData),
            "tensor 'output_norm.weight' is f32[1,32], expected [32] (from llama.embedding_length)");
}

TEST(GgufModel, RefusesNumbersOutOfRange) {
  const auto with = [](const std::string& key, uint32_t value) { return small_llama().u32("llama." + key, value); };
  EXPECT_NE(error_of(with("block_count", 0), Code::kBadData).find("from 1 to 1024"), std::string::npos);
  EXPECT_NE(error_of(with("block_count", 1025), Code::kBadData).find("from 1 to 1024"), std::string::npos);
  EXPECT_NE(error_of(with("attention.head_count", 0), Code::kBadData).find("'llama.attention.head_count' is 0"),
            std::string::npos);
  EXPECT_EQ(error_of(with("attention.head_count_kv", 3), Code::kBadData),
            "2 heads share 3 key-value heads, expected a divisor");
  EXPECT_NE(error_of(with("attention.head_count", 3), Code::kBadData).find("a multiple of the 3 heads"),
            std::string::npos);
  EXPECT_EQ(error_of(with("rope.dimension_count", 15), Code::kBadData),
            "rope turns 15 of 16 elements of a head, expected an even number of them");
  EXPECT_EQ(error_of(with("attention.value_length", 8), Code::kUnsupported),
            "keys of 16 and values of 8 elements differ");
  EXPECT_NE(error_of(small_llama().u32("tokenizer.ggml.eos_token_id", 8), Code::kBadData).find("from 0 to 7"),
            std::string::npos);
  EXPECT_NE(error_of(small_llama().f32("llama.rope.freq_base", 0), Code::kBadData).find("llama.rope.freq_base"),
            std::string::npos);
  EXPECT_NE(
      error_of(small_llama().erase("llama.context_length"), Code::kBadData).find("'llama.context_length' is missing"),
      std::string::npos);
  EXPECT_NE(error_of(small_llama().string("llama.context_length", "64"), Code::kBadData).find("is string, expected"),
            std::string::npos);
  EXPECT_TRUE(load(small_llama().i32s("llama.attention.head_count_kv", {1}).build()));
  EXPECT_EQ(error_of(small_llama().u32("llama.block_count", 2).i32s("llama.attention.head_count_kv", {1, 2}),
                     Code::kUnsupported),
            "'llama.attention.head_count_kv' differs between layers (1 and 2)");
}

TEST(GgufModel, RefusesWhatItCannotRun) {
  EXPECT_EQ(error_of(small_llama("gemma2"), Code::kUnsupported),
            "architecture 'gemma2' is not supported; supported are llama, mistral, qwen2");
  EXPECT_EQ(error_of(small_llama().u32("llama.expert_count", 8), Code::kUnsupported),
            "'llama.expert_count' is 8, which is not supported (expected none, or 0)");
  EXPECT_TRUE(load(small_llama().u32("llama.expert_count", 0).build()));
  EXPECT_NE(error_of(small_llama().f32("llama.logit_scale", 2), Code::kUnsupported).find("llama.logit_scale"),
            std::string::npos);
  EXPECT_NE(error_of(small_llama().string("general.type", "adapter"), Code::kUnsupported).find("adapter"),
            std::string::npos);
  EXPECT_EQ(error_of(small_llama().tensor("blk.0.ffn_gate_inp.weight", {32, 4}), Code::kUnsupported),
            "tensor 'blk.0.ffn_gate_inp.weight': a mixture of experts is not supported (architecture llama)");
  EXPECT_EQ(error_of(small_llama().tensor("blk.0.attn_q_norm.weight", {16}), Code::kUnsupported),
            "tensor 'blk.0.attn_q_norm.weight' is none that llama models have here");
  GgufBuilder b = small_llama();
  b.find("blk.0.attn_v.weight").type = 9999;
  EXPECT_EQ(error_of(b, Code::kUnsupported),
            "tensor 'blk.0.attn_v.weight' has type ggml type 9999, which is not supported");
  b = small_llama();
  b.tensors.clear();
  b.u32("llama.vocab_size", 8);
  EXPECT_EQ(error_of(b, Code::kUnsupported), "the file holds a vocabulary or settings, and no weights");
  EXPECT_NE(error_of(small_llama().u32("split.count", 2), Code::kBadData).find("split in 2"), std::string::npos);
}

TEST(GgufModel, ReadsRopeScaling) {
  const auto rope_of = [](const GgufBuilder& b) {
    const std::string file = b.build();
    const auto spec = load(file);
    EXPECT_TRUE(spec) << spec.error().message;
    return spec ? spec->hyper.rope : RopeSpec();
  };
  EXPECT_EQ(rope_of(small_llama()).scaling, RopeSpec::Scaling::kNone);
  // The type is linear unless it is said; a factor of 1 or 0 is none.
  const RopeSpec linear = rope_of(small_llama().f32("llama.rope.scaling.factor", 4));
  EXPECT_EQ(linear.scaling, RopeSpec::Scaling::kLinear);
  EXPECT_EQ(linear.factor, 4);
  EXPECT_EQ(rope_of(small_llama().f32("llama.rope.scale_linear", 2)).factor, 2);
  EXPECT_EQ(
      rope_of(small_llama().string("llama.rope.scaling.type", "none").f32("llama.rope.scaling.factor", 4)).scaling,
      RopeSpec::Scaling::kNone);
  const RopeSpec yarn = rope_of(small_llama()
                                    .string("llama.rope.scaling.type", "yarn")
                                    .f32("llama.rope.scaling.factor", 4)
                                    .f32("llama.rope.scaling.attn_factor", 0.5)
                                    .u32("llama.rope.scaling.original_context_length", 32));
  EXPECT_EQ(yarn.scaling, RopeSpec::Scaling::kYarn);
  EXPECT_EQ(yarn.original_context, 32u);
  EXPECT_TRUE(yarn.truncate);
  EXPECT_NEAR(yarn.attention_factor, 0.5 * (0.1 * std::log(4.0) + 1), 1e-12);
  EXPECT_NE(error_of(small_llama().string("llama.rope.scaling.type", "longrope"), Code::kUnsupported).find("longrope"),
            std::string::npos);
}

// Cut at any byte, or with any byte of the directory changed, a model is refused or harmlessly different.
TEST(GgufModel, SurvivesTruncationAndDamage) {
  for (const char* architecture : {"llama", "qwen2"}) {
    const std::string good = small_llama(architecture).build();
    ASSERT_TRUE(load(good));
    for (size_t length = 0; length < good.size(); ++length) {
      const auto spec = load(good.substr(0, length));
      ASSERT_FALSE(spec) << length;
      ASSERT_EQ(spec.error().code, Code::kBadData) << length << ": " << spec.error().message;
    }
    const size_t directory = gguf::parse(as_bytes(good))->data_offset;
    for (size_t at = 0; at < directory; ++at) {
      for (const int change : {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff}) {
        std::string damaged = good;
        damaged[at] = static_cast<char>(damaged[at] ^ change);
        const auto spec = load(damaged);
        if (!spec) {
          ASSERT_TRUE(spec.error().code == Code::kBadData || spec.error().code == Code::kUnsupported)
              << at << ": " << spec.error().message;
          ASSERT_FALSE(spec.error().message.empty());
        } else if (at % 16 == 0) {
          const auto graph = build_graph(*spec, DType::kF16);
          ASSERT_TRUE(graph) << at << ": " << graph.error().message;
        }
      }
    }
  }
}

class SplitGguf : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/split_gguf." + std::to_string(getpid());
    std::filesystem::create_directories(folder_);
    GgufBuilder first = small_llama(), second;
    second.tensors.assign(first.tensors.begin() + 4, first.tensors.end());
    first.tensors.resize(4);
    write(first, 0);
    write(second, 1);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(int index) const { return folder_ + "/m-0000" + std::to_string(index + 1) + "-of-00002.gguf"; }
  void write(GgufBuilder b, int index, uint32_t number = 99, uint32_t tensors = 11) {
    const auto u16 = [&](const char* key, uint16_t value) {
      b.raw(key, GgufBuilder::type(gguf::ValueType::kU16) + GgufBuilder::bytes(value));
    };
    u16("split.count", 2);
    u16("split.no", static_cast<uint16_t>(number == 99 ? static_cast<uint32_t>(index) : number));
    b.raw("split.tensors.count", GgufBuilder::type(gguf::ValueType::kI32) + GgufBuilder::bytes(tensors));
    std::ofstream(path(index), std::ios::binary) << b.build();
  }
  std::string error_of(const std::string& file, Code code) {
    const auto spec = load_model(file);
    if (spec) return "no error";
    EXPECT_EQ(spec.error().code, code) << spec.error().message;
    return spec.error().message;
  }

  std::string folder_;
};

TEST_F(SplitGguf, LoadsFromAnyShard) {
  for (const int index : {0, 1}) {
    const auto spec = load_model(path(index));
    ASSERT_TRUE(spec) << spec.error().message;
    ASSERT_EQ(spec->sources.size(), 2u);
    EXPECT_EQ(spec->sources[0].name, "m-00001-of-00002.gguf");
    EXPECT_EQ(spec->find("token_embd.weight")->source, 0);
    EXPECT_EQ(spec->find("blk.0.ffn_down.weight")->source, 1);
  }
}

TEST_F(SplitGguf, RefusesShardsThatDoNotBelongTogether) {
  write(small_llama(), 1);
  EXPECT_NE(error_of(path(0), Code::kBadData).find("the 2 shards hold 15 tensors"), std::string::npos);
  write(small_llama(), 1, 0);
  EXPECT_NE(error_of(path(0), Code::kBadData).find("says it is shard 1 of 2, expected 2 of 2"), std::string::npos);
  std::filesystem::copy(path(0), folder_ + "/renamed.gguf");
  EXPECT_NE(error_of(folder_ + "/renamed.gguf", Code::kBadData).find("its name does not end in '-00001-of-00002.gguf'"),
            std::string::npos);
  write(small_llama(), 1, 1, 15);
  write(small_llama(), 0, 0, 22);
  EXPECT_NE(error_of(path(0), Code::kBadData).find("is in two shards"), std::string::npos);
  std::filesystem::remove(path(1));
  EXPECT_NE(error_of(path(0), Code::kNoInput).find("m-00002-of-00002.gguf"), std::string::npos);
}

TEST(GgufModel, LoadsTheSharedModels) {
  const std::string folder = test_files::shared_folder() / "models/kjv-7m/gguf";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no shared models at " << test_files::shared_folder();
  for (const char* type : {"Q4_0", "Q4_K_M", "Q8_0"}) {
    const auto spec = load_model(folder + "/kjv-7m-" + type + ".gguf");
    ASSERT_TRUE(spec) << spec.error().message;
    EXPECT_EQ(spec->tensors.size(), 74u);
    EXPECT_EQ(spec->hyper.vocab_size, 4096u);
    EXPECT_EQ(spec->bos_token, 0);
    EXPECT_EQ(spec->eos_tokens, (std::vector<int32_t>{1, 3}));  // <|end_of_text|> by its text, <|im_end|> by its key
    EXPECT_FALSE(spec->chat_template.empty());
    const auto graph = build_graph(*spec, DType::kF16);
    ASSERT_TRUE(graph) << graph.error().message;
    EXPECT_TRUE(ir::verify(*graph));
  }
}

TEST(GgufModel, RefusesTheSharedVocabularies) {
  const std::string folder = test_files::shared_folder() / "vocabs";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no shared vocabularies at " << test_files::shared_folder();
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".gguf") continue;
    const auto spec = load_model(entry.path().string());
    ASSERT_FALSE(spec);
    EXPECT_EQ(spec.error().code, Code::kUnsupported) << spec.error().message;
  }
}

}  // namespace
}  // namespace ll
