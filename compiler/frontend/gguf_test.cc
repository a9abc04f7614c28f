#include "compiler/frontend/gguf.h"

#include <gtest/gtest.h>

#include <cmath>

#include "compiler/frontend/small_files.h"

namespace ll::gguf {
namespace {

std::string error_of(const std::string& file, Code code = Code::kBadData) {
  const auto parsed = parse(as_bytes(file));
  if (parsed) return "no error";
  EXPECT_EQ(parsed.error().code, code) << parsed.error().message;
  return parsed.error().message;
}
std::string error_of(const GgufBuilder& file, Code code = Code::kBadData) { return error_of(file.build(), code); }

TEST(Gguf, ReadsEveryTypeOfValue) {
  GgufBuilder b;
  const auto scalar = [&](ValueType type, std::string value) {
    b.raw(std::string(value_type_name(type)), GgufBuilder::type(type) + value);
  };
  scalar(ValueType::kU8, "\xff");
  scalar(ValueType::kI8, "\xff");
  scalar(ValueType::kU16, "\xff\xff");
  scalar(ValueType::kI16, "\xff\xff");
  scalar(ValueType::kU32, "\xff\xff\xff\xff");
  scalar(ValueType::kI32, "\xff\xff\xff\xff");
  scalar(ValueType::kU64, std::string(8, '\xff'));
  scalar(ValueType::kI64, std::string(8, '\xff'));
  scalar(ValueType::kF32, GgufBuilder::bytes(0.5f));
  scalar(ValueType::kF64, GgufBuilder::bytes(0.25));
  scalar(ValueType::kBool, "\x01");
  scalar(ValueType::kString, GgufBuilder::text("hi"));
  b.i32s("numbers", {1, -2, 3}).strings("texts", {"a", "", "ccc"}).strings("none", {});
  const std::string file = b.build();
  const auto parsed = parse(as_bytes(file));
  ASSERT_TRUE(parsed) << parsed.error().message;
  const Metadata& m = parsed->metadata;
  EXPECT_EQ(m.find("u8")->integer(), 255);
  EXPECT_EQ(m.find("i8")->integer(), -1);
  EXPECT_EQ(m.find("u16")->integer(), 65535);
  EXPECT_EQ(m.find("i16")->integer(), -1);
  EXPECT_EQ(m.find("u32")->integer(), 4294967295);
  EXPECT_EQ(m.find("i32")->integer(), -1);
  EXPECT_EQ(m.find("u64")->integer(), std::nullopt);
  EXPECT_EQ(m.find("i64")->integer(), -1);
  EXPECT_EQ(m.find("f32")->number(), 0.5);
  EXPECT_EQ(m.find("f64")->number(), 0.25);
  EXPECT_EQ(m.find("bool")->boolean(), true);
  EXPECT_EQ(m.find("string")->text(), "hi");
  EXPECT_EQ(*m.get_i32s("numbers", -2, 3), (std::vector<int32_t>{1, -2, 3}));
  EXPECT_EQ(*m.get_texts("texts"), (std::vector<std::string_view>{"a", "", "ccc"}));
  EXPECT_TRUE(m.get_texts("none")->empty());
  EXPECT_EQ(m.find("numbers")->integer(3), std::nullopt);
  EXPECT_EQ(m.find("none")->text(), std::nullopt);
  EXPECT_EQ(m.find("texts")->describe(), "string[3]");
  EXPECT_EQ(m.find("absent"), nullptr);
}

TEST(Gguf, GettersNameKeyAndTypes) {
  const std::string file =
      GgufBuilder().u32("n", 7).f32("f", 2).string("s", "x").i32s("a", {1}).boolean("b", true).f32("nan", NAN).build();
  const auto parsed = parse(as_bytes(file));
  ASSERT_TRUE(parsed);
  const Metadata& m = parsed->metadata;
  EXPECT_EQ(*m.get_u32("n", 1, 7), 7u);
  EXPECT_EQ(*m.get_u32("absent", 1, 7, 3), 3u);
  EXPECT_EQ(m.get_u32("n", 8, 9).error().message, "'n' is 7, expected an integer from 8 to 9");
  EXPECT_EQ(m.get_u32("absent", 1, 7).error().message, "'absent' is missing, expected an integer from 1 to 7");
  EXPECT_EQ(m.get_u32("f", 1, 7).error().message, "'f' is f32, expected an integer from 1 to 7");
  EXPECT_EQ(m.get_u32("a", 1, 7).error().message, "'a' is i32[1], expected an integer from 1 to 7");
  EXPECT_EQ(m.get_number("s", 0, 1).error().message, "'s' is string, expected a number from 0 to 1");
  EXPECT_EQ(m.get_number("f", 0, 1).error().message, "'f' is 2, expected a number from 0 to 1");
  EXPECT_FALSE(m.get_number("nan", 0, 1));
  EXPECT_EQ(m.get_bool("n", false).error().message, "'n' is u32, expected a bool");
  EXPECT_EQ(*m.get_bool("b", false), true);
  EXPECT_EQ(m.get_text("n").error().message, "'n' is u32, expected a string");
  EXPECT_EQ(m.get_texts("a").error().message, "'a' is i32[1], expected an array of strings");
  EXPECT_EQ(m.get_i32s("a", 2, 3).error().message, "'a'[0] is 1, expected an array of integers from 2 to 3");
  EXPECT_EQ(m.get_floats("a").error().message, "'a' is i32[1], expected an array of numbers");
}

TEST(Gguf, FindsTensors) {
  for (const uint32_t version : {2u, 3u}) {
    GgufBuilder b = small_llama();
    b.version = version;
    const std::string file = b.build();
    const auto parsed = parse(as_bytes(file));
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->version, version);
    ASSERT_EQ(parsed->tensors.size(), b.tensors.size());
    for (size_t i = 0; i < b.tensors.size(); ++i) {
      EXPECT_EQ(parsed->tensors[i].name, b.tensors[i].name);
      const auto data = parsed->data(parsed->tensors[i]);
      ASSERT_EQ(data.size(), b.tensors[i].data.size());
      EXPECT_EQ(std::memcmp(data.data(), b.tensors[i].data.data(), data.size()), 0);
    }
  }
}

TEST(Gguf, ListsUnknownTypes) {
  GgufBuilder b;
  b.tensor("known", {32}).tensor("unknown", {32});
  b.tensors[1].type = 9999;
  const std::string file = b.build();
  const auto parsed = parse(as_bytes(file));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->tensors[1].type, 9999u);
  EXPECT_EQ(parsed->tensors[1].size, std::nullopt);
}

TEST(Gguf, HoldsItsAlignment) {
  GgufBuilder b = small_llama();
  b.alignment = 64;
  EXPECT_TRUE(parse(as_bytes(b.u32("general.alignment", 64).build())));
  b.alignment = 32;
  EXPECT_NE(error_of(b).find("is no multiple of the alignment 64"), std::string::npos);
  EXPECT_EQ(error_of(b.u32("general.alignment", 0)), "'general.alignment' is 0, expected an integer from 8 to 65536");
  EXPECT_EQ(error_of(b.u32("general.alignment", 0x80000000u)),
            "'general.alignment' is 2147483648, expected an integer from 8 to 65536");
  EXPECT_EQ(error_of(b.u32("general.alignment", 48)), "'general.alignment' is 48, expected a power of two");
  EXPECT_EQ(error_of(b.f32("general.alignment", 32)),
            "'general.alignment' is f32, expected an integer from 8 to 65536");
  EXPECT_EQ(error_of(b.i32s("general.alignment", {})),
            "'general.alignment' is i32[0], expected an integer from 8 to 65536");
}

TEST(Gguf, RefusesWhatIsMalformed) {
  const auto with_tensor = [](std::vector<uint64_t> dims, uint32_t type = 0) {
    GgufBuilder b;
    b.tensors.push_back({"t", std::move(dims), type, std::string(128, '\0')});
    return b;
  };
  EXPECT_EQ(error_of(with_tensor({})), "tensor 0 of 1: tensor 't': 0 dimensions, expected 1 to 4");
  EXPECT_EQ(error_of(with_tensor({1, 1, 1, 1, 1})), "tensor 0 of 1: tensor 't': 5 dimensions, expected 1 to 4");
  EXPECT_EQ(error_of(with_tensor({32, 0})), "tensor 0 of 1: tensor 't': dimension 1 is 0, expected at least 1");
  EXPECT_NE(error_of(with_tensor({uint64_t{1} << 62, 4})).find("more elements than the limit"), std::string::npos);
  EXPECT_NE(error_of(with_tensor({(uint64_t{1} << 62) - 1})).find("more elements than the limit"), std::string::npos);
  EXPECT_EQ(error_of(with_tensor({33}, 2)),
            "tensor 0 of 1: tensor 't': rows of 33 elements, q4_0 needs a multiple of 32");
  EXPECT_EQ(error_of(with_tensor({64})), "tensor 't': 256 bytes at 64 lie beyond the end of the file (192 bytes)");
  EXPECT_EQ(error_of(GgufBuilder().tensor("a", {1}).tensor("a", {1})), "tensor 'a' is repeated");
  EXPECT_EQ(error_of(GgufBuilder().tensor("", {1})), "tensor 0 of 1: a tensor has an empty name");
  EXPECT_EQ(error_of(GgufBuilder().tensor(std::string(256, 'n'), {1})),
            "tensor 0 of 1: a string of 256 bytes, the limit is 255");

  GgufBuilder twice = GgufBuilder().u32("k", 1);
  twice.pairs.push_back(twice.pairs[0]);
  EXPECT_EQ(error_of(twice), "metadata key 'k' is repeated");
  EXPECT_EQ(error_of(GgufBuilder().raw("k", GgufBuilder::bytes(13u))), "'k': value type is 13, expected 0 to 12");
  EXPECT_EQ(error_of(GgufBuilder().raw("k", GgufBuilder::type(ValueType::kBool) + "\x02")),
            "'k': a bool is 2, expected 0 or 1");
  EXPECT_EQ(
      error_of(GgufBuilder().raw("k", GgufBuilder::type(ValueType::kArray) + GgufBuilder::type(ValueType::kArray) +
                                          GgufBuilder::bytes(uint64_t{1}))),
      "'k': an array of arrays, which is not supported");
  EXPECT_EQ(error_of(GgufBuilder().raw("k", GgufBuilder::type(ValueType::kArray) + GgufBuilder::type(ValueType::kU8) +
                                                GgufBuilder::bytes(kMaxArrayElements + 1))),
            "'k': an array of 16777217 elements, the limit is 16777216");
  EXPECT_NE(error_of(GgufBuilder().raw("k", GgufBuilder::type(ValueType::kArray) + GgufBuilder::type(ValueType::kF64) +
                                                GgufBuilder::bytes(kMaxArrayElements)))
                .find("truncated"),
            std::string::npos);
  EXPECT_EQ(error_of(GgufBuilder().raw("k", GgufBuilder::type(ValueType::kString) + GgufBuilder::bytes(~uint64_t{0}))),
            "'k': a string of 18446744073709551615 bytes, the limit is 16777216");
  EXPECT_EQ(error_of(GgufBuilder().u32(std::string(70000, 'k'), 1)),
            "metadata key 0 of 1: a string of 70000 bytes, the limit is 65535");

  std::string counts = GgufBuilder().build();
  counts.replace(8, 16, GgufBuilder::bytes(kMaxTensors + 1) + GgufBuilder::bytes(uint64_t{0}));
  EXPECT_EQ(error_of(counts), "262145 tensors, the limit is 262144");
  counts.replace(8, 16, GgufBuilder::bytes(uint64_t{0}) + GgufBuilder::bytes(~uint64_t{0}));
  EXPECT_EQ(error_of(counts), "18446744073709551615 metadata keys, the limit is 65536");
  counts.replace(8, 16, GgufBuilder::bytes(kMaxTensors) + GgufBuilder::bytes(kMaxKeys));
  EXPECT_EQ(error_of(counts), "truncated: 65536 metadata keys and 262144 tensors in 0 bytes");
}

TEST(Gguf, RefusesOverlaps) {
  std::string file = GgufBuilder().tensor("first", {16}).tensor("second", {16}).build();
  const size_t second = file.find("second") + 6 + 4 + 8 + 4;
  file.replace(second, 8, GgufBuilder::bytes(uint64_t{32}));
  EXPECT_NE(error_of(file).find("tensors 'first' and 'second' overlap"), std::string::npos);
  file.replace(second, 8, GgufBuilder::bytes(uint64_t{0}));
  EXPECT_NE(error_of(file).find("overlap"), std::string::npos);
  file.replace(second, 8, GgufBuilder::bytes(~uint64_t{31}));
  EXPECT_NE(error_of(file).find("beyond the end"), std::string::npos);
}

TEST(Gguf, NamesOtherFiles) {
  GgufBuilder b = small_llama();
  b.version = 1;
  EXPECT_NE(error_of(b, Code::kUnsupported).find("version 1"), std::string::npos);
  b.version = 4;
  EXPECT_EQ(error_of(b, Code::kUnsupported), "GGUF version 4, expected 2 or 3");
  b.version = 0x03000000;
  EXPECT_NE(error_of(b, Code::kUnsupported).find("big-endian"), std::string::npos);
  EXPECT_NE(error_of("version https://git-lfs.github.com/spec/v1\n").find("git-lfs"), std::string::npos);
  EXPECT_NE(error_of("  <html>").find("HTML"), std::string::npos);
  EXPECT_NE(error_of("PK\x03\x04").find("ZIP"), std::string::npos);
  EXPECT_NE(error_of("\x80\x02X").find("pickle"), std::string::npos);
  EXPECT_NE(error_of("tjgg").find("before GGUF"), std::string::npos);
  EXPECT_EQ(error_of(""), "not a GGUF file: it starts with '', expected 'GGUF'");
  EXPECT_EQ(error_of("\x01GG"), "not a GGUF file: it starts with '\\x01GG', expected 'GGUF'");
}

// Keys are compared by sorting: a file full of them takes milliseconds, not minutes.
TEST(Gguf, ReadsAsManyKeysAsAreAllowed) {
  GgufBuilder b;
  for (uint64_t i = 0; i < kMaxKeys; ++i) {
    b.pairs.emplace_back("key" + std::to_string(i), GgufBuilder::type(ValueType::kU8) + "\x01");
  }
  const std::string file = b.build();
  const auto parsed = parse(as_bytes(file));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(*parsed->metadata.get_u32("key65535", 0, 1), 1u);
}

}  // namespace
}  // namespace ll::gguf
