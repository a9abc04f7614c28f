// Template input from JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "runtime/text/jinja/template.h"

namespace ll::jinja {

// Reads one JSON text. Order of keys is kept; of equal keys the last value wins, at the first one's place, as in
// Python. Fails on malformed JSON, nesting beyond kMaxNesting and integers beyond 64 bits. Nothing in the result is
// trusted.
Result<Value> parse_json(std::string_view text);

// The same from a parsed value. Fails on nesting beyond kMaxNesting and integers beyond 64 bits.
Result<Value> from_json(const nlohmann::ordered_json& json);

}  // namespace ll::jinja
