#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "compiler/frontend/gguf.h"
#include "compiler/frontend/tokenizer_gguf.h"
#include "compiler/frontend/tokenizer_json.h"
#include "runtime/base/escape.h"
#include "runtime/base/file_magic.h"
#include "runtime/base/mapped_file.h"
#include "runtime/plan/plan.h"
#include "runtime/text/tokenizer.h"
#include "tools/llcc/commands.h"

namespace ll {
namespace {

struct TokenizeArguments {
  std::string model;
  EncodeOptions encode;
  bool json = false;
};

Error no_tokenizer(const std::string& path) { return unsupported("{} holds no tokenizer", quote(path)); }

Result<TokenizerSpec> folder_tokenizer(const std::string& folder) {
  const std::string path = folder + "/tokenizer.json", config_path = folder + "/tokenizer_config.json";
  if (!std::filesystem::exists(path)) return no_tokenizer(folder);
  TRY_ASSIGN(const MappedFile file, MappedFile::open(path));
  MappedFile config;
  if (std::filesystem::exists(config_path)) {
    TRY_ASSIGN(config, MappedFile::open(config_path));
  }
  const auto text = [](const MappedFile& f) {
    return std::string_view(reinterpret_cast<const char*>(f.bytes().data()), f.bytes().size());
  };
  return tokenizer_from_json(text(file), text(config));
}

// The tokenizer alone: the weights may be of any architecture, or absent.
Result<TokenizerSpec> read_tokenizer(const std::string& path) {
  if (std::filesystem::is_directory(path)) return folder_tokenizer(path);
  TRY_ASSIGN(const MappedFile file, MappedFile::open(path));
  if (file_kind(file.bytes()) == FileKind::kPlan) {
    TRY_ASSIGN(const ValidatedPlan plan, open_plan(path));
    if (plan->tokenizer.empty()) return no_tokenizer(path);
    return deserialize_tokenizer(plan->tokenizer);
  }
  auto gguf_file = gguf::parse(file.bytes());
  if (!gguf_file) return std::move(gguf_file).error().in(path);
  auto spec = tokenizer_from_gguf(gguf_file->metadata);
  if (!spec) return std::move(spec).error().in(path);
  if (!*spec) return no_tokenizer(path);
  return **std::move(spec);
}

Result<std::string> read_stdin() {
  std::string text;
  char buffer[1 << 16];
  while (const size_t n = std::fread(buffer, 1, sizeof buffer, stdin)) text.append(buffer, n);
  if (std::ferror(stdin)) return error(Code::kIo, "cannot read stdin");
  return text;
}

Status run(const TokenizeArguments& o) {
  TRY_ASSIGN(TokenizerSpec spec, read_tokenizer(o.model));
  TRY_ASSIGN(const Tokenizer tokenizer, Tokenizer::create(std::move(spec)));
  TRY_ASSIGN(const std::string text, read_stdin());
  TRY_ASSIGN(const std::vector<int32_t> ids, tokenizer.encode(text, o.encode));
  if (o.json) {
    nlohmann::ordered_json tokens = nlohmann::ordered_json::array();
    for (const int32_t id : ids) tokens.push_back(tokenizer.token_text(id));
    const nlohmann::ordered_json out = {{"ids", ids}, {"tokens", tokens}};
    fmt::print("{}\n", out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return {};
  }
  fmt::print("{}\n", fmt::join(ids, " "));
  return {};
}

}  // namespace

Command add_tokenize(CLI::App& app) {
  auto o = std::make_shared<TokenizeArguments>();
  app.add_option("MODEL", o->model, "GGUF file (one with a vocabulary alone will do), Hugging Face folder or plan")
      ->required();
  app.add_flag("--add-special", o->encode.add_special,
               "put the tokens that the model wants around a text, such as BOS");
  app.add_flag("--parse-special", o->encode.parse_special, "special tokens spelled out in the text become their ids");
  app.add_flag("--json", o->json, "print {\"ids\": [...], \"tokens\": [...]}");
  app.footer("Reads one text, all of stdin, and prints its ids separated by spaces.");
  return [o] { return run(*o); };
}

}  // namespace ll
