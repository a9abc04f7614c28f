// llcc: compiles language models into plans.
#include <fmt/core.h>

#include "tools/llcc/commands.h"
#include "tools/report.h"

namespace ll {
namespace {

struct Subcommand {
  const char* name;
  const char* help;
  Command (*add)(CLI::App&);
};
constexpr Subcommand kCommands[] = {
    {"compile", "compile a GGUF file, a Hugging Face folder or a .llir graph into a plan", add_compile},
    {"opt", "run passes on a graph: text in, text out", add_opt},
    {"execute", "run a graph on the reference executor", add_execute},
    {"inspect", "show what a GGUF, safetensors or plan file holds", add_inspect},
    {"explain", "show what each launch of a plan does and costs", add_explain},
    {"kernels", "show what the GPU kernels of a plan need and what their inner loops are made of", add_kernels},
    {"tokenize", "turn the text on stdin into token ids", add_tokenize},
    {"template", "render a chat template", add_template},
};

int main(int argc, char** argv) {
  const auto program = CLI::Program::make("llcc", "llcc: compiles language models into plans", LLCUDA_VERSION);
  std::string error_format = "text";
  program->add_option("--error-format", error_format, "how errors are printed: text or json")
      ->check(CLI::IsMember({"text", "json"}));
  std::vector<std::pair<CLI::App*, Command>> commands;
  for (const Subcommand& row : kCommands) {
    CLI::App* sub = program->add_subcommand(row.name, row.help);
    commands.emplace_back(sub, row.add(*sub));
  }
  const Result<bool> parsed = program->parse(argc, argv);
  const ErrorFormat format = error_format == "json" ? ErrorFormat::kJson : ErrorFormat::kText;
  if (!parsed) return report("llcc", parsed.error(), format);
  if (!*parsed) return 0;  // --help, --version
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
