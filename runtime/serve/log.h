// One JSON object a line on stderr: what happened, never what was said. No prompts, answers, keys or other text of
// clients.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "runtime/serve/json_writer.h"

namespace ll::serve {

enum class LogLevel : uint8_t {
  kError,
  kNotice,  // starting and ending
  kInfo,    // requests
  kDebug
};

// Lines beyond a thousand a second are counted and dropped, and so are those that stderr has no room for: logging never
// waits. The event loop's thread alone uses it.
class Log {
 public:
  explicit Log(LogLevel level, int fd = 2) : level_(level), fd_(fd) {}
  // `more` adds members behind time, level and event.
  void line(LogLevel level, std::string_view event, const std::function<void(JsonWriter&)>& more = {});

 private:
  LogLevel level_;
  int fd_;
  int64_t second_ = 0;
  uint64_t lines_ = 0, dropped_ = 0;
};

}  // namespace ll::serve
