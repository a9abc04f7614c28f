// Every field of every request, in one table: type, range, default, where it is taken, what it does. Validation, the
// OpenAPI document (openapi.h), docs/server.md's table and the generated hostile requests of the tests all come from
// here.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "runtime/serve/api_error.h"

namespace ll::serve {

using Json = nlohmann::ordered_json;

enum class FieldType : uint8_t {
  kBool,
  kInteger,
  kNumber,
  kString,       // min, max: bytes
  kStrings,      // a string or a list of them; max: entries
  kIntegers,     // a list of integers; min, max: of each
  kPrompt,       // a string, a list of strings, a list of token ids, or a list of such lists
  kObject,       // max: members
  kList,         // of objects; min, max: entries
  kChoice,       // one of `choices`
  kTokenBiases,  // an object from token ids to numbers; min, max: of each number
  kAny,          // shape checked where it is used
};

// Endpoints as bits.
using Endpoints = uint32_t;
inline constexpr Endpoints kChat = 1, kCompletion = 2, kTokenize = 4, kDetokenize = 8, kTemplate = 16;
inline constexpr Endpoints kGenerate = kChat | kCompletion;

enum class FieldUse : uint8_t {
  kUsed,
  kIgnored,  // taken for compatibility, checked, and without effect
  kRefused,  // 501 unless null: `doc` says why
};

struct Field {
  const char* name;  // "stream_options.include_usage": a member of the object above it
  FieldType type;
  Endpoints endpoints;
  double min = 0, max = 0;        // inclusive; what they bound depends on the type
  const char* default_json = "";  // as JSON; empty: none
  const char* choices = "";       // separated by '|'
  FieldUse use = FieldUse::kUsed;
  bool required = false;
  const char* doc = "";
};

std::span<const Field> fields();

// Named limits that the table and the checks of shapes share.
inline constexpr size_t kMostMessages = 2048, kMostTools = 128, kMostStops = 16, kMostStopBytes = 256;
inline constexpr size_t kMostPrompts = 64, kMostJsonDepth = 64, kMostJsonValues = 1 << 20, kMostStopTokenIds = 64;

// Parses a request body: an object in UTF-8, nested at most kMostJsonDepth deep, of at most kMostJsonValues values.
Checked<Json> parse_body(std::string_view body);

// A body whose fields have passed the table's checks, with defaults for what is absent or null.
class Fields {
 public:
  // Checks the body of one endpoint; unknown members are ignored. `body` outlives the result.
  static Checked<Fields> check(const Json& body, Endpoints endpoint);

  // null when absent or null.
  const Json* find(std::string_view name) const;
  bool has(std::string_view name) const { return find(name) != nullptr; }
  // The value or the table's default; 0, false, "" where there is none.
  bool boolean(std::string_view name) const;
  int64_t integer(std::string_view name) const;
  double number(std::string_view name) const;
  std::string text(std::string_view name) const;

 private:
  explicit Fields(const Json& body) : body_(&body) {}
  const Json* body_;
  Endpoints endpoint_ = 0;
};

// How messages call a value's type: "a string", "an object", ...
const char* json_type_name(const Json& value);

}  // namespace ll::serve
