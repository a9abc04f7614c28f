#include "runtime/serve/access.h"

#include <algorithm>
#include <cstdint>

namespace ll::serve {
namespace {

// An address, which no name server can point somewhere else, and so no page can be made to misuse.
bool is_address(std::string_view host) {
  if (host.starts_with('[')) return true;
  return !host.empty() && host.find_first_not_of("0123456789.") == std::string_view::npos;
}

bool listed(const std::vector<std::string>& names, std::string_view name) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& n) { return n == "*" || n == name; });
}

}  // namespace

bool equal_keys(std::string_view a, std::string_view b) {
  uint32_t difference = static_cast<uint32_t>(a.size() ^ b.size());
  for (size_t i = 0; i < kMostKeyBytes; ++i) {
    const auto x = static_cast<uint8_t>(i < a.size() ? a[i] : 0), y = static_cast<uint8_t>(i < b.size() ? b[i] : 0);
    difference |= static_cast<uint32_t>(x ^ y);
  }
  return difference == 0;
}

Result<std::vector<std::string>> read_keys(std::string_view text) {
  std::vector<std::string> keys;
  size_t line = 0;
  while (!text.empty()) {
    ++line;
    const size_t end = text.find('\n');
    std::string_view key = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
    while (!key.empty() && blank(key.front())) key.remove_prefix(1);
    while (!key.empty() && blank(key.back())) key.remove_suffix(1);
    if (key.empty() || key.front() == '#') continue;
    if (key.size() > kMostKeyBytes)
      return usage("API key in line {} has {} bytes, expected at most {}", line, key.size(), kMostKeyBytes);
    if (std::any_of(key.begin(), key.end(), [](char c) { return c <= 0x20 || c >= 0x7F; })) {
      return usage("API key in line {} holds a character that is no visible ASCII", line);
    }
    keys.emplace_back(key);
  }
  return keys;
}

bool Access::host_allowed(const HttpRequest& request) const {
  if (options_.any_host) return true;
  const std::string* header = request.header("host");
  if (header == nullptr) return true;  // HTTP/1.0: no browser
  const std::string host = host_name(*header);
  return host == "localhost" || host.ends_with(".localhost") || is_address(host) || listed(options_.hosts, host);
}

bool Access::origin_allowed(const HttpRequest& request) const {
  const std::string* origin = request.header("origin");
  if (origin == nullptr || listed(options_.origins, *origin)) return true;
  // Our own page: the host that was asked is one of ours.
  const std::string* host = request.header("host");
  return host != nullptr && (*origin == "http://" + *host || *origin == "https://" + *host);
}

bool Access::key_allowed(const HttpRequest& request) const {
  std::string_view given;
  if (const std::string* bearer = request.header("authorization")) {
    constexpr std::string_view kScheme = "bearer ";
    std::string scheme = bearer->substr(0, kScheme.size());
    std::transform(scheme.begin(), scheme.end(), scheme.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    if (scheme == kScheme) given = std::string_view(*bearer).substr(kScheme.size());
  } else if (const std::string* key = request.header("x-api-key")) {
    given = *key;
  }
  if (given.size() > kMostKeyBytes) return false;
  bool found = false;
  for (const std::string& key : options_.keys) found = equal_keys(key, given) || found;
  return found;
}

std::optional<ApiError> Access::refuse(const HttpRequest& request, bool is_public) const {
  if (!host_allowed(request)) {
    return ApiError{403, "This host name is not allowed (llrt serve --allow-host).", {}};
  }
  if (!origin_allowed(request)) {
    return ApiError{403, "Pages of this origin are not allowed (llrt serve --allow-origin).", {}};
  }
  if (is_public || options_.keys.empty() || key_allowed(request)) return std::nullopt;
  return ApiError{401, "No valid API key: send one as 'Authorization: Bearer KEY'.", {}};
}

std::string Access::allowed_origin(const HttpRequest& request) const {
  const std::string* origin = request.header("origin");
  if (origin == nullptr || options_.origins.empty()) return {};
  for (const std::string& o : options_.origins) {
    if (o == "*") return "*";
    if (o == *origin) return o;
  }
  return {};
}

}  // namespace ll::serve
