#include "runtime/text/jinja/template.h"

#include "runtime/text/jinja/machine.h"
#include "runtime/text/jinja/parser.h"
#include "runtime/text/utf8.h"

namespace ll::jinja {

Value Value::of(bool value) {
  Value v;
  v.kind = Kind::kBool;
  v.boolean = value;
  return v;
}

Value Value::of(int64_t value) {
  Value v;
  v.kind = Kind::kInt;
  v.integer = value;
  return v;
}

Value Value::of(double value) {
  Value v;
  v.kind = Kind::kFloat;
  v.number = value;
  return v;
}

Value Value::of(std::string value, bool trusted) {
  Value v;
  v.kind = Kind::kString;
  v.trusted = trusted;
  v.text = std::move(value);
  return v;
}

Value Value::list(std::vector<Value> items) {
  Value v;
  v.kind = Kind::kList;
  v.items = std::move(items);
  return v;
}

Value Value::dict() {
  Value v;
  v.kind = Kind::kDict;
  return v;
}

void Value::set(std::string key, Value value) {
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] == key) {
      items[i] = std::move(value);
      return;
    }
  }
  keys.push_back(std::move(key));
  items.push_back(std::move(value));
}

const Value* Value::find(std::string_view key) const {
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] == key) return &items[i];
  }
  return nullptr;
}

Result<Template> Template::compile(std::string_view source) {
  if (source.size() > kMaxSource) return bad_data("template has {} bytes, more than {}", source.size(), kMaxSource);
  if (!is_utf8(source)) return bad_data("template is not UTF-8");
  TRY_ASSIGN(Program program, jinja::compile(source));
  return Template(std::make_shared<const Program>(std::move(program)));
}

std::string Template::serialize() const { return jinja::serialize(*program_); }

Result<Template> Template::deserialize(std::span<const std::byte> bytes) {
  TRY_ASSIGN(Program program, jinja::deserialize(bytes));
  return Template(std::make_shared<const Program>(std::move(program)));
}

Result<Rendered> Template::render(const Value& context, const RenderOptions& options) const {
  Machine machine(*program_, options);
  return machine.run(context);
}

}  // namespace ll::jinja
