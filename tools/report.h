// How both programs end: one line on stderr and an exit code after sysexits.
#pragma once

#include "runtime/base/result.h"

namespace ll {

enum class ErrorFormat { kText, kJson };

// Prints `program: error: message`, or {"error": {"code", "name", "message"}} on one line, to stderr. Returns the exit
// code.
int report(const char* program, const Error& error, ErrorFormat format);

}  // namespace ll
