// Tuning files: what a user overrides of the tile choices (kernels/cuda/family.h, Tuning).
#pragma once

#include <string>
#include <string_view>

#include "kernels/cuda/family.h"
#include "runtime/base/result.h"

namespace ll {

// Lines `[scope:]key value`, # begins a comment. A scope is a program ("step-1"), a kernel of the catalog
// ("linear_add_q8") or both ("step-1/linear_add_q8"); without one the line is for all launches. kBadData names the line
// that is wrong: an unknown key or kernel, no number, a key twice. `path` empty: nothing.
Result<cuda::Tuning> read_tuning(const std::string& path);
Result<cuda::Tuning> parse_tuning(std::string_view text, std::string_view path);

// What of it is for a launch, without scopes; the narrower one wins, a kernel's over a program's.
cuda::Tuning tuning_of(const cuda::Tuning& all, std::string_view program, std::string_view kernel);

}  // namespace ll
