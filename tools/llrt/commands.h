// Subcommands of llrt: one file each, listed in main.cc. They know the public headers and runtime/base; serving and
// load have a header each.
#pragma once

#include <functional>

#include "runtime/base/result.h"
#include "tools/command_line.h"

namespace ll {

// Registers options on a fresh subcommand and returns what to run once they are parsed. A command may also throw
// llrt::Error.
using Command = std::function<Status()>;

Command add_run(CLI::App& app);    // text in, text out
Command add_serve(CLI::App& app);  // the HTTP API
Command add_bench(CLI::App& app);  // tokens a second; its subcommand `serve`: load on a server
Command add_bench_serve(CLI::App& app);
Command add_logits(CLI::App& app);      // ids -> logits, both safetensors
Command add_perplexity(CLI::App& app);  // of a text
Command add_verify(CLI::App& app);      // every byte of a plan
Command add_doctor(CLI::App& app);      // what this machine offers and a plan needs

}  // namespace ll
