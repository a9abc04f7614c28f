// Options that every command with an open plan takes.
#pragma once

#include <llrt.hpp>
#include <string>
#include "tools/command_line.h"

namespace ll {

struct ModelOptions {
  std::string plan, isa, model_dir, device, dump_folder, numa;
  int threads = 0;
  bool deterministic = false;
  bool no_graphs = false, check_launches = false, time_launches = false;
};

// PLAN, -t, --numa, --isa, --deterministic, --model-dir, --device, --no-graphs, --check-launches, --time-launches,
// --dump-tensors. `options` outlives the parse.
void add_model_options(CLI::App& app, ModelOptions& options);
// Throws llrt::Error.
llrt::Model open_model(const ModelOptions& options);

}  // namespace ll
