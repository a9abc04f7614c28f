// Subcommands of llcc: one file each, listed in main.cc.
#pragma once

#include <functional>

#include "runtime/base/result.h"
#include "tools/command_line.h"

namespace ll {

// Registers options on a fresh subcommand and returns what to run once they are parsed.
using Command = std::function<Status()>;

Command add_compile(CLI::App& app);   // MODEL -> PLAN.llcp, or --emit ir|program
Command add_opt(CLI::App& app);       // FILE.llir --passes a,b -> text
Command add_execute(CLI::App& app);   // FILE.llir on the graph executor
Command add_inspect(CLI::App& app);   // GGUF, safetensors and plans
Command add_explain(CLI::App& app);   // PLAN: kernel, shape, bytes, operations
Command add_kernels(CLI::App& app);   // PLAN: registers, shared memory and code of its GPU kernels
Command add_tokenize(CLI::App& app);  // text on stdin -> ids
Command add_template(CLI::App& app);  // chat template and its input -> text

}  // namespace ll
