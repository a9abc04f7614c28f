// Typed, range-checked access to JSON files that people wrote: the counterpart of gguf::Metadata for Hugging Face
// folders.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace ll {

inline constexpr size_t kMaxJsonBytes = 16 << 20;
inline constexpr int kMaxJsonDepth = 64;

// Parses a whole document. kBadData beyond the limits, or where it is no JSON (naming other kinds of file).
Result<std::shared_ptr<const nlohmann::json>> parse_json(std::span<const std::byte> bytes);

// One JSON object, a view. null counts as absent, as in transformers. Errors name the key, what was wanted and what was
// found.
class JsonFields {
 public:
  // kBadData when `value` is no object. `where` goes before keys in messages: "rope_scaling.".
  static Result<JsonFields> of(const nlohmann::json& value, std::string where = "");

  const nlohmann::json* find(std::string_view key) const;  // null when absent or JSON null
  bool has(std::string_view key) const { return find(key) != nullptr; }
  bool has_key(std::string_view key) const;  // JSON null included

  Result<uint32_t> get_u32(std::string_view key, uint32_t min, uint32_t max) const;
  Result<uint32_t> get_u32(std::string_view key, uint32_t min, uint32_t max, uint32_t missing) const;
  Result<double> get_number(std::string_view key, double min, double max) const;
  Result<double> get_number(std::string_view key, double min, double max, double missing) const;
  Result<bool> get_bool(std::string_view key, bool missing) const;
  Result<std::string> get_text(std::string_view key) const;
  Result<std::string> get_text(std::string_view key, std::string_view missing) const;
  // A list of strings; empty when absent.
  Result<std::vector<std::string>> get_texts(std::string_view key) const;
  // A number or a list of numbers, in 0 .. max; empty when absent.
  Result<std::vector<uint32_t>> get_ids(std::string_view key, uint32_t max) const;
  // nullopt when absent.
  Result<std::optional<JsonFields>> get_object(std::string_view key) const;

  std::string name(std::string_view key) const;  // quoted, with `where`

 private:
  JsonFields(const nlohmann::json& value, std::string where) : value_(&value), where_(std::move(where)) {}
  const nlohmann::json* value_;
  std::string where_;
};

}  // namespace ll
