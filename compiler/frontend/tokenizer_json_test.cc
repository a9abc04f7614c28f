// tokenizer.json against what Hugging Face's tokenizers makes of it: fixtures of tests/oracle/tokenizers_fixtures.py,
// and the models of
// ../shared. LLCUDA_TOKENIZER_FIXTURES names another folder of fixtures.
#include "compiler/frontend/tokenizer_json.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/text/detokenizer.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"
#include "tests/files.h"

namespace ll {
namespace {

using nlohmann::json;

std::filesystem::path fixtures() {
  const char* other = std::getenv("LLCUDA_TOKENIZER_FIXTURES");
  return other != nullptr ? other : LLCUDA_SOURCE_DIR "/tests/data/tokenizers";
}

std::string printed(const std::vector<int32_t>& ids) { return json(ids).dump(); }

// One case: every way to encode its text, and decoding whole and id by id.
void check_case(const Tokenizer& tokenizer, const json& c) {
  const auto text = c["text"].get<std::string>();
  SCOPED_TRACE(c["text"].dump());
  const auto encode = [&](bool add, bool parse) {
    auto ids = tokenizer.encode(text, {.add_special = add, .parse_special = parse});
    EXPECT_TRUE(ids) << (ids ? "" : ids.error().message);
    return ids ? *std::move(ids) : std::vector<int32_t>();
  };
  EXPECT_EQ(printed(encode(false, true)), printed(c["ids"]));
  EXPECT_EQ(printed(encode(true, true)), printed(c["ids_with_special"]));
  if (c.contains("plain")) {
    EXPECT_EQ(printed(encode(false, false)), printed(c["plain"]));
  }
  // The models' references decode the ids without those around them, and show special tokens.
  const bool fixture = c.contains("decoded_with_special");
  const auto ids = c[fixture ? "ids_with_special" : "ids"].get<std::vector<int32_t>>();
  if (fixture) {
    EXPECT_EQ(json(tokenizer.decode(ids)).dump(), c["decoded"].dump());
  }
  EXPECT_EQ(json(tokenizer.decode(ids, {.show_special = true})).dump(),
            c[fixture ? "decoded_with_special" : "decoded"].dump());
  Detokenizer detokenizer(tokenizer);
  std::string streamed;
  for (const int32_t id : ids) {
    const std::string part = detokenizer.push(id);
    EXPECT_TRUE(is_utf8(part));
    streamed += part;
  }
  EXPECT_EQ(streamed + detokenizer.finish(), tokenizer.decode(ids));
}

Result<Tokenizer> load(const std::filesystem::path& path) {
  const std::string config = path.parent_path() / "tokenizer_config.json";
  TRY_ASSIGN(TokenizerSpec spec,
             tokenizer_from_json(test_files::read_file(path),
                                 std::filesystem::exists(config) ? test_files::read_file(config) : ""));
  const std::string section = serialize_tokenizer(spec);
  TRY_ASSIGN(TokenizerSpec again, deserialize_tokenizer(std::as_bytes(std::span(section.data(), section.size()))));
  EXPECT_EQ(serialize_tokenizer(again), section);
  return Tokenizer::create(std::move(again));
}

TEST(TokenizerJson, AgreesWithHuggingFace) {
  size_t tokenizers = 0;
  std::set<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(fixtures())) paths.insert(entry.path());
  for (const auto& path : paths) {
    if (!path.string().ends_with(".tokenizer.json")) continue;
    SCOPED_TRACE(path.filename());
    auto tokenizer = load(path);
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    std::string cases = path;
    cases.replace(cases.size() - std::string("tokenizer.json").size(), std::string::npos, "cases.json");
    for (const json& c : json::parse(test_files::read_file(cases))) check_case(*tokenizer, c);
    ++tokenizers;
  }
  EXPECT_GE(tokenizers, 15u);
}

TEST(TokenizerJson, AgreesWithTheModelsReferences) {
  const auto models = test_files::shared_folder() / "models";
  if (!std::filesystem::exists(models)) GTEST_SKIP() << models << " is absent";
  for (const char* name : {"kjv-7m", "kjv-1m-draft"}) {
    SCOPED_TRACE(name);
    auto tokenizer = load(models / name / "tokenizer.json");
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    const json reference = json::parse(test_files::read_file(models / name / "reference.json"));
    ASSERT_FALSE(reference["tokenize"].empty());
    for (const json& c : reference["tokenize"]) check_case(*tokenizer, c);
    EXPECT_EQ(tokenizer->token_text(tokenizer->spec().eos_id), "<|im_end|>");
    EXPECT_EQ(tokenizer->spec().bos_id, 0);
  }
}

}  // namespace
}  // namespace ll
