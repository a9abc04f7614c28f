// Methods of values other than strings, and how all methods are found.
#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>

#include "runtime/text/jinja/machine.h"
#include "runtime/text/jinja/print.h"
#include "runtime/text/jinja/string_methods.h"

namespace ll::jinja {
namespace {

struct Row {
  Kind kind;
  const char* name;
  const char* parameters;
  uint8_t required;
  Result<V> (*call)(Machine&, const V& self, const Bound&);  // null: loop.cycle and loop.changed
};

template <DictView::What kWhat>
Result<V> view(Machine& m, const V& self, const Bound&) {
  auto* v = m.make<DictView>();
  v->what = kWhat;
  v->dict = self.as<Dict>();
  return Machine::value(Kind::kDictView, v);
}

Result<V> get(Machine& m, const V& self, const Bound& a) {
  TRY(m.hashable(a[0]));
  if (const V* found = m.lookup(*self.as<Dict>(), a[0])) return *found;
  return a[1].missing() ? none() : a[1];
}

Result<V> copy(Machine&, const V& self, const Bound&) { return self; }

Result<V> index_of(Machine& m, const V& self, const Bound& a) {
  TRY_ASSIGN(const std::vector<V>* items, m.items_of(self));
  const auto size = static_cast<int64_t>(items->size());
  const auto clamp = [&](const V& v, int64_t fallback) {
    if (!v.is_integral()) return fallback;
    const int64_t at = v.as_integer();
    return std::clamp<int64_t>(at < 0 && at >= -size ? at + size : at, 0, size);
  };
  for (int64_t i = clamp(a[1], 0); i < clamp(a[2], size); ++i) {
    TRY_ASSIGN(const bool same, m.equal((*items)[static_cast<size_t>(i)], a[0]));
    if (same) return integer(i, false);
  }
  if (self.is(Kind::kTuple)) return bad_data("tuple.index(x): x not in tuple");
  TRY_ASSIGN(const Text shown, m.repr(a[0]));
  return bad_data("{} is not in {}", shown.bytes, type_name(self));
}

Result<V> count_of(Machine& m, const V& self, const Bound& a) {
  TRY_ASSIGN(const std::vector<V>* items, m.items_of(self));
  int64_t n = 0;
  for (const V& v : *items) {
    TRY_ASSIGN(const bool same, m.equal(v, a[0]));
    n += same;
  }
  return integer(n, false);
}

Result<V> cycler_next(Machine&, const V& self, const Bound&) {
  auto* cycler = self.as<Cycler>();
  const V v = cycler->items[cycler->position];
  cycler->position = (cycler->position + 1) % cycler->items.size();
  return v;
}

Result<V> cycler_reset(Machine&, const V& self, const Bound&) {
  self.as<Cycler>()->position = 0;
  return none();
}

Result<V> bit_length(Machine&, const V& self, const Bound&) {
  const int64_t v = self.as_integer();
  const uint64_t magnitude = v < 0 ? 0 - static_cast<uint64_t>(v) : static_cast<uint64_t>(v);
  return integer(std::bit_width(magnitude), self.trusted);
}

Result<V> is_whole(Machine&, const V& self, const Bound&) {
  return boolean(std::isfinite(self.number) && self.number == std::floor(self.number));
}

constexpr Row kRows[] = {
    {Kind::kDict, "items", "", 0, view<DictView::What::kItems>},
    {Kind::kDict, "keys", "", 0, view<DictView::What::kKeys>},
    {Kind::kDict, "values", "", 0, view<DictView::What::kValues>},
    {Kind::kDict, "get", "key,default", 1, get},
    {Kind::kDict, "copy", "", 0, copy},
    {Kind::kList, "copy", "", 0, copy},
    {Kind::kList, "index", "value,start,stop", 1, index_of},
    {Kind::kList, "count", "value", 1, count_of},
    {Kind::kTuple, "index", "value,start,stop", 1, index_of},
    {Kind::kTuple, "count", "value", 1, count_of},
    {Kind::kRange, "index", "value", 1, index_of},
    {Kind::kRange, "count", "value", 1, count_of},
    {Kind::kCycler, "next", "", 0, cycler_next},
    {Kind::kCycler, "reset", "", 0, cycler_reset},
    {Kind::kInt, "bit_length", "", 0, bit_length},
    {Kind::kBool, "bit_length", "", 0, bit_length},
    {Kind::kFloat, "is_integer", "", 0, is_whole},
    {Kind::kLoop, "cycle", "", 0, nullptr},
    {Kind::kLoop, "changed", "", 0, nullptr},
};

Result<V> loop_method(Machine& m, Loop& loop, std::string_view name, const Args& args) {
  const auto index0 = std::min(loop.next, loop.items->size()) - 1;
  if (name == "cycle") {
    if (args.positional.empty()) return bad_data("no items for cycling given");
    return args.positional[index0 % args.positional.size()];
  }
  const V values = m.tuple({args.positional.begin(), args.positional.end()});
  if (!loop.last_changed.missing()) {
    TRY_ASSIGN(const bool same, m.equal(loop.last_changed, values));
    if (same) return boolean(false);
  }
  loop.last_changed = values;
  return boolean(true);
}

// What CPython's methods say about their arguments, in the several ways they say it.
Status check_positional(const char* type, std::string_view name, const char* parameters, size_t required,
                        const Args& args) {
  if (!args.named.empty()) return bad_data("{}.{}() takes no keyword arguments", type, name);
  size_t most = parameters[0] == '\0' ? 0 : 1;
  for (const char* c = parameters; *c != '\0'; ++c) most += *c == ',';
  const size_t given = args.positional.size();
  if (given >= required && given <= most) return {};
  if (most == 0) return bad_data("{}.{}() takes no arguments ({} given)", type, name, given);
  if (most == required && most == 1)
    return bad_data("{}.{}() takes exactly one argument ({} given)", type, name, given);
  const char* bound = given < required ? "least" : "most";
  const size_t limit = given < required ? required : most;
  if (std::string_view(parameters).ends_with(",start,end")) {
    return bad_data("{}() takes at {} {} argument{} ({} given)", name, bound, limit, limit == 1 ? "" : "s", given);
  }
  return bad_data("{} expected at {} {} argument{}, got {}", name, bound, limit, limit == 1 ? "" : "s", given);
}

Result<V> call_string_method(Machine& m, const V& self, const StringMethod& method, const Args& args) {
  const std::string_view name = method.name;
  if (name == "format") return m.brace_format(self, args);
  if (!method.keywords) TRY(check_positional("str", name, method.parameters, method.required, args));
  if (name == "format_map") {
    const V& mapping = args.positional[0];
    if (!mapping.is(Kind::kDict)) return bad_data("'{}' object is not subscriptable", type_name(mapping));
    std::vector<std::pair<V, V>> named;
    for (const auto& item : mapping.as<Dict>()->items) {
      if (item.first.is(Kind::kString)) named.push_back(item);
    }
    m.work(named.size());
    return m.brace_format(self, {{}, named});
  }
  const Signature signature{method.name, method.parameters, method.required};
  TRY_ASSIGN(const Bound bound, bind(signature, args));
  return method.call(m, self, bound);
}

}  // namespace

int find_method(Kind kind, std::string_view name) {
  if (kind == Kind::kString) {
    const auto methods = string_methods();
    for (size_t i = 0; i < methods.size(); ++i) {
      if (methods[i].name == name) return static_cast<int>(i);
    }
    return -1;
  }
  for (size_t i = 0; i < std::size(kRows); ++i) {
    if (kRows[i].kind == kind && kRows[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

Result<V> call_method(Machine& m, const Method& method, const Args& args) {
  const auto index = static_cast<size_t>(method.index);
  if (method.self.is(Kind::kString)) return call_string_method(m, method.self, string_methods()[index], args);
  const Row& row = kRows[index];
  if (row.call == nullptr) return loop_method(m, *method.self.as<Loop>(), row.name, args);
  TRY(check_positional(type_name(method.self), row.name, row.parameters, row.required, args));
  const Signature signature{row.name, row.parameters, row.required};
  TRY_ASSIGN(const Bound bound, bind(signature, args));
  return row.call(m, method.self, bound);
}

}  // namespace ll::jinja
