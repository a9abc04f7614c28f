// All of stdin.
#pragma once

#include <string>

#include "runtime/base/result.h"

namespace ll {

// What came until the end, or until Ctrl-C.
Result<std::string> read_stdin();

}  // namespace ll
