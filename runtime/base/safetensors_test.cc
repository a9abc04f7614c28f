#include "runtime/base/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "runtime/base/mapped_file.h"

namespace ll::safetensors {
namespace {

std::vector<std::byte> file_of(const std::string& header, size_t data) {
  std::vector<std::byte> out(8 + header.size() + data);
  const uint64_t length = header.size();
  std::memcpy(out.data(), &length, 8);
  std::memcpy(out.data() + 8, header.data(), header.size());
  return out;
}

// The message of the error that a header and `data` zero bytes give.
std::string error_of(const std::string& header, size_t data) {
  const auto file = file_of(header, data);
  const auto contents = parse(file);
  if (contents) return "no error";
  EXPECT_EQ(contents.error().code, Code::kBadData);
  return contents.error().message;
}

constexpr const char* kGood =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[16,28]},)"
    R"("a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"e":{"dtype":"I64","shape":[0,7],"data_offsets":[16,16]}})";

TEST(Safetensors, ReadsTensorsByOffset) {
  const auto file = file_of(kGood, 28);
  const auto contents = parse(file);
  ASSERT_TRUE(contents) << contents.error().message;
  ASSERT_EQ(contents->tensors.size(), 3u);
  EXPECT_EQ(contents->tensors[0].name, "a");
  EXPECT_EQ(contents->tensors[1].name, "e");
  EXPECT_EQ(contents->tensors[2].name, "b");
  EXPECT_EQ(contents->tensors[2].offset, file.size() - 12);
  EXPECT_EQ(contents->tensors[2].size, 12u);
  EXPECT_EQ(contents->tensors[2].shape, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(contents->find("b"), &contents->tensors[2]);
  EXPECT_EQ(contents->find("c"), nullptr);
  EXPECT_EQ(contents->metadata.at("format"), "pt");
}

TEST(Safetensors, NamesWhatIsWrong) {
  const auto tensor = [](const std::string& body) { return R"({"a":{)" + body + "}}"; };
  const struct {
    std::string header;
    size_t data;
    const char* message;
  } cases[] = {
      {tensor(R"("dtype":"F32","shape":[4],"data_offsets":[0,16])"), 15,
       "tensor 'a': data_offsets [0,16] lie outside the data (15 bytes)"},
      {tensor(R"("dtype":"F32","shape":[4],"data_offsets":[0,16])"), 17,
       "the tensors cover 16 bytes of data, the file has 17"},
      {tensor(R"("dtype":"F32","shape":[3],"data_offsets":[0,16])"), 16,
       "tensor 'a': data_offsets [0,16] hold 16 bytes, F32 [3] needs 12"},
      {tensor(R"("dtype":"F32","shape":[4],"data_offsets":[4,20])"), 20,
       "tensor 'a': data start at 4, after the byte 0 where the tensor before it ends"},
      {tensor(R"("dtype":"F32","shape":[4],"data_offsets":[16,0])"), 16,
       "tensor 'a': data_offsets [16,0] lie outside the data (16 bytes)"},
      {tensor(R"("dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16])"), 16,
       "tensor 'a': F32 [4611686018427387904,4] has no size in whole bytes below 2^64"},
      {tensor(R"("dtype":"F4","shape":[3],"data_offsets":[0,1])"), 1,
       "tensor 'a': F4 [3] has no size in whole bytes below 2^64"},
      {tensor(R"("dtype":"Q8","shape":[4],"data_offsets":[0,16])"), 16,
       "tensor 'a': dtype is 'Q8', which is none of safetensors'"},
      {tensor(R"("dtype":"F32","shape":[-4],"data_offsets":[0,16])"), 16, "tensor 'a': found the negative number -4"},
      {tensor(R"("dtype":"F32","shape":[1.5],"data_offsets":[0,16])"), 16, "tensor 'a': found 1.5"},
      {tensor(R"("dtype":"F32","shape":[4])"), 16, "tensor 'a': lacks data_offsets"},
      {tensor(R"("dtype":"F32","shape":[4],"data_offsets":[0])"), 16,
       "tensor 'a': data_offsets has fewer than two numbers"},
      {tensor(R"("dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16])"), 16, "tensor 'a': dtype is repeated"},
      {tensor(R"("color":"red")"), 0, "tensor 'a': has the unknown key 'color'"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       2, "tensor 'a' is repeated"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "tensor 'b': data start at 1, before the byte 2 where the tensor before it ends"},
      {R"({"__metadata__":{"a":1}})", 0, "__metadata__: found the number 1; wanted strings"},
      {R"({"__metadata__":{"a":"1","a":"2"}})", 0, "__metadata__: a key of __metadata__ is repeated; wanted strings"},
      {R"({"a":[1]})", 0, "the header: found an array; wanted an object of tensors"},
      {R"({"a":{"dtype":"F32")", 0, "the header is not valid JSON at byte 20"},
      {"{\"\xff\":{}}", 0, "the header is not valid JSON at byte 3"},
      {"[]", 0, "not a safetensors file: the header does not start with '{'"},
  };
  for (const auto& c : cases) EXPECT_EQ(error_of(c.header, c.data), c.message) << c.header;
}

TEST(Safetensors, BoundsHeaderAndNesting) {
  auto file = file_of("{}", 0);
  const uint64_t length = kMaxHeaderBytes + 1;
  std::memcpy(file.data(), &length, 8);
  EXPECT_EQ(parse(file).error().message, "not a safetensors file: a header of 100000001 bytes, the limit is 100000000");
  EXPECT_NE(error_of(R"({"a":)" + std::string(1000000, '['), 0).find("found an array"), std::string::npos);
}

TEST(Safetensors, RecognizesOtherFiles) {
  const auto message_of = [](std::string_view text) {
    const auto contents = parse(std::as_bytes(std::span(text.data(), text.size())));
    return contents ? std::string() : contents.error().message;
  };
  EXPECT_NE(message_of("version https://git-lfs.github.com/spec/v1\noid sha256:00").find("git-lfs"), std::string::npos);
  EXPECT_NE(message_of("<!DOCTYPE html><html>").find("HTML"), std::string::npos);
  EXPECT_NE(message_of("GGUF\x03").find("GGUF"), std::string::npos);
  EXPECT_NE(message_of(std::string_view("PK\x03\x04\0\0\0\0\0", 9)).find("ZIP"), std::string::npos);
  EXPECT_NE(message_of("\x80\x02}q\x01.......").find("pickle"), std::string::npos);
  EXPECT_EQ(message_of(""), "not a safetensors file: truncated at offset 0: 8 bytes wanted, 0 left");
}

// Cut anywhere or damaged anywhere in its header, a file is read or refused.
TEST(Safetensors, SurvivesTruncationAndDamage) {
  const auto good = file_of(kGood, 28);
  for (size_t length = 0; length < good.size(); ++length) {
    const std::vector<std::byte> cut(good.begin(), good.begin() + static_cast<long>(length));
    EXPECT_FALSE(parse(cut)) << length;
  }
  for (size_t at = 0; at < good.size() - 28; ++at) {
    for (int value = 0; value < 256; ++value) {
      auto damaged = good;
      damaged[at] = static_cast<std::byte>(value);
      const auto contents = parse(damaged);
      if (!contents) {
        EXPECT_EQ(contents.error().code, Code::kBadData);
      }
    }
  }
}

TEST(Safetensors, WritesWhatItReads) {
  const std::string path = testing::TempDir() + "/safetensors_test." + std::to_string(getpid());
  std::vector<Tensor> tensors(2);
  tensors[0].name = "z\"\n";
  tensors[0].dtype = DType::kF16;
  tensors[0].shape = {1, 3};
  tensors[1].name = "a";
  tensors[1].dtype = DType::kF32;
  const std::vector<std::byte> data(10, std::byte{7});
  const auto write = [&] {
    auto writer = Writer::create(path, tensors, {{"source", "test"}});
    ASSERT_TRUE(writer) << writer.error().message;
    ASSERT_TRUE(writer->append(std::span(data).first(4)));
    EXPECT_FALSE(std::ifstream(path).good()) << "visible before commit";
    ASSERT_TRUE(writer->append(std::span(data).subspan(4)));
    EXPECT_FALSE(writer->append(std::span(data).first(1)));
    ASSERT_TRUE(writer->commit());
  };
  write();
  const auto first = MappedFile::open(path);
  ASSERT_TRUE(first);
  const auto contents = parse(first->bytes());
  ASSERT_TRUE(contents) << contents.error().message;
  ASSERT_EQ(contents->tensors.size(), 2u);
  EXPECT_EQ(contents->tensors[0].name, "z\"\n");
  EXPECT_EQ(contents->tensors[0].size, 6u);
  EXPECT_EQ(contents->tensors[1].size, 4u);
  EXPECT_EQ(contents->tensors[0].offset % 8, 0u);
  EXPECT_EQ(contents->metadata.at("source"), "test");
  unlink(path.c_str());
}

TEST(Safetensors, WriterRefusesRepeatedNamesAndShortData) {
  const std::string path = testing::TempDir() + "/safetensors_test_short." + std::to_string(getpid());
  std::vector<Tensor> tensors(2);
  EXPECT_EQ(Writer::create(path, tensors).error().code, Code::kUsage);
  tensors.resize(1);
  auto writer = Writer::create(path, tensors);
  ASSERT_TRUE(writer);
  EXPECT_EQ(writer->commit().error().code, Code::kInternal);
}

}  // namespace
}  // namespace ll::safetensors
