#include <memory>
#include <optional>
#include <string>

#include "compiler/plan/explain.h"
#include "compiler/plan/explain_html.h"
#include "runtime/base/atomic_file.h"
#include "tools/llcc/commands.h"
#include "tools/llcc/machine_rates.h"

namespace ll {
namespace {

struct ExplainArguments {
  std::string plan, html;
  int64_t program = -1;
  double bandwidth = 0, rate = 0;  // 0: measured
  bool json = false;
};

Status run(const ExplainArguments& o) {
  TRY_ASSIGN(const ValidatedPlan plan, open_plan(o.plan));
  std::optional<size_t> program;
  if (o.program >= 0) program = static_cast<size_t>(o.program);
  MachineRates rates;
  if (o.bandwidth == 0 || o.rate == 0) {
    TRY_ASSIGN(rates, measure_machine_rates());
  }
  if (o.bandwidth > 0) rates.bytes_per_second = o.bandwidth * 1e9;
  if (o.rate > 0) rates.operations_per_second = o.rate * 1e9;
  if (!o.html.empty()) {
    TRY_ASSIGN(const std::string page, explain_html(*plan, program, rates));
    TRY_ASSIGN(AtomicFile file, AtomicFile::create(o.html));
    TRY(file.write({reinterpret_cast<const std::byte*>(page.data()), page.size()}));
    return file.commit();
  }
  TRY_ASSIGN(const std::string text,
             o.json ? explain_json(*plan, program, &rates) : explain_text(*plan, program, &rates));
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size())
    return error(Code::kIo, "cannot write to stdout");
  return {};
}

}  // namespace

Command add_explain(CLI::App& app) {
  auto o = std::make_shared<ExplainArguments>();
  app.add_option("PLAN", o->plan, "plan (.llcp)")->required();
  app.add_option("--program", o->program, "only this program, numbered from 0")->check(CLI::Range(0, INT32_MAX));
  auto* json = app.add_flag("--json", o->json, "as JSON");
  app.add_option("--html", o->html, "write one page that needs nothing else: graph, arena over time, roofline")
      ->type_name("FILE")
      ->excludes(json);
  app.add_option("--bandwidth", o->bandwidth, "what predictions assume (default: measured here)")
      ->check(CLI::Range(1e-3, 1e6))
      ->type_name("GB/S");
  app.add_option("--rate", o->rate, "operations that predictions assume (default: measured here)")
      ->check(CLI::Range(1e-3, 1e9))
      ->type_name("G/S");
  return [o] { return run(*o); };
}

}  // namespace ll
