// Filters, tests, methods and functions: tables of what Jinja2 and Python offer to templates.
#pragma once

#include <span>
#include <string_view>

#include "runtime/base/result.h"
#include "runtime/text/jinja/object.h"

namespace ll::jinja {

class Machine;

// Arguments of a call. A keyword's name is a string.
struct Args {
  std::span<const V> positional;
  std::span<const std::pair<V, V>> named;
};

// How a Python function takes its arguments, for its messages. `parameters` are names separated by commas, without the
// `hidden` ones before them (self, environment, ...) that count in messages.
struct Signature {
  const char* function;
  const char* parameters;
  uint8_t required;
  uint8_t hidden = 0;
};
inline constexpr size_t kMaxParameters = 7;
// The arguments in the order of the parameters; kMissing where one was not given.
struct Bound {
  V values[kMaxParameters];
  const V& operator[](size_t i) const { return values[i]; }
};
Result<Bound> bind(const Signature& signature, const Args& args);

// Index into the table of built-ins, or -1.
int find_filter(std::string_view name);
int find_test(std::string_view name);
Result<V> call_filter(Machine& m, int index, const V& value, const Args& args);
Result<bool> call_test(Machine& m, int index, const V& value, const Args& args);

// Index of a method that values of this kind have, or -1.
int find_method(Kind kind, std::string_view name);
Result<V> call_method(Machine& m, const Method& method, const Args& args);

Result<V> call_function(Machine& m, FunctionId id, const Args& args);

}  // namespace ll::jinja
