// Chat templates: Jinja2 as Hugging Face transformers configures it (ImmutableSandboxedEnvironment, trim_blocks,
// lstrip_blocks, loop controls, the `generation` tag, its own `tojson`, `raise_exception` and `strftime_now`), exact to
// the byte. A template is compiled once into a flat program that a plan can hold; rendering touches nothing of the host
// and stays within budgets, whatever the template and its input are.
//
// Departures from Jinja2, all of them errors and never different text: integers beyond 64 bits, values nested deeper
// than 64, calls deeper than 64, templates that load other templates, and the filters urlize, wordwrap, striptags,
// pprint and random.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace ll::jinja {

// One input value, as JSON has them. Strings are UTF-8. Read from JSON text by parse_json (json_value.h).
struct Value {
  enum class Kind : uint8_t { kNone, kBool, kInt, kFloat, kString, kList, kDict };

  Kind kind = Kind::kNone;
  // Strings only: what this text prints may be read as special tokens. For bos_token and its like, which the vocabulary
  // supplies; never for text that a request supplies.
  bool trusted = false;
  bool boolean = false;
  int64_t integer = 0;
  double number = 0;
  std::string text;
  std::vector<Value> items;       // elements of a list, values of a dict
  std::vector<std::string> keys;  // keys of a dict in their order, one per item; unique

  static Value none() { return {}; }
  static Value of(bool value);
  static Value of(int64_t value);
  static Value of(double value);
  static Value of(std::string value, bool trusted = false);
  static Value of(const char* value) { return of(std::string(value)); }
  static Value list(std::vector<Value> items = {});
  static Value dict();

  // Dicts: replaces the value of a key or appends it. Linear in the number of keys.
  void set(std::string key, Value value);
  // Dicts: the value of a key, or null.
  const Value* find(std::string_view key) const;
};

// What strftime_now prints: a local time without zone.
struct CivilTime {
  int year = 1970, month = 1, day = 1, hour = 0, minute = 0, second = 0;
};
// Reads 2026-01-02T03:04:05.
Result<CivilTime> parse_civil_time(std::string_view text);

// Source text of a template.
inline constexpr size_t kMaxSource = 1 << 20;
// Nesting of blocks and of expressions in a template, of values, and of calls while rendering.
inline constexpr int kMaxNesting = 64;

struct RenderOptions {
  std::optional<CivilTime> now;        // absent: this machine's clock
  uint64_t max_steps = 1'000'000;      // instructions; work on long strings and lists counts as more
  uint64_t max_output = 4 << 20;       // bytes of the result and of every string on the way
  uint64_t max_memory = 256ull << 20;  // bytes of all values made on the way
};

// A piece of rendered text. Only trusted pieces (the template's own literals, and trusted input) may be read as special
// tokens; a user's text arrives in untrusted pieces whatever filters, slices or concatenations it went through.
struct Segment {
  size_t size;  // bytes
  bool trusted;
};
struct Rendered {
  std::string text;
  std::vector<Segment> segments;  // cover the text in order; neighbours differ in `trusted`
};

struct Program;

// A compiled template. Immutable; any number of threads may render it at once.
class Template {
 public:
  // Fails with kBadData and Jinja2's message behind "line N: ".
  static Result<Template> compile(std::string_view source);

  // The program as bytes, the same for the same source; and back, checked so that no bytes can do harm.
  std::string serialize() const;
  static Result<Template> deserialize(std::span<const std::byte> bytes);

  // `context` is a dict: the template's variables. A failure is kBadData with the message alone, as str(exception)
  // gives it in Python; raise_exception(message) fails with that message.
  Result<Rendered> render(const Value& context, const RenderOptions& options = {}) const;

 private:
  explicit Template(std::shared_ptr<const Program> program) : program_(std::move(program)) {}
  std::shared_ptr<const Program> program_;
};

}  // namespace ll::jinja
