#include "tools/report.h"

#include <fmt/core.h>

#include <cstdio>
#include <nlohmann/json.hpp>

namespace ll {

int report(const char* program, const Error& error, ErrorFormat format) {
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
