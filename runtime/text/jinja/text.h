// Text that knows which of its bytes are trusted (see Segment).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ll::jinja {

// `marks` are the ascending offsets at which trust toggles, beginning untrusted: {} is untrusted throughout, {0}
// trusted throughout. The last mark lies before the end of the bytes. Fewer than 2^32 bytes.
struct Text {
  std::string bytes;
  std::vector<uint32_t> marks;

  Text() = default;
  Text(std::string_view text, bool trusted) { append(text, trusted); }

  size_t size() const { return bytes.size(); }
  bool all_trusted() const { return bytes.empty() || (marks.size() == 1 && marks[0] == 0); }
  bool all_untrusted() const { return marks.empty(); }

  void append(std::string_view text, bool trusted);
  void append(const Text& text) { append(text, 0, text.size()); }
  void append(const Text& text, size_t begin, size_t end);  // text[begin, end)
  Text sub(size_t begin, size_t end) const;
};

}  // namespace ll::jinja
