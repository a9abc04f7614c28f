#include "runtime/text/charsmap.h"

#include <cstring>

#include "runtime/base/byte_reader.h"

namespace ll {
namespace {

uint32_t offset_of(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }
uint32_t label_of(uint32_t unit) { return unit & ((1u << 31) | 0xFF); }
bool has_value(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t value_of(uint32_t unit) { return unit & ~(1u << 31); }

}  // namespace

Result<CharsMap> CharsMap::parse(std::string_view precompiled) {
  ByteReader reader(std::as_bytes(std::span(precompiled.data(), precompiled.size())));
  TRY_ASSIGN(const uint32_t size, reader.read<uint32_t>());
  if (size == 0 || size % sizeof(uint32_t) != 0) {
    return bad_data("charsmap has an array of {} bytes, expected a multiple of 4 above 0", size);
  }
  TRY_ASSIGN(const std::span<const std::byte> array, reader.bytes(size));
  CharsMap map;
  map.units_.resize(size / sizeof(uint32_t));
  std::memcpy(map.units_.data(), array.data(), size);
  TRY_ASSIGN(const std::string_view replacements, reader.text(reader.remaining()));
  if (replacements.empty() || replacements.back() != '\0') return bad_data("charsmap does not end with a zero byte");
  map.replacements_ = replacements;
  return map;
}

CharsMap::Match CharsMap::search(std::string_view text, bool longest) const {
  Match match;
  size_t at = offset_of(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    at ^= byte;
    if (byte == 0 || at >= units_.size() || label_of(units_[at]) != byte) break;
    const uint32_t unit = units_[at];
    at ^= offset_of(unit);
    if (at >= units_.size()) break;
    if (!has_value(unit)) continue;
    const uint32_t start = value_of(units_[at]);
    if (start >= replacements_.size()) continue;
    match = {i + 1, std::string_view(replacements_.c_str() + start)};
    if (!longest) break;
  }
  return match;
}

}  // namespace ll
