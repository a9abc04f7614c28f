#include "runtime/load/response_reader.h"

#include <cstdlib>

// The first byte is how many bytes come at once.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t piece = size_t{data[0]} + 1;
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  ll::load::ResponseReader response;
  ll::load::EventReader events;
  size_t taken = 0;
  for (; !text.empty(); text.remove_prefix(std::min(piece, text.size()))) {
    const ll::Status status = response.feed(text.substr(0, piece), [&](std::string_view body) {
      taken += body.size();
      return events.feed(body, [](std::string_view event) -> ll::Status {
        if (const auto chunk = ll::load::read_chunk(event); !chunk) return chunk.error();
        return {};
      });
    });
    if (!status) break;
  }
  if (taken > size) std::abort();
  ll::load::error_message({reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
