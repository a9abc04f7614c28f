// Errors as values. Every function that input can make fail returns Result<T> (or Status for no value);
// asserts are for our own mistakes only and must not be reachable from input.
#pragma once

#include <fmt/core.h>

#include <cassert>
#include <new>
#include <optional>
#include <string>
#include <utility>

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
  Error in(std::string_view where) &&;
};

// The message is formatted with {fmt}; the format is checked against the arguments where it is compiled.
[[nodiscard]] Error format_error(Code code, fmt::string_view format, fmt::format_args args);
template <class... A>
[[nodiscard]] Error error(Code code, fmt::format_string<A...> format, A&&... args) {
  return format_error(code, format, fmt::make_format_args(args...));
}
template <class... A>
[[nodiscard]] Error bad_data(fmt::format_string<A...> format, A&&... args) {
  return format_error(Code::kBadData, format, fmt::make_format_args(args...));
}
template <class... A>
[[nodiscard]] Error unsupported(fmt::format_string<A...> format, A&&... args) {
  return format_error(Code::kUnsupported, format, fmt::make_format_args(args...));
}
template <class... A>
[[nodiscard]] Error usage(fmt::format_string<A...> format, A&&... args) {
  return format_error(Code::kUsage, format, fmt::make_format_args(args...));
}

// A value or an Error. Test with `if (!r)`, read with `*r`, hand on with TRY.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)), ok_(true) {}       // NOLINT(google-explicit-constructor)
  Result(Error error) : error_(std::move(error)), ok_(false) {}  // NOLINT(google-explicit-constructor)
  Result(Result&& other) noexcept : ok_(other.ok_) {
    if (ok_) {
      new (&value_) T(std::move(other.value_));
    } else {
      new (&error_) Error(std::move(other.error_));
    }
  }
  Result& operator=(Result&& other) noexcept {
    if (this != &other) {
      this->~Result();
      new (this) Result(std::move(other));
    }
    return *this;
  }
  ~Result() {
    if (ok_) {
      value_.~T();
    } else {
      error_.~Error();
    }
  }

  explicit operator bool() const { return ok_; }
  T& operator*() & { return *operator->(); }
  const T& operator*() const& { return *operator->(); }
  T&& operator*() && { return std::move(*operator->()); }
  T* operator->() {
    assert(ok_);
    return &value_;
  }
  const T* operator->() const {
    assert(ok_);
    return &value_;
  }
  Error& error() & {
    assert(!ok_);
    return error_;
  }
  const Error& error() const& {
    assert(!ok_);
    return error_;
  }
  Error&& error() && { return std::move(error()); }

 private:
  // Not a std::variant: one for every T takes a tenth of the time that our sources take to compile.
  union {
    T value_;
    Error error_;
  };
  bool ok_;
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
