#include "runtime/serve/openapi.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <vector>

#include "runtime/serve/json_writer.h"

namespace ll::serve {
namespace {

using T = FieldType;

void number(JsonWriter& json, const char* name, double value) {
  if (std::abs(value) < 9e15 && value == std::floor(value)) {
    json.integer(name, static_cast<int64_t>(value));
  } else {
    json.key(name).raw(fmt::format("{:.0f}", value) == fmt::format("{}", value) ? fmt::format("{:.0f}", value)
                                                                                : fmt::format("{}", value));
  }
}

void range(JsonWriter& json, const Field& f) {
  number(json, "minimum", f.min);
  number(json, "maximum", f.max);
}

void integers(JsonWriter& json, double min, double max) {
  json.begin_object().string("type", "array").key("items").begin_object().string("type", "integer");
  number(json, "minimum", min);
  number(json, "maximum", max);
  json.end_object().end_object();
}

void string_items(JsonWriter& json, const Field& f) {
  json.key("oneOf").begin_array();
  json.begin_object().string("type", "string").integer("maxLength", kMostStopBytes).end_object();
  json.begin_object().string("type", "array");
  number(json, "maxItems", f.max);
  json.key("items").begin_object().string("type", "string").integer("maxLength", kMostStopBytes).end_object();
  json.end_object().end_array();
}

void choices(JsonWriter& json, const Field& f) {
  json.key("enum").begin_array();
  for (std::string_view rest = f.choices;;) {
    const size_t bar = rest.find('|');
    json.string(rest.substr(0, bar));
    if (bar == std::string_view::npos) break;
    rest.remove_prefix(bar + 1);
  }
  json.end_array();
}

// The members of a field's schema but for those of the objects below it.
void describe(JsonWriter& json, const Field& f) {
  switch (f.type) {
    case T::kBool:
      json.string("type", "boolean");
      break;
    case T::kInteger:
    case T::kNumber:
      json.string("type", f.type == T::kInteger ? "integer" : "number");
      range(json, f);
      break;
    case T::kString:
      json.string("type", "string");
      number(json, "maxLength", f.max);
      break;
    case T::kStrings:
      string_items(json, f);
      break;
    case T::kIntegers:
      json.string("type", "array").key("items").begin_object().string("type", "integer");
      range(json, f);
      json.end_object();
      break;
    case T::kPrompt:
      json.key("oneOf").begin_array();
      json.begin_object().string("type", "string").end_object();
      json.begin_object().string("type", "array").integer("minItems", 1);
      number(json, "maxItems", f.max);
      json.key("items").begin_object().string("type", "string").end_object().end_object();
      integers(json, 0, 2147483647);
      json.begin_object().string("type", "array").integer("minItems", 1);
      number(json, "maxItems", f.max);
      json.key("items");
      integers(json, 0, 2147483647);
      json.end_object().end_array();
      break;
    case T::kObject:
      json.string("type", "object");
      number(json, "maxProperties", f.max);
      break;
    case T::kList:
      json.string("type", "array");
      number(json, "minItems", f.min);
      number(json, "maxItems", f.max);
      json.key("items").begin_object().string("type", "object").end_object();
      break;
    case T::kChoice:
      json.string("type", "string");
      choices(json, f);
      break;
    case T::kTokenBiases:
      json.string("type", "object").integer("maxProperties", 1024);
      json.key("additionalProperties").begin_object().string("type", "number");
      range(json, f);
      json.end_object();
      break;
    case T::kAny:
      break;
  }
  if (*f.default_json != 0) json.raw("default", f.default_json);
  json.string("description", f.doc);
  if (f.use != FieldUse::kUsed) json.string("x-use", f.use == FieldUse::kIgnored ? "ignored" : "refused");
}

void body_schema(JsonWriter& json, Endpoints endpoint) {
  json.begin_object().string("type", "object");
  bool any = false;
  for (const Field& f : fields()) any = any || ((f.endpoints & endpoint) != 0 && f.required);
  if (any) {
    json.key("required").begin_array();
    for (const Field& f : fields()) {
      if ((f.endpoints & endpoint) != 0 && f.required) json.string(f.name);
    }
    json.end_array();
  }
  json.key("properties").begin_object();
  for (const Field& f : fields()) {
    const std::string_view name = f.name;
    if ((f.endpoints & endpoint) == 0 || name.find('.') != std::string_view::npos) continue;
    json.key(name).begin_object();
    describe(json, f);
    bool nested = false;
    for (const Field& below : fields()) {
      const std::string_view inner = below.name;
      if ((below.endpoints & endpoint) == 0 || inner.size() <= name.size() || !inner.starts_with(name) ||
          inner[name.size()] != '.') {
        continue;
      }
      if (!nested) json.key("properties").begin_object();
      nested = true;
      json.key(inner.substr(name.size() + 1)).begin_object();
      describe(json, below);
      json.end_object();
    }
    if (nested) json.end_object();
    json.end_object();
  }
  json.end_object().end_object();
}

void operation(JsonWriter& json, const Route& route, bool needs_key) {
  json.begin_object().string("summary", route.doc);
  if (openapi_path(route.path) != route.path) {
    json.key("parameters").begin_array().begin_object().string("name", "name").string("in", "path");
    json.boolean("required", true).key("schema").begin_object().string("type", "string").end_object();
    json.end_object().end_array();
  }
  if (needs_key && !route.is_public) {
    json.key("security").begin_array().begin_object().key("key").begin_array().end_array().end_object().end_array();
  }
  if (route.endpoint != 0) {
    json.key("requestBody").begin_object().boolean("required", true).key("content").begin_object();
    json.key("application/json").begin_object().key("schema");
    body_schema(json, route.endpoint);
    json.end_object().end_object().end_object();
  }
  json.key("responses").begin_object();
  json.key("200").begin_object().string("description", "the answer").end_object();
  json.key("default").begin_object().string("description", "an error").key("content").begin_object();
  json.key("application/json").begin_object().key("schema").begin_object().string("$ref", "#/components/schemas/Error");
  json.end_object().end_object().end_object().end_object();
  json.end_object().end_object();
}

}  // namespace

std::string openapi_path(std::string_view path) {
  const bool below = path.ends_with("/*");
  return below ? std::string(path.substr(0, path.size() - 1)) + "{name}" : std::string(path);
}

std::string openapi_json(std::span<const Route> routes, bool needs_key) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().string("openapi", "3.1.0");
  json.key("info").begin_object().string("title", "llrt serve").string("version", LLCUDA_VERSION);
  json.string("description",
              "OpenAI-compatible API. Members that are not listed are ignored; null is the same as absent.");
  json.end_object();
  json.key("paths").begin_object();
  std::map<std::string_view, std::vector<const Route*>> paths;
  for (const Route& route : routes) paths[route.path].push_back(&route);
  for (const auto& [path, methods] : paths) {
    json.key(openapi_path(path)).begin_object();
    for (const Route* route : methods) {
      std::string method = route->method;
      for (char& c : method) c = static_cast<char>(c + 32);
      json.key(method);
      operation(json, *route, needs_key);
    }
    json.end_object();
  }
  json.end_object();
  json.key("components").begin_object().key("schemas").begin_object().key("Error").begin_object();
  json.string("type", "object").key("required").begin_array().string("error").end_array();
  json.key("properties").begin_object().key("error").begin_object().string("type", "object");
  json.key("required").begin_array().string("message").string("type").string("param").string("code").end_array();
  json.key("properties").begin_object();
  json.key("message").begin_object().string("type", "string").end_object();
  json.key("type").begin_object().string("type", "string").end_object();
  json.key("param").begin_object().key("type").begin_array().string("string").string("null").end_array().end_object();
  json.key("code").begin_object().string("type", "integer").end_object();
  json.end_object().end_object().end_object().end_object().end_object();
  if (needs_key) {
    json.key("securitySchemes")
        .begin_object()
        .key("key")
        .begin_object()
        .string("type", "http")
        .string("scheme", "bearer");
    json.end_object().end_object();
  }
  json.end_object().end_object();
  return out;
}

}  // namespace ll::serve
