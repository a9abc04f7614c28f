// Options that every command with an open plan takes.
#pragma once

#include <CLI/CLI.hpp>
#include <llrt.hpp>
#include <string>

namespace ll {

struct ModelOptions {
  std::string plan, isa, model_dir;
  int threads = 0;
};

// PLAN, -t, --isa, --model-dir. `options` outlives the parse.
void add_model_options(CLI::App& app, ModelOptions& options);
// Throws llrt::Error.
llrt::Model open_model(const ModelOptions& options);

}  // namespace ll
