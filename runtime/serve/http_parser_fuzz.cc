// However the bytes are cut, the parser reads the same requests and stops at the same place.
#include <cstdint>
#include <cstdlib>

#include "runtime/serve/http_parser.h"

namespace {

using ll::serve::RequestParser;

// What was read, as text.
std::string read(std::string_view bytes, size_t piece) {
  const ll::serve::HttpLimits limits{.head_bytes = 2000, .headers = 20, .target_bytes = 500, .body_bytes = 1000};
  RequestParser parser(limits);
  std::string out;
  size_t at = 0;
  while (at < bytes.size()) {
    at += parser.feed(bytes.substr(at, piece));
    if (parser.state() == RequestParser::State::kFailed) return out + std::to_string(parser.status()) + parser.reason();
    if (parser.state() != RequestParser::State::kDone) continue;
    const ll::serve::HttpRequest& r = parser.request();
    if (r.body.size() > limits.body_bytes || r.headers.size() > limits.headers) std::abort();
    out += r.method + r.target + r.body + (r.keep_alive ? "k" : "c");
    for (const auto& h : r.headers) out += h.name + "=" + h.value + ";";
    if (const std::string* host = r.header("host")) out += ll::serve::host_name(*host);
    parser.next();
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string whole = read(bytes, size);
  if (read(bytes, 1) != whole || read(bytes, 5) != whole) std::abort();
  return 0;
}
