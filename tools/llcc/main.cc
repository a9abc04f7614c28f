// llcc: compiles language models into plans.
#include <fmt/core.h>

#include "tools/llcc/commands.h"
#include "tools/report.h"

namespace ll {
namespace {

struct Row {
  const char* name;
  const char* help;
  Command (*add)(CLI::App&);
};
constexpr Row kCommands[] = {
    {"compile", "compile a GGUF file, a Hugging Face folder or a .llir graph into a plan", add_compile},
    {"opt", "run passes on a graph: text in, text out", add_opt},
    {"execute", "run a graph on the reference executor", add_execute},
    {"inspect", "show what a GGUF, safetensors or plan file holds", add_inspect},
    {"explain", "show what each launch of a plan does and costs", add_explain},
    {"tokenize", "turn the text on stdin into token ids", add_tokenize},
    {"template", "render a chat template", add_template},
};

int main(int argc, char** argv) {
  CLI::App app("llcc: compiles language models into plans", "llcc");
  app.set_version_flag("--version", "llcc " LLCUDA_VERSION);
  app.require_subcommand(1);
  ErrorFormat format = ErrorFormat::kText;
  app.add_option("--error-format", format, "how errors are printed: text or json")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, ErrorFormat>{{"text", ErrorFormat::kText}, {"json", ErrorFormat::kJson}}));
  std::vector<std::pair<CLI::App*, Command>> commands;
  for (const Row& row : kCommands) {
    CLI::App* sub = app.add_subcommand(row.name, row.help);
    sub->fallthrough();
    commands.emplace_back(sub, row.add(*sub));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    return report("llcc", error(Code::kUsage, "{}; see llcc --help", e.what()), format);
  }
  for (const auto& [sub, run] : commands) {
    if (!sub->parsed()) continue;
    try {
      if (const Status status = run(); !status) return report("llcc", status.error(), format);
    } catch (const std::bad_alloc&) {
      return report("llcc", error(Code::kOutOfMemory, "out of memory"), format);
    }
  }
  if (std::fflush(stdout) != 0) return report("llcc", error(Code::kIo, "cannot write to stdout"), format);
  return 0;
}

}  // namespace
}  // namespace ll

int main(int argc, char** argv) { return ll::main(argc, argv); }
