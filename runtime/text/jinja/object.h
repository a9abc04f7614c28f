// Values while a template runs: Python's, as far as templates see them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/text/jinja/text.h"

namespace ll::jinja {

enum class Kind : uint8_t {
  kMissing,  // no value: an argument that was not given
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kDictView,
  kRange,
  kIterator,
  kNamespace,
  kMacro,
  kMethod,
  kFunction,
  kLoop,
  kCycler,
  kJoiner,
};

// Whatever lives on the heap of a rendering and dies with it: nothing is counted, nothing frees in depth.
struct Object {
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() = default;
};

struct String;
struct List;
struct Dict;

// One value, 16 bytes. Objects behind it never change once they are reachable from a template, except namespaces,
// loops, cyclers, joiners and iterators.
struct V {
  Kind kind = Kind::kMissing;
  bool trusted = false;  // numbers, bools, None: made by the template, not read from its input
  union {
    bool boolean;
    int64_t integer = 0;
    double number;
    Object* object;
  };

  bool is(Kind k) const { return kind == k; }
  bool is_sequence() const { return is(Kind::kList) || is(Kind::kTuple); }
  bool missing() const { return kind == Kind::kMissing; }
  bool is_number() const { return kind == Kind::kBool || kind == Kind::kInt || kind == Kind::kFloat; }
  bool is_integral() const { return kind == Kind::kBool || kind == Kind::kInt; }
  int64_t as_integer() const { return kind == Kind::kBool ? boolean : integer; }
  double as_number() const { return kind == Kind::kFloat ? number : static_cast<double>(as_integer()); }
  template <class T>
  T* as() const {
    return static_cast<T*>(object);
  }
  const Text& text() const;
  const std::string& bytes() const { return text().bytes; }
  const std::vector<V>& items() const;  // lists and tuples
};

inline V make(Kind kind, bool trusted) {
  V v;
  v.kind = kind;
  v.trusted = trusted;
  return v;
}
inline V none() { return make(Kind::kNone, true); }
inline V boolean(bool value) {
  V v = make(Kind::kBool, true);
  v.boolean = value;
  return v;
}
inline V integer(int64_t value, bool trusted) {
  V v = make(Kind::kInt, trusted);
  v.integer = value;
  return v;
}
inline V number(double value, bool trusted) {
  V v = make(Kind::kFloat, trusted);
  v.number = value;
  return v;
}

__extension__ typedef __int128 Wide;  // for sums and products of any two integers

struct String : Object {
  Text text;
  bool ascii = true;
  bool markup = false;  // markupsafe's Markup: made by |safe and |escape
};

struct List : Object {  // and tuples
  std::vector<V> items;
  bool group = false;  // a pair that groupby made: (grouper, list)
};

struct Dict : Object {
  std::vector<std::pair<V, V>> items;  // keys are unique
  std::vector<uint32_t> order;         // items sorted by key, once there are many
};

struct DictView : Object {
  enum class What : uint8_t { kKeys, kValues, kItems };
  What what = What::kKeys;
  const Dict* dict = nullptr;
};

struct Range : Object {
  int64_t start = 0, stop = 0, step = 1;
  uint64_t size() const;
  int64_t at(uint64_t index) const { return start + static_cast<int64_t>(index) * step; }
};

// A generator or another iterator: its items were computed when it was made, but each is handed out once.
struct Iterator : Object {
  std::vector<V> items;
  size_t next = 0;
  std::optional<std::string> error;  // met behind the last item
  const char* type = "generator";
};

struct Undefined : Object {
  std::string message;
};

struct Namespace : Object {
  std::vector<std::pair<std::string, V>> attributes;
};

// Variables. A scope sees those around it; a loop's body has one per iteration.
struct Scope : Object {
  Scope* parent = nullptr;    // where names are looked up next
  Scope* previous = nullptr;  // what kPopScope returns to
  bool captured = false;      // a macro may outlive the block
  std::vector<std::pair<uint32_t, V>> variables;
};

struct Macro : Object {
  uint32_t shape = 0;
  Scope* scope = nullptr;
};

struct Method : Object {
  V self;
  int16_t index = 0;  // in the table of the methods of its type
};

enum class FunctionId : uint8_t { kRange, kDict, kNamespace, kCycler, kJoiner, kRaiseException, kStrftimeNow, kLipsum };
struct Function : Object {
  FunctionId id = FunctionId::kRange;
};

struct Loop : Object {
  const std::vector<V>* items = nullptr;
  size_t next = 0;  // index of the item that comes next
  int64_t depth0 = 0;
  bool sized = true;  // over something with a length: reading loop.length does not matter, but printing would
  bool recursive = false;
  bool filtering = false;  // collects the items that pass a loop's `if`
  bool completed = false;  // an iteration ran to its end
  size_t entry = 0;        // where a recursive call begins
  Scope* outer = nullptr;  // the scope around the loop
  std::vector<V> kept;     // while filtering
  V last_changed;          // loop.changed(): tuple of the last values
};

struct Cycler : Object {
  std::vector<V> items;
  size_t position = 0;
};

struct Joiner : Object {
  V separator;
  bool used = false;
};

inline const Text& V::text() const { return static_cast<String*>(object)->text; }
inline const std::vector<V>& V::items() const { return static_cast<List*>(object)->items; }

// type(v).__name__
const char* type_name(const V& v);

}  // namespace ll::jinja
