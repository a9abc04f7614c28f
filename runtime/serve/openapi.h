// The API's description, made from the tables of fields and routes.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "runtime/serve/fields.h"

namespace ll::serve {

// One method at one path.
struct Route {
  const char* method;
  const char* path;
  Endpoints endpoint = 0;  // whose fields the body has; 0: no body
  bool is_public = false;  // answered without an API key
  const char* doc = "";
};

// A route's path in OpenAPI's terms: "/v1/models/*" is "/v1/models/{name}".
std::string openapi_path(std::string_view path);

// OpenAPI 3.1 as JSON text. Fields that have no effect or are refused are marked with x-use.
std::string openapi_json(std::span<const Route> routes, bool needs_key);

}  // namespace ll::serve
