// How both programs end: one line on stderr and an exit code after sysexits.
#pragma once

#include <fmt/core.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "runtime/base/result.h"

namespace ll {

enum class ErrorFormat { kText, kJson };

// Prints `program: error: message`, or {"error": {"code", "name", "message"}} on one line, to stderr. Returns the exit
// code.
inline int report(const char* program, const Error& error, ErrorFormat format) {
  if (format == ErrorFormat::kJson) {
    const nlohmann::json body = {
        {"code", static_cast<int>(error.code)}, {"name", code_name(error.code)}, {"message", error.message}};
    const nlohmann::json line = {{"error", body}};
    fmt::print(stderr, "{}\n", line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    fmt::print(stderr, "{}: error: {}\n", program, error.message);
  }
  return static_cast<int>(error.code);
}

}  // namespace ll
