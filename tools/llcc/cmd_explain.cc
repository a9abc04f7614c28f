#include <memory>
#include <optional>
#include <string>

#include "compiler/plan/explain.h"
#include "tools/llcc/commands.h"

namespace ll {
namespace {

struct Options {
  std::string plan;
  int64_t program = -1;
  bool json = false;
};

Status run(const Options& o) {
  TRY_ASSIGN(const ValidatedPlan plan, open_plan(o.plan));
  std::optional<size_t> program;
  if (o.program >= 0) program = static_cast<size_t>(o.program);
  TRY_ASSIGN(const std::string text, o.json ? explain_json(*plan, program) : explain_text(*plan, program));
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size())
    return error(Code::kIo, "cannot write to stdout");
  return {};
}

}  // namespace

Command add_explain(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("PLAN", o->plan, "plan (.llcp)")->required();
  app.add_option("--program", o->program, "only this program, numbered from 0")->check(CLI::Range(0, INT32_MAX));
  app.add_flag("--json", o->json, "as JSON");
  return [o] { return run(*o); };
}

}  // namespace ll
