#include <memory>
#include <string>

#include "compiler/codegen/kernel_report.h"
#include "tools/llcc/commands.h"

namespace ll {
namespace {

struct KernelsArguments {
  std::string plan, target;
  bool json = false;
};

Status run(const KernelsArguments& o) {
  TRY_ASSIGN(const ValidatedPlan plan, open_plan(o.plan));
  TRY_ASSIGN(const std::string text, kernel_report(*plan, o.target, o.json));
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size())
    return error(Code::kIo, "cannot write to stdout");
  return {};
}

}  // namespace

Command add_kernels(CLI::App& app) {
  auto o = std::make_shared<KernelsArguments>();
  app.add_option("PLAN", o->plan, "plan (.llcp)")->required();
  app.add_option("--target", o->target, "only this one of the plan's targets, such as sm_75");
  app.add_flag("--json", o->json, "as JSON");
  return [o] { return run(*o); };
}

}  // namespace ll
