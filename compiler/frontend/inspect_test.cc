#include "compiler/frontend/inspect.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "compiler/frontend/small_files.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/safetensors.h"

namespace ll {
namespace {

class Inspect : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/inspect." + std::to_string(getpid());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string write(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << bytes;
    return folder_ + "/" + name;
  }
  // The values that an export of `tensor` writes.
  std::vector<float> exported(const std::string& file, const std::string& tensor) {
    const std::string output = folder_ + "/out.safetensors";
    const Status done = export_tensor(file, tensor, output);
    EXPECT_TRUE(done) << done.error().message;
    const auto mapped = MappedFile::open(output);
    const auto contents = safetensors::parse(mapped->bytes());
    EXPECT_TRUE(contents);
    const safetensors::Tensor* found = contents->find(tensor);
    EXPECT_NE(found, nullptr);
    EXPECT_EQ(found->dtype, safetensors::DType::kF32);
    std::vector<float> values(found->size / 4);
    std::memcpy(values.data(), mapped->bytes().data() + found->offset, found->size);
    return values;
  }
  std::string folder_;
};

TEST_F(Inspect, ShowsGgufOfAnyArchitecture) {
  GgufBuilder b = small_llama("martian");
  b.string("evil", "a\x1b[31m\nb\xff").i32s("long", std::vector<int32_t>(100, 7));
  b.tensor("odd", {32});
  b.tensors.back().type = 9999;
  const std::string path = write("m.gguf", b.build());
  const auto text = inspect(path, false);
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_NE(text->find("GGUF version 3"), std::string::npos);
  EXPECT_NE(text->find("a\\x1b[31m\\nb\\xff"), std::string::npos);
  EXPECT_EQ(text->find('\x1b'), std::string::npos);
  EXPECT_NE(text->find("[7, 7, 7, 7, 7, 7, 7, 7, ...]"), std::string::npos);
  EXPECT_NE(text->find("ggml type 9999"), std::string::npos);
  EXPECT_NE(text->find("q4_0     [16,32]"), std::string::npos);

  const auto found = nlohmann::json::parse(*inspect(path, true));
  EXPECT_EQ(found["metadata"]["general.architecture"], "martian");
  EXPECT_EQ(found["metadata"]["long"]["count"], 100);
  EXPECT_EQ(found["tensors"].size(), b.tensors.size());
  EXPECT_EQ(found["tensors"][0]["shape"], nlohmann::json({8, 32}));
  EXPECT_TRUE(found["tensors"].back()["bytes"].is_null());
  EXPECT_EQ(found["totals"]["q4_0"]["tensors"], 8);

  EXPECT_EQ(export_tensor(path, "odd", folder_ + "/o").error().code, Code::kUnsupported);
  EXPECT_EQ(export_tensor(path, "none", folder_ + "/o").error().code, Code::kUsage);
}

TEST_F(Inspect, ExportsAsF32) {
  const std::string path = write("m.gguf", small_llama().build());
  EXPECT_EQ(exported(path, "output_norm.weight"), std::vector<float>(32, 1.0f));
  // Blocks of small_llama: scale 0.5, low halves 9 and high halves 7, minus 8.
  const std::vector<float> values = exported(path, "blk.0.attn_k.weight");
  ASSERT_EQ(values.size(), 512u);
  EXPECT_EQ(values[0], 0.5f);
  EXPECT_EQ(values[16], -0.5f);
}

TEST_F(Inspect, ConvertsPlainTypes) {
  std::string file = safetensors_file({{"e4m3", "F8_E4M3", {6}}, {"i", "I32", {1}}, {"half", "F16", {1}}});
  const std::string data(
      "\x38\xb8\x01\x7e\x7f\x00"
      "\xfe\xff\xff\xff"
      "\x00\x3e",
      12);
  file.replace(file.size() - data.size(), data.size(), data);
  const std::string path = write("t.safetensors", file);
  const std::vector<float> e4m3 = exported(path, "e4m3");
  ASSERT_EQ(e4m3.size(), 6u);
  EXPECT_EQ(e4m3[0], 1.0f);
  EXPECT_EQ(e4m3[1], -1.0f);
  EXPECT_EQ(e4m3[2], 0x1p-9f);
  EXPECT_EQ(e4m3[3], 448.0f);
  EXPECT_TRUE(e4m3[4] != e4m3[4]);
  EXPECT_EQ(e4m3[5], 0.0f);
  EXPECT_EQ(exported(path, "i"), std::vector<float>{-2});
  EXPECT_EQ(exported(path, "half"), std::vector<float>{1.5f});
}

TEST_F(Inspect, ShowsFolders) {
  write("config.json", R"({"model_type": "martian", "layers": 3})");
  write("a.safetensors", safetensors_file({{"x", "F32", {2}}}));
  write("b.safetensors", safetensors_file({{"y", "F32", {2, 2}}}));
  write("model.safetensors.index.json", R"({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})");
  for (const std::string& path : {folder_, folder_ + "/model.safetensors.index.json"}) {
    const auto found = nlohmann::json::parse(*inspect(path, true));
    EXPECT_EQ(found["metadata"]["layers"], 3);
    EXPECT_EQ(found["files"].size(), 2u);
    EXPECT_EQ(found["tensors"][1]["file"], "b.safetensors");
  }
  EXPECT_EQ(exported(folder_, "y"), std::vector<float>(4, 0.0f));
}

TEST_F(Inspect, NamesOtherFiles) {
  const std::string path = write("x", "PK\x03\x04");
  EXPECT_EQ(inspect(path, false).error().code, Code::kBadData);
  EXPECT_NE(inspect(path, false).error().message.find("ZIP"), std::string::npos);
  EXPECT_EQ(inspect(folder_ + "/absent", false).error().code, Code::kNoInput);
}

}  // namespace
}  // namespace ll
