// The first line is a stop string and so is the second; the rest is text, cut into pieces and given out until the first
// of them, compared with a plain search.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "runtime/serve/stop_matcher.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text(reinterpret_cast<const char*>(data), std::min<size_t>(size, 4096));
  std::vector<std::string> stops;
  for (int i = 0; i < 2; ++i) {
    const size_t end = std::min(text.find('\n'), text.size());
    stops.push_back(text.substr(0, end));
    text.erase(0, std::min(end + 1, text.size()));
  }
  std::erase_if(stops, [](const std::string& s) { return s.empty(); });
  // The match that ends first, of those the longest.
  size_t end = std::string::npos, begin = text.size();
  for (const std::string& stop : stops) {
    const size_t at = text.find(stop);
    if (at == std::string::npos) continue;
    const size_t ends = at + stop.size();
    if (ends < end || (ends == end && at < begin)) {
      end = ends;
      begin = at;
    }
  }
  for (const size_t piece : {size_t{1}, size_t{3}, text.size() + 1}) {
    ll::serve::StopMatcher matcher(stops);
    std::string out;
    for (size_t at = 0; at < text.size(); at += piece) matcher.push(std::string_view(text).substr(at, piece), out);
    matcher.finish(out);
    if (out != text.substr(0, begin) || matcher.found().has_value() != (end != std::string::npos)) std::abort();
  }
  return 0;
}
