// llrt: runs compiled language models.
#include <fmt/core.h>

#include <llrt.hpp>

#include "tools/llrt/commands.h"
#include "tools/llrt/interrupt.h"
#include "tools/report.h"

namespace ll {
namespace {

struct Subcommand {
  const char* name;
  const char* help;
  Command (*add)(CLI::App&);
};
constexpr Subcommand kCommands[] = {
    {"run", "continue a text", add_run},
    {"serve", "serve a plan through OpenAI's HTTP API", add_serve},
    {"bench", "measure tokens per second against this machine's memory bandwidth", add_bench},
    {"logits", "compute the logits that follow each of some token ids", add_logits},
    {"perplexity", "measure how well a plan predicts a text", add_perplexity},
    {"verify", "check every byte of a plan", add_verify},
    {"doctor", "show what this machine offers and what a plan needs", add_doctor},
};

int main(int argc, char** argv) {
  const auto program = CLI::Program::make("llrt", "llrt: runs compiled language models", llrt_version());
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
  if (!parsed) return report("llrt", parsed.error(), format);
  if (!*parsed) return 0;  // --help, --version
  catch_interrupts();
  for (const auto& [sub, run] : commands) {
    if (!sub->parsed()) continue;
    try {
      if (const Status status = run(); !status) return report("llrt", status.error(), format);
    } catch (const llrt::Error& e) {
      return report("llrt", Error{static_cast<Code>(e.status()), e.what()}, format);
    } catch (const std::bad_alloc&) {
      return report("llrt", error(Code::kOutOfMemory, "out of memory"), format);
    }
  }
  if (std::fflush(stdout) != 0) return report("llrt", error(Code::kIo, "cannot write to stdout"), format);
  return interrupted() ? kInterruptedExit : 0;
}

}  // namespace
}  // namespace ll

int main(int argc, char** argv) { return ll::main(argc, argv); }
