// The border of the C ABI: nothing but status codes and the thread's last message gets out.
#pragma once

#include <llrt.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>

#include "runtime/base/result.h"

namespace ll::api {

// Remembers the message for llrt_last_error() on this thread; returns the code. Allocates nothing.
llrt_status fail(const Error& error) noexcept;
llrt_status fail(Code code, const char* message) noexcept;

// Runs `body`, a function returning Status, and turns its error, or whatever it throws, into a status.
template <class F>
llrt_status guard(F&& body) noexcept {
  try {
    const Status status = body();
    return status ? LLRT_OK : fail(status.error());
  } catch (const std::bad_alloc&) {
    return fail(Code::kOutOfMemory, "out of memory");
  } catch (const std::exception& e) {
    return fail(Code::kInternal, e.what());
  } catch (...) {
    return fail(Code::kInternal, "an exception of unknown type");
  }
}

template <class T>
Status need(const T* pointer, const char* name) {
  if (pointer == nullptr) return usage("'{}' is null", name);
  return {};
}

// Structs of parameters begin with their size as the caller was compiled. Members are only ever added at the end, so a
// smaller size is an older caller, and a larger one is fine as long as what we do not know is zero.
inline constexpr size_t kMaxStructSize = 4096;

Status check_struct_size(size_t size, size_t first_version, const char* name);

// *given over `defaults`; `defaults` alone when given is null. `first_version`: the struct's size in API version 1.
template <class T>
Result<T> read_params(const T* given, T defaults, size_t first_version, const char* name) {
  if (given == nullptr) return defaults;
  const auto* const bytes = reinterpret_cast<const unsigned char*>(given);
  size_t size = 0;
  std::memcpy(&size, bytes, sizeof size);
  TRY(check_struct_size(size, first_version, name));
  std::memcpy(&defaults, bytes, std::min(size, sizeof(T)));
  for (size_t i = sizeof(T); i < size; ++i) {
    if (bytes[i] != 0) {
      return unsupported("{}: byte {} is set, this library knows {} bytes (API version {})", name, i, sizeof(T),
                         LLRT_API_VERSION);
    }
  }
  defaults.struct_size = sizeof(T);
  return defaults;
}

// Writes as much of `value` as the caller knows; what it knows beyond becomes zero.
template <class T>
Status write_struct(T* out, T value, size_t size, size_t first_version, const char* name) {
  TRY(need(out, name));
  TRY(check_struct_size(size, first_version, name));
  value.struct_size = size;
  auto* const bytes = reinterpret_cast<unsigned char*>(out);
  std::memcpy(bytes, &value, std::min(size, sizeof(T)));
  if (size > sizeof(T)) std::memset(bytes + sizeof(T), 0, size - sizeof(T));
  return {};
}

}  // namespace ll::api
