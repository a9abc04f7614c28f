#include "runtime/text/jinja/text.h"

#include <algorithm>

namespace ll::jinja {

void Text::append(std::string_view text, bool trusted) {
  if (text.empty()) return;
  const bool ends_trusted = marks.size() % 2 == 1;
  if (trusted != ends_trusted) marks.push_back(static_cast<uint32_t>(bytes.size()));
  bytes.append(text);
}

void Text::append(const Text& text, size_t begin, size_t end) {
  if (begin >= end) return;
  auto next = std::upper_bound(text.marks.begin(), text.marks.end(), begin);
  bool trusted = (next - text.marks.begin()) % 2 == 1;
  for (; next != text.marks.end() && *next < end; ++next) {
    append(std::string_view(text.bytes).substr(begin, *next - begin), trusted);
    begin = *next;
    trusted = !trusted;
  }
  append(std::string_view(text.bytes).substr(begin, end - begin), trusted);
}

Text Text::sub(size_t begin, size_t end) const {
  Text out;
  out.append(*this, begin, end);
  return out;
}

}  // namespace ll::jinja
