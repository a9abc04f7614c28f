#include "runtime/serve/api_error.h"

#include "runtime/serve/json_writer.h"

namespace ll::serve {

const char* error_type(const ApiError& error) {
  if (error.context) return "exceed_context_size_error";
  switch (error.status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 500:
      return "server_error";
    case 501:
      return "not_supported_error";
    case 503:
      return "unavailable_error";
    default:
      return "invalid_request_error";
  }
}

std::string error_object(const ApiError& error) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().string("message", error.message).string("type", error_type(error));
  if (error.param.empty()) {
    json.null("param");
  } else {
    json.string("param", error.param);
  }
  json.integer("code", error.status);
  if (error.context) {
    json.integer("n_prompt_tokens", static_cast<int64_t>(error.context->first));
    json.integer("n_ctx", static_cast<int64_t>(error.context->second));
  }
  json.end_object();
  return out;
}

std::string error_body(const ApiError& error) { return "{\"error\":" + error_object(error) + "}"; }

ApiError from_error(const Error& error, std::string param) {
  switch (error.code) {
    case Code::kUsage:
    case Code::kBadData:
      return {400, error.message, std::move(param)};
    case Code::kUnsupported:
      return {501, error.message, std::move(param)};
    case Code::kRetry:
      return {503, error.message, std::move(param)};
    default:
      return {500, error.message, std::move(param)};
  }
}

}  // namespace ll::serve
