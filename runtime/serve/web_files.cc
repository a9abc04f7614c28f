#include "runtime/serve/web_files.h"

namespace ll::serve {
namespace {

constexpr std::string_view kBelow = "/web/";
// Trusted types: whatever a model writes, no string of it can become markup or script.
constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

bool names(std::string_view list, std::string_view etag) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    std::string_view one = list.substr(0, comma);
    while (one.starts_with(' ')) one.remove_prefix(1);
    while (one.ends_with(' ')) one.remove_suffix(1);
    if (one.starts_with("W/")) one.remove_prefix(2);
    if (one == etag || one == "*") return true;
    if (comma == std::string_view::npos) return false;
    list.remove_prefix(comma + 1);
  }
  return false;
}

}  // namespace

const WebFile* find_web_file(std::string_view path) {
  const std::string_view name = path == "/"                ? "index.html"
                                : path.starts_with(kBelow) ? path.substr(kBelow.size())
                                                           : std::string_view();
  for (const WebFile& file : web_files()) {
    if (file.name == name) return &file;
  }
  return nullptr;
}

Response web_response(const WebFile& file, const std::string* if_none_match) {
  Response response;
  response.headers = {{"ETag", std::string(file.etag)},
                      {"Content-Security-Policy", kPolicy},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cross-Origin-Opener-Policy", "same-origin"},
                      {"Cross-Origin-Resource-Policy", "same-origin"},
                      {"Permissions-Policy", "camera=(), geolocation=(), microphone=()"}};
  if (if_none_match != nullptr && names(*if_none_match, file.etag)) {
    response.status = 304;
    response.content_type.clear();
  } else {
    response.content_type = file.content_type;
    response.body = file.text;
  }
  return response;
}

}  // namespace ll::serve
