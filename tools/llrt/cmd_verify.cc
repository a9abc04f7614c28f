#include <llrt.hpp>
#include <nlohmann/json.hpp>

#include "tools/llrt/commands.h"

namespace ll {
namespace {

struct VerifyArguments {
  std::string plan, model_dir;
  bool json = false;
};

Status run(const VerifyArguments& options) {
  const std::string facts = llrt::verify(options.plan, options.model_dir);
  if (options.json) {
    fmt::print("{}\n", facts);
  } else {
    fmt::print("{}: every check passed\n", options.plan);
  }
  return {};
}

}  // namespace

Command add_verify(CLI::App& app) {
  auto options = std::make_shared<VerifyArguments>();
  app.add_option("plan", options->plan, "plan to read and check, every byte of it")->required()->type_name("PLAN");
  app.add_option("--model-dir", options->model_dir, "folder of the files that a plan with --weights reference names")
      ->type_name("DIR");
  app.add_flag("--json", options->json, "print what the plan holds as JSON");
  return [options] { return run(*options); };
}

}  // namespace ll
