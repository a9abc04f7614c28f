// Writes JSON text: the answers of the server, some thousands a second.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ll::serve {

// Appends `text` as a JSON string with quotes. Valid UTF-8 stays as it is; bytes that are none become U+FFFD, so the
// result is valid whatever the input is.
void append_json_string(std::string& out, std::string_view text);
// Appends a number; 0 for what JSON cannot hold (NaN, infinities).
void append_json_number(std::string& out, double value);

// Builds one JSON text. Commas come by themselves; calls have to nest as the text does.
class JsonWriter {
 public:
  explicit JsonWriter(std::string& out) : out_(out) {}

  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view name);

  JsonWriter& string(std::string_view text);
  JsonWriter& number(double value);
  JsonWriter& integer(int64_t value);
  JsonWriter& boolean(bool value);
  JsonWriter& null();
  // Text that is JSON already.
  JsonWriter& raw(std::string_view json);

  // key and value in one.
  JsonWriter& string(std::string_view name, std::string_view text) { return key(name).string(text); }
  JsonWriter& number(std::string_view name, double value) { return key(name).number(value); }
  JsonWriter& integer(std::string_view name, int64_t value) { return key(name).integer(value); }
  JsonWriter& boolean(std::string_view name, bool value) { return key(name).boolean(value); }
  JsonWriter& null(std::string_view name) { return key(name).null(); }
  JsonWriter& raw(std::string_view name, std::string_view json) { return key(name).raw(json); }

 private:
  JsonWriter& open(char bracket);
  JsonWriter& close(char bracket);
  void separate();

  std::string& out_;
  bool comma_ = false;
};

}  // namespace ll::serve
