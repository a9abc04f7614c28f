#include <cstdio>
#include <memory>

#include "compiler/frontend/inspect.h"
#include "tools/llcc/commands.h"

namespace ll {
namespace {

struct InspectArguments {
  std::string path;
  std::string tensor;
  std::string output;
  bool json = false;
};

Status run(const InspectArguments& options) {
  if (options.tensor.empty() != options.output.empty()) {
    return usage("--tensor NAME and -o OUT.safetensors go together");
  }
  if (!options.tensor.empty()) return export_tensor(options.path, options.tensor, options.output);
  TRY_ASSIGN(const std::string text, inspect(options.path, options.json));
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size())
    return error(Code::kIo, "cannot write to stdout");
  return {};
}

}  // namespace

Command add_inspect(CLI::App& app) {
  auto options = std::make_shared<InspectArguments>();
  app.add_option("file", options->path, "a GGUF, safetensors or plan file, or a Hugging Face folder")->required();
  app.add_flag("--json", options->json, "print one JSON object");
  app.add_option("--tensor", options->tensor, "write this tensor, as f32, to the file -o names");
  app.add_option("-o,--output", options->output, "safetensors file to write");
  return [options] { return run(*options); };
}

}  // namespace ll
