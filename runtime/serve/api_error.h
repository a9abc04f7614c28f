// Failures as clients see them: {"error": {"message", "type", "param", "code"}}.
#pragma once

#include <fmt/core.h>

#include <optional>
#include <string>
#include <variant>

#include "runtime/base/result.h"

namespace ll::serve {

struct ApiError {
  int status = 400;
  std::string message;
  std::string param;  // the field at fault, such as "messages[0].role"; empty: none
  // exceed_context_size_error has its own type and two more members.
  std::optional<std::pair<size_t, size_t>> context{};  // tokens of the prompt, tokens of the context
  int retry_after = 0;                                 // seconds; 0: no such header
};

// "invalid_request_error" and the like: OpenAI's and llama.cpp's names.
const char* error_type(const ApiError& error);
// The object in braces alone: {"message": ...}.
std::string error_object(const ApiError& error);
// The whole body: {"error": {...}}.
std::string error_body(const ApiError& error);

template <class... A>
ApiError invalid(std::string param, fmt::format_string<A...> format, A&&... args) {
  return {400, fmt::format(format, std::forward<A>(args)...), std::move(param)};
}
template <class... A>
ApiError not_supported(std::string param, fmt::format_string<A...> format, A&&... args) {
  return {501, fmt::format(format, std::forward<A>(args)...), std::move(param)};
}
// A library failure while a request was served: the client's fault for kUsage and kBadData, ours otherwise.
ApiError from_error(const Error& error, std::string param = {});

// A value or an ApiError; like ll::Result.
template <class T>
class [[nodiscard]] Checked {
 public:
  Checked(T value) : state_(std::in_place_index<0>, std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Checked(ApiError error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)
  explicit operator bool() const { return state_.index() == 0; }
  T& operator*() & { return *std::get_if<0>(&state_); }
  const T& operator*() const& { return *std::get_if<0>(&state_); }
  T&& operator*() && { return std::move(*std::get_if<0>(&state_)); }
  T* operator->() { return std::get_if<0>(&state_); }
  const T* operator->() const { return std::get_if<0>(&state_); }
  const ApiError& error() const& { return *std::get_if<1>(&state_); }
  ApiError& error() & { return *std::get_if<1>(&state_); }
  ApiError&& error() && { return std::move(*std::get_if<1>(&state_)); }

 private:
  std::variant<T, ApiError> state_;
};

}  // namespace ll::serve
