// Who may ask: API keys, host names, origins. Decided in one place, before a request is routed.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/serve/api_error.h"
#include "runtime/serve/http_parser.h"

namespace ll::serve {

struct AccessOptions {
  std::vector<std::string> keys{};   // none: anybody may ask. At most kMostKeyBytes each
  std::vector<std::string> hosts{};  // names that the Host header may have besides loopback and IP addresses; "*": any
  std::vector<std::string> origins{};  // "https://example.org" that pages may ask from besides our own; "*": any
  bool any_host = false;               // a Unix socket has no name
};
inline constexpr size_t kMostKeyBytes = 256;

class Access {
 public:
  explicit Access(AccessOptions options) : options_(std::move(options)) {}

  // Why a request is refused: 403 for a host or origin, 401 without a key unless `is_public`. Uses the headers alone.
  std::optional<ApiError> refuse(const HttpRequest& request, bool is_public) const;
  // The value of Access-Control-Allow-Origin; empty: no such header.
  std::string allowed_origin(const HttpRequest& request) const;
  bool needs_key() const { return !options_.keys.empty(); }

 private:
  bool host_allowed(const HttpRequest& request) const;
  bool origin_allowed(const HttpRequest& request) const;
  bool key_allowed(const HttpRequest& request) const;

  AccessOptions options_;
};

// Takes the same time whatever the bytes are; both at most kMostKeyBytes long.
bool equal_keys(std::string_view a, std::string_view b);

// Keys in a text: one a line, blank lines and those that begin with '#' left out. kUsage for one that no header can
// carry or that is too long.
Result<std::vector<std::string>> read_keys(std::string_view text);

}  // namespace ll::serve
