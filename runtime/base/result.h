// Errors as values. Every function that input can make fail returns Result<T> (or Status for no value);
// asserts are for our own mistakes only and must not be reachable from input.
#pragma once

#include <fmt/core.h>

#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace ll {

// Process exit codes after sysexits(3); the same numbers travel through the C ABI as status codes.
enum class Code : int {
  kOk = 0,
  kUsage = 64,        // wrong command line or API argument
  kBadData = 65,      // a model, plan or request is malformed
  kNoInput = 66,      // a file to read does not exist or cannot be opened
  kUnsupported = 69,  // well formed, but not something this build or machine can do
  kInternal = 70,     // a bug of ours
  kOutOfMemory = 71,
  kCannotCreate = 73,  // an output cannot be created
  kIo = 74,            // reading or writing failed midway
  kRetry = 75,         // transient device fault: restart the process
};

// "bad data", "unsupported", ...: the stable name used by --error-format json.
const char* code_name(Code code);

// One failure: a code and one lower-case line that says what was found and what was expected.
struct Error {
  Code code = Code::kInternal;
  std::string message;

  // Prefixes where it happened: "config.json: <message>".
  Error in(std::string_view where) && {
    message = fmt::format("{}: {}", where, message);
    return std::move(*this);
  }
};

template <class... A>
[[nodiscard]] Error error(Code code, fmt::format_string<A...> format, A&&... args) {
  return Error{code, fmt::format(format, std::forward<A>(args)...)};
}
template <class... A>
[[nodiscard]] Error bad_data(fmt::format_string<A...> format, A&&... args) {
  return Error{Code::kBadData, fmt::format(format, std::forward<A>(args)...)};
}
template <class... A>
[[nodiscard]] Error unsupported(fmt::format_string<A...> format, A&&... args) {
  return Error{Code::kUnsupported, fmt::format(format, std::forward<A>(args)...)};
}
template <class... A>
[[nodiscard]] Error usage(fmt::format_string<A...> format, A&&... args) {
  return Error{Code::kUsage, fmt::format(format, std::forward<A>(args)...)};
}

// A value or an Error. Test with `if (!r)`, read with `*r`, hand on with TRY.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  explicit operator bool() const { return state_.index() == 0; }
  T& operator*() & { return *std::get_if<0>(&state_); }
  const T& operator*() const& { return *std::get_if<0>(&state_); }
  T&& operator*() && { return std::move(*std::get_if<0>(&state_)); }
  T* operator->() { return std::get_if<0>(&state_); }
  const T* operator->() const { return std::get_if<0>(&state_); }
  Error& error() & { return *std::get_if<1>(&state_); }
  const Error& error() const& { return *std::get_if<1>(&state_); }
  Error&& error() && { return std::move(*std::get_if<1>(&state_)); }

 private:
  std::variant<T, Error> state_;
};

// Success or an Error. `return Status{};` is success.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  explicit operator bool() const { return !error_; }
  Error& error() & { return *error_; }
  const Error& error() const& { return *error_; }
  Error&& error() && { return std::move(*error_); }

 private:
  std::optional<Error> error_;
};

}  // namespace ll

#define LL_CONCAT_(a, b) a##b
#define LL_CONCAT(a, b) LL_CONCAT_(a, b)

// TRY(expr);             returns the error of a Status or Result from the enclosing function.
// TRY_ASSIGN(var, expr); declares or assigns `var` from a Result, or returns its error.
#define TRY(expr)                                                           \
  do {                                                                      \
    if (auto ll_try_ = (expr); !ll_try_) return std::move(ll_try_).error(); \
  } while (false)
#define TRY_ASSIGN_(tmp, var, expr)        \
  auto tmp = (expr);                       \
  if (!tmp) return std::move(tmp).error(); \
  var = *std::move(tmp)
#define TRY_ASSIGN(var, expr) TRY_ASSIGN_(LL_CONCAT(ll_try_, __COUNTER__), var, expr)
