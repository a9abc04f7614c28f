// Tokenizers of GGUF files: real vocabularies and models of ../shared, and small files made here.
#include "compiler/frontend/tokenizer_gguf.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "compiler/frontend/small_files.h"
#include "compiler/frontend/tokenizer_pre.h"
#include "compiler/frontend/tokenizer_regex.h"
#include "runtime/base/mapped_file.h"
#include "runtime/text/pre_tokenizer.h"
#include "runtime/text/tokenizer.h"
#include "tests/files.h"

namespace ll {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

Result<std::optional<TokenizerSpec>> spec_of(std::string_view file) {
  TRY_ASSIGN(const gguf::File parsed, gguf::parse(as_bytes(file)));
  return tokenizer_from_gguf(parsed.metadata);
}

// Through a plan's section, as a plan would carry it.
Result<Tokenizer> tokenizer_of(std::string_view file) {
  TRY_ASSIGN(std::optional<TokenizerSpec> spec, spec_of(file));
  if (!spec) return unsupported("no tokenizer");
  const std::string section = serialize_tokenizer(*spec);
  TRY_ASSIGN(TokenizerSpec again, deserialize_tokenizer(as_bytes(section)));
  return Tokenizer::create(std::move(again));
}

Ids encode(const Tokenizer& tokenizer, std::string_view text, EncodeOptions options = {}) {
  auto ids = tokenizer.encode(text, options);
  EXPECT_TRUE(ids) << (ids ? "" : ids.error().message);
  return ids ? *std::move(ids) : Ids();
}

// llama.cpp's test files: texts between separator lines, ids line by line. Made without special tokens around or
// within.
TEST(TokenizerGguf, AgreesWithLlamaCpp) {
  const char* folder = std::getenv("LLCUDA_VOCABS");
  const std::filesystem::path vocabs =
      folder != nullptr ? std::filesystem::path(folder) : test_files::shared_folder() / "vocabs";
  if (!std::filesystem::exists(vocabs)) GTEST_SKIP() << vocabs << " is absent";
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  size_t checked = 0;
  for (const auto& entry : std::filesystem::directory_iterator(vocabs)) {
    const std::string path = entry.path();
    if (!path.ends_with(".gguf") || !std::filesystem::exists(path + ".inp")) continue;
    SCOPED_TRACE(path);
    auto file = MappedFile::open(path);
    ASSERT_TRUE(file) << file.error().message;
    auto tokenizer = tokenizer_of({reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()});
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    const std::string texts = test_files::read_file(path + ".inp");
    std::istringstream expected(test_files::read_file(path + ".out"));
    std::string line;
    for (size_t from = 0; std::getline(expected, line);) {
      const size_t end = std::min(texts.find(kSeparator, from), texts.size());
      const std::string text = texts.substr(from, end - from);
      from = std::min(end + kSeparator.size(), texts.size());
      std::istringstream numbers(line);
      const Ids ids{std::istream_iterator<int32_t>(numbers), {}};
      EXPECT_EQ(json(encode(*tokenizer, text)).dump(), json(ids).dump()) << json(text);
      EXPECT_EQ(tokenizer->decode(ids), text);
      ++checked;
    }
  }
  EXPECT_GE(checked, 5u * 40u);
}

TEST(TokenizerGguf, AgreesWithTheModelsReferences) {
  const auto models = test_files::shared_folder() / "models";
  if (!std::filesystem::exists(models)) GTEST_SKIP() << models << " is absent";
  size_t files = 0;
  for (const char* name : {"kjv-7m", "kjv-1m-draft"}) {
    const json reference = json::parse(test_files::read_file(models / name / "reference.json"));
    if (!std::filesystem::exists(models / name / "gguf")) continue;
    for (const auto& entry : std::filesystem::directory_iterator(models / name / "gguf")) {
      if (entry.path().extension() != ".gguf") continue;
      SCOPED_TRACE(entry.path());
      auto file = MappedFile::open(entry.path());
      ASSERT_TRUE(file) << file.error().message;
      auto tokenizer = tokenizer_of({reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()});
      ASSERT_TRUE(tokenizer) << tokenizer.error().message;
      for (const json& c : reference["tokenize"]) {
        const auto text = c["text"].get<std::string>();
        EXPECT_EQ(json(encode(*tokenizer, text, {.parse_special = true})).dump(), c["ids"].dump());
        EXPECT_EQ(json(encode(*tokenizer, text, {.add_special = true, .parse_special = true})).dump(),
                  c["ids_with_special"].dump());
        EXPECT_EQ(tokenizer->decode(c["ids"].get<Ids>(), {.show_special = true}), c["decoded"].get<std::string>());
      }
      ++files;
    }
  }
  EXPECT_GT(files, 0u);
}

TEST(TokenizerPre, EveryRowMakesAPreTokenizerWithoutQuadraticWork) {
  const std::string names = pre_tokenizer_names();
  std::set<const PreTokenizerRow*> rows;
  std::istringstream list(names);
  for (std::string name; std::getline(list, name, ',');) {
    if (name.starts_with(' ')) name.erase(0, 1);
    const PreTokenizerRow* row = find_pre_tokenizer(name);
    ASSERT_NE(row, nullptr) << name;
    rows.insert(row);
  }
  EXPECT_GE(rows.size(), 25u);
  EXPECT_EQ(find_pre_tokenizer("llama"), nullptr);
  EXPECT_EQ(find_pre_tokenizer(""), nullptr);
  for (const PreTokenizerRow* row : rows) {
    SCOPED_TRACE(row->names);
    std::vector<PreTokenizerStep> steps;
    for (const std::string_view step : row->steps) {
      if (step.empty() || step.starts_with("digit groups")) continue;
      auto pattern = regex_to_pcre2(step);
      ASSERT_TRUE(pattern) << pattern.error().message;
      steps.push_back({.kind = PreTokenizerStep::Kind::kSplitRegex, .pattern = *pattern});
    }
    auto pre_tokenizer = PreTokenizer::create(steps);
    ASSERT_TRUE(pre_tokenizer) << pre_tokenizer.error().message;
    for (const std::string_view unit : {" ", "\n", "a", "A", "1", "!", "'s", "\xE6\xBC\xA2", "\xCC\x81", "a ", "<"}) {
      Pieces pieces;
      while (pieces.text.size() < 20000) pieces.text += unit;
      pieces.text += "x";
      pieces.spans.push_back({0, static_cast<uint32_t>(pieces.text.size())});
      RegexRun run(pieces.text.size());  // its budget is linear in the text
      const Status status = pre_tokenizer->apply(pieces, run);
      EXPECT_TRUE(status) << status.error().message;
      uint32_t covered = 0;
      for (const TextSpan s : pieces.spans) {
        EXPECT_EQ(s.begin, covered);
        covered = s.end;
      }
      EXPECT_EQ(covered, pieces.text.size());
    }
  }
}

// Tokens of a byte-level vocabulary: single letters, "he", "ll", "hell", "<s>" (control), "<u>" (user defined).
GgufBuilder small_bpe(const std::string& pre) {
  GgufBuilder file;
  file.string("general.architecture", "llama")
      .string("tokenizer.ggml.model", "gpt2")
      .string("tokenizer.ggml.pre", pre)
      .strings("tokenizer.ggml.tokens", {"h", "e", "l", "o", "\xC4\xA0", "he", "ll", "hell", "<s>", "<u>", "</s>", "1"})
      .i32s("tokenizer.ggml.token_type", {1, 1, 1, 1, 1, 1, 1, 1, 3, 4, 3, 1})
      .strings("tokenizer.ggml.merges", {"h e", "l l", "he ll", "q q"})
      .u32("tokenizer.ggml.bos_token_id", 8)
      .u32("tokenizer.ggml.eos_token_id", 10);
  return file;
}

TEST(TokenizerGguf, ReadsByteLevelBpe) {
  auto tokenizer = tokenizer_of(small_bpe("gpt-2").build());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(encode(*tokenizer, "hello he"), (Ids{7, 3, 4, 5}));
  EXPECT_EQ(encode(*tokenizer, "xhex"), (Ids{5}));  // letters without a token leave nothing
  EXPECT_EQ(encode(*tokenizer, "<u>he<s>l"), (Ids{9, 5, 2}));
  EXPECT_EQ(encode(*tokenizer, "<u>he<s>l", {.parse_special = true}), (Ids{9, 5, 8, 2}));
  EXPECT_EQ(encode(*tokenizer, "he", {.add_special = true}), (Ids{5}));
  EXPECT_EQ(tokenizer->decode(Ids{8, 7, 3, 4, 9, 99, -1}), "hello <u>");
  EXPECT_EQ(tokenizer->decode(Ids{8, 7, 3}, {.show_special = true}), "<s>hello");
  EXPECT_EQ(tokenizer->spec().end_ids, (Ids{10}));
  EXPECT_EQ(tokenizer->spec().prefix, Ids{});
}

TEST(TokenizerGguf, RowsSetDefaultsThatTheFileOverrides) {
  auto llama3 = tokenizer_of(small_bpe("llama-bpe").build());
  ASSERT_TRUE(llama3) << llama3.error().message;
  EXPECT_EQ(encode(*llama3, "he", {.add_special = true}), (Ids{8, 5}));
  EXPECT_TRUE(llama3->spec().ignore_merges);
  auto without = tokenizer_of(small_bpe("llama-bpe")
                                  .boolean("tokenizer.ggml.add_bos_token", false)
                                  .boolean("tokenizer.ggml.add_eos_token", true)
                                  .build());
  ASSERT_TRUE(without) << without.error().message;
  EXPECT_EQ(encode(*without, "he", {.add_special = true}), (Ids{5, 10}));
  auto unnamed = tokenizer_of(small_bpe("").build());
  ASSERT_TRUE(unnamed) << unnamed.error().message;
  EXPECT_EQ(encode(*unnamed, "hello"), (Ids{7, 3}));
  auto glm = spec_of(small_bpe("chatglm-bpe").erase("tokenizer.ggml.bos_token_id").build());
  ASSERT_TRUE(glm);
  EXPECT_EQ((*glm)->bos_id, -1);
}

TEST(TokenizerGguf, GroupsDigitsFromTheEnd) {
  auto groups = tokenizer_of(
      small_bpe("superbpe")
          .strings("tokenizer.ggml.merges", {"1 1", "11 1", "111 1"})
          .strings("tokenizer.ggml.tokens", {"h", "e", "l", "o", "a", "1", "11", "111", "1111", "b", "c", "d"})
          .i32s("tokenizer.ggml.token_type", {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1})
          .build());
  ASSERT_TRUE(groups) << groups.error().message;
  EXPECT_EQ(encode(*groups, "11111"), (Ids{6, 7}));
  EXPECT_EQ(encode(*groups, "111"), (Ids{7}));
  EXPECT_EQ(encode(*groups, "h1111e"), (Ids{0, 5, 7, 1}));
}

TEST(TokenizerGguf, ReadsGemma4) {
  GgufBuilder file;
  file.string("tokenizer.ggml.model", "gemma4")
      .strings("tokenizer.ggml.tokens", {"<bos>", "a", "b", "\xE2\x96\x81",
                                         "\xE2\x96\x81"
                                         "a",
                                         "<0xC3>", "<0xA9>", "\n", "\n\n"})
      .i32s("tokenizer.ggml.token_type", {3, 1, 1, 1, 1, 6, 6, 1, 1})
      .strings("tokenizer.ggml.merges", {"\xE2\x96\x81 a"})
      .u32("tokenizer.ggml.bos_token_id", 0)
      .boolean("tokenizer.ggml.add_bos_token", false);
  auto tokenizer = tokenizer_of(file.build());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(encode(*tokenizer, "a a\xC3\xA9\n\nb\n", {.add_special = true}), (Ids{0, 1, 4, 5, 6, 8, 2, 7}));
  EXPECT_EQ(tokenizer->decode(Ids{0, 4, 5, 6, 8, 2}), " a\xC3\xA9\n\nb");
}

GgufBuilder small_spm() {
  GgufBuilder file;
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {2, 3, 3};
  for (int b = 0; b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(b));
    tokens.emplace_back(name);
    types.push_back(6);
  }
  for (const char* text : {"\xE2\x96\x81", "a", "b", "ab",
                           "\xE2\x96\x81"
                           "a",
                           "aa", "aaaa"}) {
    tokens.emplace_back(text);
    types.push_back(1);
  }
  std::string scores = GgufBuilder::type(gguf::ValueType::kArray) + GgufBuilder::type(gguf::ValueType::kF32) +
                       GgufBuilder::bytes(uint64_t{tokens.size()});
  for (size_t i = 0; i < tokens.size(); ++i) scores += GgufBuilder::bytes(i < 259 ? 0.0F : -static_cast<float>(i));
  file.string("tokenizer.ggml.model", "llama")
      .strings("tokenizer.ggml.tokens", tokens)
      .i32s("tokenizer.ggml.token_type", types)
      .raw("tokenizer.ggml.scores", scores);
  return file;
}

TEST(TokenizerGguf, ReadsSentencePieceBpe) {
  auto tokenizer = tokenizer_of(small_spm().build());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(encode(*tokenizer, "ab", {.add_special = true}), (Ids{1, 259, 262}));
  EXPECT_EQ(encode(*tokenizer, "a b"), (Ids{263, 259, 261}));
  EXPECT_EQ(encode(*tokenizer, ""), Ids{});
  EXPECT_EQ(encode(*tokenizer, "\xC3\xA9"), (Ids{259, 3 + 0xC3, 3 + 0xA9}));
  EXPECT_EQ(encode(*tokenizer, "\xFF"), (Ids{259, 3 + 0xFF}));  // no UTF-8: bytes all the same
  EXPECT_EQ(encode(*tokenizer, "a<s>a", {.parse_special = true}), (Ids{263, 1, 263}));
  EXPECT_EQ(tokenizer->decode(Ids{1, 263, 259, 261, 3 + 0xC3, 3 + 0xA9}), "a b\xC3\xA9");
  EXPECT_EQ(tokenizer->decode(Ids{263}, {.continues = true}), " a");
  auto bare = tokenizer_of(small_spm().boolean("tokenizer.ggml.add_space_prefix", false).build());
  ASSERT_TRUE(bare) << bare.error().message;
  EXPECT_EQ(encode(*bare, "ab"), (Ids{262}));
  EXPECT_EQ(bare->decode(Ids{263}), " a");
}

TEST(TokenizerGguf, PhiTokensTakeWhiteSpaceAlong) {
  auto file = small_spm();
  auto plain = tokenizer_of(file.build());
  auto phi = tokenizer_of(file.string("general.name", "Phi-3 mini").build());
  ASSERT_TRUE(plain);
  ASSERT_TRUE(phi);
  EXPECT_EQ(encode(*plain, "</s> a", {.parse_special = true}), (Ids{2, 259, 263}));
  EXPECT_EQ(encode(*phi, "</s> a", {.parse_special = true}), (Ids{2, 263}));
  EXPECT_EQ(encode(*phi, "<s> a", {.parse_special = true}), (Ids{1, 259, 263}));
}

TEST(TokenizerGguf, ReadsUnigram) {
  GgufBuilder file;
  const std::vector<std::string> tokens = {"<pad>",
                                           "</s>",
                                           "<unk>",
                                           "\xE2\x96\x81",
                                           "\xE2\x96\x81"
                                           "a",
                                           "a",
                                           "b",
                                           "ab"};
  std::string scores = GgufBuilder::type(gguf::ValueType::kArray) + GgufBuilder::type(gguf::ValueType::kF32) +
                       GgufBuilder::bytes(uint64_t{8});
  for (const float score : {0.0F, 0.0F, 0.0F, -2.0F, -3.0F, -2.5F, -2.5F, -4.0F}) scores += GgufBuilder::bytes(score);
  file.string("tokenizer.ggml.model", "t5")
      .strings("tokenizer.ggml.tokens", tokens)
      .i32s("tokenizer.ggml.token_type", {3, 3, 2, 1, 1, 1, 1, 1})
      .raw("tokenizer.ggml.scores", scores)
      .boolean("tokenizer.ggml.add_space_prefix", true)
      .boolean("tokenizer.ggml.remove_extra_whitespaces", true);
  auto tokenizer = tokenizer_of(file.build());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(encode(*tokenizer, "ab  a ", {.add_special = true}), (Ids{4, 6, 4, 1}));  // -5.5 beats -6
  EXPECT_EQ(encode(*tokenizer, "zzb"), (Ids{3, 2, 6}));                               // one <unk> for both
  EXPECT_EQ(tokenizer->decode(Ids{4, 6, 4, 1}), "ab a");
}

TEST(TokenizerGguf, RefusesWhatItDoesNotKnow) {
  const auto none = [](GgufBuilder file) {
    auto spec = spec_of(file.build());
    return spec && !*spec;
  };
  EXPECT_TRUE(none(GgufBuilder().string("general.architecture", "llama")));
  EXPECT_TRUE(none(GgufBuilder().string("tokenizer.ggml.model", "no_vocab")));
  EXPECT_TRUE(none(GgufBuilder().string("tokenizer.ggml.model", "none")));

  const auto refusal = [](GgufBuilder file, Code code) {
    const auto spec = spec_of(file.build());
    EXPECT_FALSE(spec);
    if (spec) return std::string();
    EXPECT_EQ(spec.error().code, code) << spec.error().message;
    return spec.error().message;
  };
  EXPECT_NE(
      refusal(small_bpe("nonesuch"), Code::kUnsupported).find("'nonesuch' is unknown, expected one of: a.x-4.0, "),
      std::string::npos);
  for (const char* model : {"bert", "rwkv", "plamo2"}) {
    EXPECT_NE(refusal(small_bpe("gpt-2").string("tokenizer.ggml.model", model), Code::kUnsupported).find(model),
              std::string::npos);
  }
  EXPECT_NE(refusal(small_bpe("gpt-2").erase("tokenizer.ggml.merges"), Code::kBadData).find("merges"),
            std::string::npos);
  EXPECT_NE(refusal(small_bpe("gpt-2").erase("tokenizer.ggml.tokens"), Code::kBadData).find("tokens"),
            std::string::npos);
  EXPECT_NE(refusal(small_bpe("gpt-2").strings("tokenizer.ggml.tokens", {}), Code::kBadData).find("0 tokens"),
            std::string::npos);
  EXPECT_NE(refusal(small_bpe("gpt-2").i32s("tokenizer.ggml.token_type", {1}), Code::kBadData).find("token_type"),
            std::string::npos);
  EXPECT_NE(refusal(small_bpe("gpt-2").u32("tokenizer.ggml.merges", 1), Code::kBadData).find("merges"),
            std::string::npos);
  EXPECT_NE(refusal(small_bpe("gpt-2").u32("tokenizer.ggml.model", 1), Code::kBadData).find("model"),
            std::string::npos);
  EXPECT_NE(refusal(small_spm()
                        .erase("tokenizer.ggml.scores")
                        .raw("tokenizer.ggml.scores", GgufBuilder::type(gguf::ValueType::kArray) +
                                                          GgufBuilder::type(gguf::ValueType::kF32) +
                                                          GgufBuilder::bytes(uint64_t{1}) + GgufBuilder::bytes(1.0F)),
                    Code::kBadData)
                .find("scores"),
            std::string::npos);
}

// Ids outside the vocabulary count as absent, as in llama.cpp.
TEST(TokenizerGguf, IgnoresSpecialIdsOutsideTheVocabulary) {
  auto spec = spec_of(small_bpe("llama-bpe")
                          .u32("tokenizer.ggml.bos_token_id", 4000)
                          .u32("tokenizer.ggml.eos_token_id", 0xFFFFFFFF)
                          .build());
  ASSERT_TRUE(spec) << spec.error().message;
  EXPECT_EQ((*spec)->bos_id, 11);  // gpt2's default
  EXPECT_EQ((*spec)->eos_id, 11);
}

}  // namespace
}  // namespace ll
