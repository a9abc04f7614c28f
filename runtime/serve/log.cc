#include "runtime/serve/log.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <climits>
#include <ctime>

namespace ll::serve {
namespace {

constexpr uint64_t kMostLines = 1000;  // a second

}  // namespace

void Log::line(LogLevel level, std::string_view event, const std::function<void(JsonWriter&)>& more) {
  if (level > level_) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const int64_t milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  if (milliseconds / 1000 != second_) {
    second_ = milliseconds / 1000;
    lines_ = 0;
  }
  pollfd ready{fd_, POLLOUT, 0};
  if (++lines_ > kMostLines || ::poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0) {
    ++dropped_;
    return;
  }
  const std::time_t second = static_cast<std::time_t>(second_);
  std::tm utc{};
  gmtime_r(&second, &utc);
  constexpr const char* kNames[] = {"error", "notice", "info", "debug"};
  std::string text;
  JsonWriter json(text);
  json.begin_object();
  json.string("time", fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900, utc.tm_mon + 1,
                                  utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, milliseconds % 1000));
  json.string("level", kNames[static_cast<size_t>(level)]).string("event", event);
  if (dropped_ > 0) json.integer("dropped_lines", static_cast<int64_t>(dropped_));
  if (more) more(json);
  json.end_object();
  text += '\n';
  // A pipe takes this much whole or, as it was ready, at once.
  if (text.size() > PIPE_BUF) return;
  if (::write(fd_, text.data(), text.size()) == static_cast<ssize_t>(text.size())) dropped_ = 0;
}

}  // namespace ll::serve
