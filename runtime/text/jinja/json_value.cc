#include "runtime/text/jinja/json_value.h"

#include <nlohmann/json.hpp>

#include <map>

namespace ll::jinja {
namespace {

// Builds a Value from a parser's events: no recursion, and equal keys are found in logarithmic time.
class Builder : public nlohmann::json_sax<nlohmann::ordered_json> {
 public:
  Result<Value> take() && {
    if (error_) return *error_;
    return std::move(root_);
  }

  bool null() override { return add({}); }
  bool boolean(bool value) override { return add(Value::of(value)); }
  bool number_integer(number_integer_t value) override { return add(Value::of(static_cast<int64_t>(value))); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<uint64_t>(INT64_MAX)) return fail(bad_data("integer {} does not fit 64 bits", value));
    return add(Value::of(static_cast<int64_t>(value)));
  }
  bool number_float(number_float_t value, const string_t& text) override {
    if (text.find_first_of(".eE") == string_t::npos) {
      return fail(bad_data("integer {} does not fit 64 bits", text.substr(0, 40)));
    }
    return add(Value::of(value));
  }
  bool string(string_t& value) override { return add(Value::of(std::move(value))); }
  bool binary(binary_t&) override { return fail(bad_data("binary data is no JSON")); }
  bool start_object(size_t) override { return open(Value::dict()); }
  bool start_array(size_t) override { return open(Value::list()); }
  bool key(string_t& name) override {
    Level& level = open_.back();
    const auto [known, fresh] = level.places.emplace(name, level.value.keys.size());
    level.place = known->second;
    if (fresh) {
      level.value.keys.push_back(std::move(name));
      level.value.items.emplace_back();
    }
    return true;
  }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    std::string message = error.what();
    const size_t end = message.find("] ");
    if (end != std::string::npos) message.erase(0, end + 2);
    return fail(bad_data("JSON is malformed at byte {}: {}", position, message));
  }

 private:
  struct Level {
    Value value;
    std::map<std::string, size_t> places;  // of keys
    size_t place = 0;                      // of the key read last
  };

  bool fail(Error error) {
    error_ = std::move(error);
    return false;
  }
  bool open(Value value) {
    if (open_.size() >= kMaxNesting) return fail(bad_data("JSON is nested deeper than {} levels", kMaxNesting));
    open_.push_back({std::move(value), {}, 0});
    return true;
  }
  bool close() {
    Value value = std::move(open_.back().value);
    open_.pop_back();
    return add(std::move(value));
  }
  bool add(Value value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (Level& level = open_.back(); level.value.kind == Value::Kind::kList) {
      level.value.items.push_back(std::move(value));
    } else {
      level.value.items[level.place] = std::move(value);
    }
    return true;
  }

  Value root_;
  std::vector<Level> open_;
  std::optional<Error> error_;
};

Result<Value> convert(const nlohmann::ordered_json& json, int depth) {
  using Type = nlohmann::ordered_json::value_t;
  if (depth > kMaxNesting) return bad_data("JSON is nested deeper than {} levels", kMaxNesting);
  switch (json.type()) {
    case Type::boolean:
      return Value::of(json.get<bool>());
    case Type::number_integer:
      return Value::of(json.get<int64_t>());
    case Type::number_unsigned: {
      const auto value = json.get<uint64_t>();
      if (value > static_cast<uint64_t>(INT64_MAX)) return bad_data("integer {} does not fit 64 bits", value);
      return Value::of(static_cast<int64_t>(value));
    }
    case Type::number_float:
      return Value::of(json.get<double>());
    case Type::string:
      return Value::of(json.get_ref<const std::string&>());
    case Type::array: {
      Value list = Value::list();
      for (const auto& item : json) {
        TRY_ASSIGN(list.items.emplace_back(), convert(item, depth + 1));
      }
      return list;
    }
    case Type::object: {
      Value dict = Value::dict();
      for (const auto& [key, item] : json.items()) {
        dict.keys.push_back(key);
        TRY_ASSIGN(dict.items.emplace_back(), convert(item, depth + 1));
      }
      return dict;
    }
    case Type::binary:
    case Type::discarded:
      return bad_data("binary data is no JSON");
    case Type::null:
      break;
  }
  return Value::none();
}

}  // namespace

Result<Value> parse_json(std::string_view text) {
  Builder builder;
  nlohmann::ordered_json::sax_parse(text.begin(), text.end(), &builder);
  return std::move(builder).take();
}

Result<Value> from_json(const nlohmann::ordered_json& json) { return convert(json, 1); }

}  // namespace ll::jinja
