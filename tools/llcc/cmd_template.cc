#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "compiler/frontend/gguf.h"
#include "compiler/frontend/hf_config.h"
#include "runtime/base/file_magic.h"
#include "runtime/base/mapped_file.h"
#include "runtime/plan/plan.h"
#include "runtime/text/jinja/json_value.h"
#include "runtime/text/jinja/template.h"
#include "tools/llcc/commands.h"

namespace ll {
namespace {

struct TemplateArguments {
  std::string source;
  std::string input;
  std::string now;
  bool json = false;
};

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Result<std::string> read_text(const std::string& path) {
  TRY_ASSIGN(const MappedFile file, MappedFile::open(path));
  return std::string(text_of(file.bytes()));
}

// chat_template.jinja of a Hugging Face folder, else the one in tokenizer_config.json.
Result<std::string> folder_template(const std::filesystem::path& folder) {
  const std::filesystem::path own = folder / "chat_template.jinja";
  if (std::filesystem::exists(own)) return read_text(own.string());
  const std::string config = (folder / "tokenizer_config.json").string();
  TRY_ASSIGN(const std::string text, read_text(config));
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return bad_data("{} is not a JSON object", config);
  return hf_chat_template(json);
}

// The template in a file of its own, a Hugging Face folder, a GGUF file or a plan.
Result<std::string> find_template(const std::string& path) {
  std::error_code ignored;
  std::string found;
  if (std::filesystem::is_directory(path, ignored)) {
    TRY_ASSIGN(found, folder_template(path));
  } else {
    TRY_ASSIGN(const MappedFile file, MappedFile::open(path));
    switch (file_kind(file.bytes())) {
      case FileKind::kGguf: {
        TRY_ASSIGN(const gguf::File gguf, gguf::parse(file.bytes()));
        TRY_ASSIGN(const std::string_view text, gguf.metadata.get_text("tokenizer.chat_template", ""));
        found = text;
        break;
      }
      case FileKind::kPlan: {
        TRY_ASSIGN(const ValidatedPlan plan, open_plan(path, {}));
        found = plan->chat_template;
        break;
      }
      case FileKind::kOther:
        return std::string(text_of(file.bytes()));
    }
  }
  if (found.empty()) return bad_data("{} holds no chat template", path);
  return found;
}

// The template's variables: the member "inputs" of a case, or the whole object when there is none. The vocabulary's
// special tokens are the only strings that may be read as such.
Result<jinja::Value> read_input(const std::string& path) {
  TRY_ASSIGN(const std::string text, read_text(path));
  auto parsed = jinja::parse_json(text);
  if (!parsed) return std::move(parsed).error().in(path);
  jinja::Value input = *std::move(parsed);
  if (input.kind != jinja::Value::Kind::kDict) return bad_data("{} is not a JSON object", path);
  const jinja::Value* inputs = input.find("inputs");
  if (inputs != nullptr && inputs->kind == jinja::Value::Kind::kDict && input.find("messages") == nullptr) {
    jinja::Value inner = *inputs;
    input = std::move(inner);
  }
  for (size_t i = 0; i < input.keys.size(); ++i) {
    if (input.keys[i].ends_with("_token")) input.items[i].trusted = true;
  }
  return input;
}

Status run(const TemplateArguments& options) {
  jinja::RenderOptions render;
  if (!options.now.empty()) {
    auto now = jinja::parse_civil_time(options.now);
    if (!now) return usage("--now: {}", now.error().message);
    render.now = *now;
  }
  TRY_ASSIGN(const std::string source, find_template(options.source));
  TRY_ASSIGN(const jinja::Value input, read_input(options.input));
  TRY_ASSIGN(const jinja::Template compiled, jinja::Template::compile(source));
  TRY_ASSIGN(const jinja::Rendered rendered, compiled.render(input, render));
  std::string out = rendered.text;
  if (options.json) {
    nlohmann::ordered_json segments = nlohmann::ordered_json::array();
    for (const jinja::Segment& segment : rendered.segments) {
      segments.push_back({{"bytes", segment.size}, {"trusted", segment.trusted}});
    }
    out = nlohmann::ordered_json{{"text", rendered.text}, {"segments", segments}}.dump() + "\n";
  }
  if (std::fwrite(out.data(), 1, out.size(), stdout) != out.size()) return error(Code::kIo, "cannot write to stdout");
  return {};
}

}  // namespace

Command add_template(CLI::App& app) {
  auto options = std::make_shared<TemplateArguments>();
  app.add_option("source", options->source, "a Jinja file, a Hugging Face folder, a GGUF file or a plan")->required();
  app.add_option(
         "--input", options->input,
         "JSON object of the template's variables (messages, tools, add_generation_prompt, bos_token, ...), or one "
         "that holds them as its member `inputs`")
      ->required();
  app.add_option("--now", options->now, "the time that strftime_now tells, as 2026-01-02T03:04:05; default: the clock");
  app.add_flag("--json", options->json, "print one JSON object: the text and which pieces may hold special tokens");
  return [options] { return run(*options); };
}

}  // namespace ll
