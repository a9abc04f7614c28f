#include "compiler/frontend/json_fields.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/base/byte_reader.h"
#include "runtime/base/escape.h"
#include "runtime/base/file_magic.h"

namespace ll {
namespace {

using nlohmann::json;

// How deep arrays and objects nest, without parsing: brackets outside of strings.
int depth_of(std::string_view text) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

// "a string", "the number 3": for messages.
std::string describe(const json& value) {
  if (value.is_number()) return value.dump();
  if (value.is_string()) return "the string " + quote(value.get_ref<const std::string&>());
  return value.type_name();
}

}  // namespace

Result<std::shared_ptr<const json>> parse_json(std::span<const std::byte> bytes) {
  if (bytes.size() > kMaxJsonBytes) return bad_data("{} bytes of JSON, the limit is {}", bytes.size(), kMaxJsonBytes);
  TRY_ASSIGN(const std::string_view text, ByteReader(bytes).text(bytes.size()));
  if (const int depth = depth_of(text); depth > kMaxJsonDepth) {
    return bad_data("JSON nested {} deep, the limit is {}", depth, kMaxJsonDepth);
  }
  auto value = std::make_shared<json>(json::parse(text.begin(), text.end(), nullptr, false));
  if (value->is_discarded()) {
    const std::string_view what = recognize(bytes);
    return what.empty() ? bad_data("not valid JSON") : bad_data("not valid JSON: this is {}", what);
  }
  return std::shared_ptr<const json>(std::move(value));
}

Result<JsonFields> JsonFields::of(const json& value, std::string where) {
  if (!value.is_object()) {
    return bad_data("{}{}, expected an object", where.empty() ? "found " : quote(where) + " is ", describe(value));
  }
  return JsonFields(value, std::move(where));
}

std::string JsonFields::name(std::string_view key) const {
  return quote(where_.empty() ? std::string(key) : fmt::format("{}.{}", where_, key));
}

const json* JsonFields::find(std::string_view key) const {
  const auto it = value_->find(std::string(key));
  return it == value_->end() || it->is_null() ? nullptr : &*it;
}

bool JsonFields::has_key(std::string_view key) const { return value_->contains(std::string(key)); }

Result<uint32_t> JsonFields::get_u32(std::string_view key, uint32_t min, uint32_t max) const {
  const std::string wanted = fmt::format("an integer from {} to {}", min, max);
  const json* value = find(key);
  if (value == nullptr) return bad_data("{} is missing, expected {}", name(key), wanted);
  if (!value->is_number_unsigned()) return bad_data("{} is {}, expected {}", name(key), describe(*value), wanted);
  const auto number = value->get<uint64_t>();
  if (number < min || number > max) return bad_data("{} is {}, expected {}", name(key), number, wanted);
  return static_cast<uint32_t>(number);
}

Result<uint32_t> JsonFields::get_u32(std::string_view key, uint32_t min, uint32_t max, uint32_t missing) const {
  if (!has(key)) return missing;
  return get_u32(key, min, max);
}

Result<double> JsonFields::get_number(std::string_view key, double min, double max) const {
  const std::string wanted = fmt::format("a number from {} to {}", min, max);
  const json* value = find(key);
  if (value == nullptr) return bad_data("{} is missing, expected {}", name(key), wanted);
  if (!value->is_number()) return bad_data("{} is {}, expected {}", name(key), describe(*value), wanted);
  const auto number = value->get<double>();
  if (!(number >= min && number <= max)) return bad_data("{} is {}, expected {}", name(key), number, wanted);
  return number;
}

Result<double> JsonFields::get_number(std::string_view key, double min, double max, double missing) const {
  if (!has(key)) return missing;
  return get_number(key, min, max);
}

Result<bool> JsonFields::get_bool(std::string_view key, bool missing) const {
  const json* value = find(key);
  if (value == nullptr) return missing;
  if (!value->is_boolean()) return bad_data("{} is {}, expected true or false", name(key), describe(*value));
  return value->get<bool>();
}

Result<std::string> JsonFields::get_text(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return bad_data("{} is missing, expected a string", name(key));
  if (!value->is_string()) return bad_data("{} is {}, expected a string", name(key), describe(*value));
  return value->get<std::string>();
}

Result<std::string> JsonFields::get_text(std::string_view key, std::string_view missing) const {
  if (!has(key)) return std::string(missing);
  return get_text(key);
}

Result<std::vector<std::string>> JsonFields::get_texts(std::string_view key) const {
  std::vector<std::string> out;
  const json* value = find(key);
  if (value == nullptr) return out;
  if (!value->is_array()) return bad_data("{} is {}, expected a list of strings", name(key), describe(*value));
  for (const json& item : *value) {
    if (!item.is_string()) return bad_data("{} holds {}, expected strings", name(key), describe(item));
    out.push_back(item.get<std::string>());
  }
  return out;
}

Result<std::vector<uint32_t>> JsonFields::get_ids(std::string_view key, uint32_t max) const {
  std::vector<uint32_t> out;
  const json* value = find(key);
  if (value == nullptr) return out;
  const json single = json::array({*value});
  for (const json& item : value->is_array() ? *value : single) {
    const bool valid = item.is_number_unsigned() && item.get<uint64_t>() <= max;
    if (!valid) return bad_data("{} holds {}, expected integers from 0 to {}", name(key), describe(item), max);
    out.push_back(static_cast<uint32_t>(item.get<uint64_t>()));
  }
  return out;
}

Result<std::optional<JsonFields>> JsonFields::get_object(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return std::optional<JsonFields>();
  TRY_ASSIGN(JsonFields fields, of(*value, where_.empty() ? std::string(key) : fmt::format("{}.{}", where_, key)));
  return std::optional<JsonFields>(std::move(fields));
}

}  // namespace ll
