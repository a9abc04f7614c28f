// Python's str methods, on values; filters share them.
#pragma once

#include "runtime/text/jinja/machine.h"

namespace ll::jinja {

// Applies a mapping of whole strings. Trust survives where it is the same throughout, or characters keep their places.
V map_text(Machine& m, const V& v, std::string (*map)(std::string_view));
// str.strip with sides: 1 left, 2 right, 3 both. `chars` missing or None: whitespace.
Result<V> strip(Machine& m, const V& v, const V& chars, int sides);
Result<V> replace(Machine& m, const V& v, const V& from, const V& to, int64_t count);
Result<V> center(Machine& m, const V& v, int64_t width, const V& fill, char align);
// Lines without (or with) their ends.
std::vector<V> split_lines(Machine& m, const V& v, bool keep_ends);
// separator.join(items); the items are strings.
Result<V> join(Machine& m, const V& separator, const std::vector<V>& items);

struct StringMethod {
  const char* name;
  const char* parameters;
  uint8_t required;
  bool keywords;                                             // takes arguments by name
  Result<V> (*call)(Machine&, const V& self, const Bound&);  // null: str.format and the like
};
std::span<const StringMethod> string_methods();

}  // namespace ll::jinja
